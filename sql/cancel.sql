-- cancel_event and cancel_delivery: what is queued is called off, and told as cancelled.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
ALTER SYSTEM SET webhooks.allowed_networks = '127.0.0.0/8';
SELECT pg_reload_conf();
\c -
CREATE FUNCTION stands(event uuid) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(concat_ws(' ', e.description, s.state, s.attempts), ', ' ORDER BY e.description)
	FROM webhooks.dispatch_status(event) s LEFT JOIN webhooks.endpoints e USING (endpoint_id)
$$;
SELECT endpoint_id AS a FROM webhooks.register_endpoint('https://127.0.0.1:9/a', description => 'a', retry_schedule => '{1 hour}') \gset
SELECT endpoint_id AS b FROM webhooks.register_endpoint('https://127.0.0.1:9/b', description => 'b', retry_schedule => '{}') \gset
SELECT endpoint_id AS lane FROM webhooks.register_endpoint('https://127.0.0.1:9/lane', '{lane}', tenant_id => 'T', description => 'lane', retry_schedule => '{1 hour}', ordering => 'endpoint') \gset

-- Pending ones, and one that waits for its retry; nothing is sent afterwards.
SELECT webhooks.dispatch('x', '1') AS e \gset
SELECT webhooks.dispatch('x', '2') AS other \gset
SELECT webhooks.cancel_event(:'e');
SELECT stands(:'e'), stands(:'other');
SELECT attempt, outcome, status_code, error_class, error, duration_ms, url, tenant_id = '', attempted_at BETWEEN now() - interval '1 minute' AND clock_timestamp()
FROM webhooks.attempts WHERE event_id = :'e' ORDER BY url;
CALL webhooks.deliver_due();
SELECT stands(:'e'), stands(:'other');
-- a dead letter is not queued, so it stays
SELECT webhooks.cancel_event(:'other');
SELECT stands(:'other');
SELECT attempt, outcome FROM webhooks.attempts WHERE event_id = :'other' AND endpoint_id = :'a' ORDER BY attempted_at;

-- Again: there is nothing.
SELECT webhooks.cancel_event(:'e'), webhooks.cancel_event(:'other');
SELECT webhooks.dispatch('nobody', '{}', 'nobody') AS nobody \gset
SELECT webhooks.cancel_event(:'nobody');

-- One delivery; rolled back, it is queued as before.
SELECT webhooks.dispatch('x', '3') AS e \gset
SELECT delivery_id AS d FROM webhooks.queue WHERE event_id = :'e' AND endpoint_id = :'a' \gset
BEGIN;
SELECT webhooks.cancel_delivery(:'d');
SELECT stands(:'e');
ROLLBACK;
SELECT stands(:'e');
SELECT webhooks.cancel_delivery(:'d');
SELECT stands(:'e');
SELECT webhooks.cancel_delivery(:'d');
CALL webhooks.deliver_due();
SELECT stands(:'e');
SELECT webhooks.cancel_delivery(delivery_id) FROM webhooks.dead_letters WHERE event_id = :'e';
-- it can be sent again even so
SELECT webhooks.replay_delivery(:'d') = :'d';
CALL webhooks.deliver_due();
SELECT stands(:'e');

-- In the transaction that dispatched it; and held ones.
BEGIN;
SELECT webhooks.dispatch('x', '4') AS e \gset
SELECT webhooks.cancel_event(:'e');
COMMIT;
SELECT stands(:'e');
SELECT webhooks.pause_endpoint(:'a');
SELECT webhooks.dispatch('x', '5') AS e \gset
SELECT stands(:'e');
SELECT webhooks.cancel_event(:'e');
SELECT stands(:'e');

-- A delivery that waits for its retry holds back those behind it; called off, it does not.
SELECT webhooks.dispatch('lane', '1', 'T') AS head \gset
SELECT webhooks.dispatch('lane', '2', 'T') AS next \gset
CALL webhooks.deliver_due();
SELECT stands(:'head'), stands(:'next');
SELECT webhooks.cancel_event(:'head');
CALL webhooks.deliver_due();
SELECT stands(:'head'), stands(:'next');

-- What does not exist, what is another tenant's, and NULL.
SELECT delivery_id AS d FROM webhooks.queue WHERE event_id = :'next' \gset
SELECT c, tried(format('SELECT webhooks.' || c, gen_random_uuid())) FROM unnest(ARRAY[
	'cancel_event(%L)', 'cancel_delivery(%L)', 'cancel_event(NULL)', 'cancel_delivery(NULL)']) c;
SET webhooks.tenant_id = 'other';
SELECT tried(format('SELECT webhooks.cancel_event(%L)', :'next')), tried(format('SELECT webhooks.cancel_delivery(%L)', :'d'));
SET webhooks.tenant_id = 'T';
SELECT webhooks.cancel_delivery(:'d'), webhooks.cancel_event(:'next');
RESET webhooks.tenant_id;
SELECT stands(:'next');
ALTER SYSTEM RESET webhooks.allowed_networks;
SELECT pg_reload_conf();

CALL leave_nothing();
DROP FUNCTION stands(uuid);
