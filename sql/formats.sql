-- Raw bodies, their content types, and the headers of events: what is taken, what is stored, and what is refused.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
CREATE FUNCTION receivers(event uuid) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(e.description, ' ' ORDER BY e.endpoint_id), 'none')
	FROM webhooks.queue q JOIN webhooks.endpoints e USING (endpoint_id) WHERE q.event_id = event
$$;

SELECT f, tried(format('SELECT webhooks.register_endpoint(''https://example.com/'', ''{f}'', description => %L, payload_format => %L)', f, f))
FROM unnest('{standard,raw,cloudevents,NULL,"",Raw,json}'::text[]) f;
SELECT description, payload_format FROM webhooks.endpoints ORDER BY endpoint_id;

-- The very bytes are stored, and no payload.
SELECT webhooks.dispatch_raw('f', convert_to('{ "b":1,  "a" : 2.00 }', 'UTF8')) AS event \gset
SELECT convert_from(body, 'UTF8'), content_type, payload, versions, headers, tenant_id = '', occurred_at = created_at, receivers(event_id) FROM webhooks.events WHERE event_id = :'event';
SELECT webhooks.dispatch_raw('f', '\x00ff', 'application/octet-stream', ordering_key => 'k', occurred_at => '2026-01-01Z', deliver_at => '2030-01-01Z') AS event \gset
SELECT body, content_type, payload, ordering_key, occurred_at AT TIME ZONE 'UTC', receivers(event_id), (SELECT max(due_at) AT TIME ZONE 'UTC' FROM webhooks.queue WHERE event_id = :'event')
FROM webhooks.events WHERE event_id = :'event';
SELECT webhooks.dispatch_raw('f', '', 'text/plain', 'acme') AS event \gset
SELECT body, octet_length(body), content_type, tenant_id, receivers(event_id) FROM webhooks.events WHERE event_id = :'event';
SELECT event_type, url, state FROM webhooks.deliveries JOIN webhooks.events USING (event_id, event_type) WHERE body = '\x00ff' ORDER BY delivery_id;

-- What is refused
SELECT count(*) AS events_before FROM webhooks.events \gset
SELECT c, tried('SELECT webhooks.dispatch_raw(' || c || ')') FROM unnest(ARRAY[
	$$NULL, '\x00'$$, $$'a b', '\x00'$$, $$'webhooks.ping', '\x00'$$, $$'a', NULL$$, $$'a', '\x00', NULL$$,
	$$'a', '\x00', ''$$, $$'a', '\x00', 'json'$$, $$'a', '\x00', E'text/plain\r\nX-Evil: 1'$$, $$'a', '\x00', E'text/plain; a="\r\n"'$$,
	$$'a', '\x00', 'text/plain; a'$$, $$'a', '\x00', 'text/plain, text/html'$$, $$'a', '\x00', 'text/plain; a="ü"'$$, $$'a', '\x00', 'a/' || repeat('x', 254)$$,
	$$'a', '\x00', tenant_id => repeat('x', 256)$$, $$'a', '\x00', endpoint_ids => '{NULL}'$$, $$'a', '\x00', endpoint_ids => '{01a2074d-e9d4-73ca-b172-2a1a60dd4a1b}'$$,
	$$'a', '\x00', idempotency_key => ''$$, $$'a', '\x00', idempotency_key => repeat('x', 256)$$, $$'a', '\x00', ordering_key => ''$$, $$'a', '\x00', coalesce_key => ''$$,
	$$'a', '\x00', occurred_at => 'infinity'$$, $$'a', '\x00', deliver_at => 'infinity'$$, $$'a', '\x00', expires_at => '2020-01-01'$$, $$'a', '\x00', headers => '[]'$$
]) c;
SELECT n, tried(format('SELECT webhooks.dispatch_raw(''a'', convert_to(repeat(''x'', %s), ''UTF8''))', n)) FROM unnest('{262144,262145}'::integer[]) n;
SELECT tried($$SELECT webhooks.dispatch_raw('a', '\x00', 'a/' || repeat('x', 253))$$);
BEGIN READ ONLY;
SELECT tried($$SELECT webhooks.dispatch_raw('a', '\x00')$$);
ROLLBACK;
SELECT count(*) - :events_before FROM webhooks.events;

-- An event's headers, of dispatch and dispatch_raw alike
SELECT f, c, tried(format('SELECT webhooks.%s, headers => %s)', f, c))
FROM unnest(ARRAY[$$dispatch('h', '{}'$$, $$dispatch_raw('h', ''$$]) f, unnest(ARRAY[
	$$'{}'$$, $$'{"X-A": "1", "x-b": ""}'$$, $$'{"Authorization": "Bearer secret"}'$$,
	$$'[]'$$, $$'7'$$, $$'null'$$, $$'{"X A": "1"}'$$, $$'{"": "1"}'$$, $$'{"X-A": 1}'$$, $$'{"X-A": null}'$$, $$'{"X-A": "1", "x-a": "2"}'$$,
	$$'{"Host": "a"}'$$, $$'{"content-type": "a/b"}'$$, $$'{"Content-Length": "1"}'$$, $$'{"webhook-id": "1"}'$$, $$'{"authorization": "********"}'$$,
	$$jsonb_build_object('X-A', E'1\r\nX-B: 2')$$, $$jsonb_build_object('authorization', E'secret\n')$$, $$jsonb_build_object('X-A', repeat('x', 4097))$$
]) c;
SELECT event_type, headers, authorization_header IS NULL AS none, body IS NULL AS made FROM webhooks.events WHERE event_type = 'h' ORDER BY event_id;

-- "webhooks." is kept for the sender's own events.
SELECT t, tried(format('SELECT webhooks.dispatch(%L, ''{}'')', t)) FROM unnest('{webhooks.ping,webhooks.endpoint_disabled,webhooks,webhooksx.ping,Webhooks.ping}'::text[]) t;

CALL leave_nothing();
DROP FUNCTION receivers(uuid);
