-- Which event types are taken, and which endpoints a type goes to: patterns end at a dot.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
CREATE FUNCTION receivers(event_type text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	event uuid := webhooks.dispatch(event_type, '{}');
BEGIN
	RETURN (SELECT coalesce(string_agg(e.description, '  ' ORDER BY e.endpoint_id), 'none')
		FROM webhooks.queue q JOIN webhooks.endpoints e USING (endpoint_id) WHERE q.event_id = event);
END
$$;

SELECT count(webhooks.register_endpoint('https://example.com/', patterns, description => patterns::text)) FROM unnest(ARRAY[
	'{*}', '{order.*}', '{order}', '{order.paid}', '{order.line.*}', '{order.paid,order.*,*}', '{webhooks.*}', '{webhooks.endpoint_disabled}'
]) WITH ORDINALITY p(text, n), LATERAL (SELECT text::text[]) c(patterns);

SELECT t, receivers(t) FROM unnest(ARRAY[
	'order', 'order.paid', 'order.line', 'order.line.added', 'order.line.a.b.c', 'order.lines', 'order.lines.added', 'order.paid.late', 'orders', 'orders.paid',
	'orde', 'Order.paid', 'reorder.paid', 'a.order.paid', 'order-1.paid', 'order_paid', 'x',
	'webhooks', 'webhooksx.a'
]) t;

-- An endpoint is in the queue once, however many of its patterns match.
SELECT webhooks.dispatch('order.paid', '{}') AS event \gset
SELECT count(*), count(DISTINCT endpoint_id) FROM webhooks.queue WHERE event_id = :'event';

-- What an event type may be.
SELECT t, length(t), tried(format('SELECT webhooks.dispatch(%L, ''{}'')', t)) FROM unnest(ARRAY[
	'a', 'A-1_b.C', '0', '-', repeat('a', 128)
]) t;
SELECT to_json(left(t, 40)), to_json(split_part(tried(format('SELECT webhooks.dispatch(%L, ''{}'')', t)), ' | ', 1)) FROM unnest(ARRAY[
	'', '.', 'a.', '.a', 'a..b', '*', 'a.*', 'a b', 'a/b', 'a"b', E'a\nb', 'é', 'a,b', 'a:b', ' a', 'a ', repeat('a', 129), repeat('a.', 64) || 'a'
]) t;
SELECT tried('SELECT webhooks.dispatch(NULL, ''{}'')');

CALL leave_nothing();
DROP FUNCTION receivers(text);
