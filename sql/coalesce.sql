-- coalesce_key: the latest of the deliveries not attempted yet replaces the others.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
ALTER SYSTEM SET webhooks.allowed_networks = '127.0.0.0/8';
SELECT pg_reload_conf();
\c -
SET jit = off;
-- The events, by the n of their payload, and how each of their deliveries stands.
CREATE FUNCTION stand() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT concat_ws(' ', ev.payload->>'n', d.tenant_id, ep.description, d.state, d.attempts,
		regexp_replace(CASE WHEN d.state = 'cancelled' THEN d.last_error END, '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', '<id>'))
	FROM webhooks.deliveries d JOIN webhooks.events ev USING (event_id) JOIN webhooks.endpoints ep USING (endpoint_id)
	ORDER BY (ev.payload->>'n')::int, ep.description
$$;
SELECT endpoint_id AS one FROM webhooks.register_endpoint('https://127.0.0.1:9/one', '{a}', description => 'one', retry_schedule => '{1 hour}') \gset
SELECT endpoint_id AS two FROM webhooks.register_endpoint('https://127.0.0.1:9/two', '{a,b}', description => 'two', retry_schedule => '{1 hour}') \gset
SELECT endpoint_id AS other FROM webhooks.register_endpoint('https://127.0.0.1:9/other', '{a}', description => 'other', tenant_id => 'T') \gset

-- What it refuses.
SELECT tried('SELECT webhooks.dispatch(''a'', ''{}'', coalesce_key => '''')'), tried(format('SELECT webhooks.dispatch(''a'', ''{}'', coalesce_key => %L)', repeat('x', 256)));
SELECT tried(format('SELECT webhooks.dispatch(''nobody'', ''{}'', coalesce_key => %L)', repeat('x', 255)));

-- Another key, another endpoint, another tenant and no key are left alone, whatever the event type.
SELECT count(webhooks.dispatch('a', '{"n": 1}', coalesce_key => 'k'));
SELECT count(webhooks.dispatch('a', '{"n": 2}', coalesce_key => 'K'));
SELECT count(webhooks.dispatch('a', '{"n": 3}', coalesce_key => 'k', tenant_id => 'T'));
SELECT count(webhooks.dispatch('a', '{"n": 4}'));
SELECT count(webhooks.dispatch('b', '{"n": 5}', coalesce_key => 'k'));
SELECT stand();
SELECT payload->>'n', coalesce_key FROM webhooks.queue JOIN webhooks.events USING (event_id) ORDER BY 1, endpoint_id;
-- what was replaced is told with its address and its successor
SELECT a.attempt, a.outcome, a.status_code, a.error_class, a.duration_ms, a.url, a.error = format('replaced by event %s, which has the same coalesce_key', b.event_id)
FROM webhooks.attempts a, webhooks.events b WHERE b.payload->>'n' = '5';
SELECT count(webhooks.dispatch('a', '{"n": 6}', coalesce_key => 'k'));
SELECT stand();

-- A rollback brings it back.
BEGIN;
SELECT count(webhooks.dispatch('a', '{"n": 7}', coalesce_key => 'k'));
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT count(webhooks.dispatch('a', '{"n": 7}', coalesce_key => 'k'));
ROLLBACK TO s;
COMMIT;
SELECT stand();

-- In one transaction, and in one statement.
BEGIN;
SELECT count(webhooks.dispatch('b', '{"n": 8}', coalesce_key => 'tx'));
SELECT count(webhooks.dispatch('b', '{"n": 9}', coalesce_key => 'tx'));
SELECT count(webhooks.dispatch('b', jsonb_build_object('n', n), coalesce_key => 'tx')) FROM generate_series(10, 12) n;
COMMIT;
SELECT s FROM stand() s WHERE s ~ '^([89]|1[0-2]) ';
-- the newest is seen even by a transaction that sees nothing new
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(webhooks.dispatch('b', '{"n": 13}', coalesce_key => 'tx'));
COMMIT;
SELECT s FROM stand() s WHERE s ~ '^1[23] ';

-- One that was attempted is not replaced, one that is not due is.
CALL webhooks.deliver_due();
SELECT count(webhooks.dispatch('b', '{"n": 14}', coalesce_key => 'tx', deliver_at => now() + interval '1 hour'));
SELECT s FROM stand() s WHERE s ~ '^1[34] ';
SELECT count(webhooks.dispatch('b', '{"n": 15}', coalesce_key => 'tx'));
SELECT s FROM stand() s WHERE s ~ '^1[345] ';

-- A replayed one is not replaced: somebody asked for it.
SELECT count(webhooks.replay_delivery(delivery_id)) FROM webhooks.queue JOIN webhooks.events USING (event_id) WHERE payload->>'n' = '15';
SELECT count(webhooks.dispatch('b', '{"n": 16}', coalesce_key => 'tx'));
SELECT s FROM stand() s WHERE s ~ '^1[56] ';

-- Held deliveries are replaced; an ordered endpoint's new one stands at the end.
SELECT endpoint_id AS lane FROM webhooks.register_endpoint('https://127.0.0.1:9/lane', '{lane}', description => 'lane', ordering => 'endpoint') \gset
SELECT webhooks.pause_endpoint(:'lane');
SELECT count(webhooks.dispatch('lane', jsonb_build_object('n', n), coalesce_key => CASE WHEN n <> 21 THEN 'lane' END)) FROM generate_series(20, 22) n;
SELECT payload->>'n', lane FROM webhooks.queue JOIN webhooks.events USING (event_id) WHERE endpoint_id = :'lane' ORDER BY delivery_id;

-- A role that may only dispatch replaces too, and no operator of its own makes a difference.
CREATE ROLE regress_webhooks_coalesce;
GRANT USAGE ON SCHEMA webhooks TO regress_webhooks_coalesce;
GRANT EXECUTE ON FUNCTION webhooks.dispatch TO regress_webhooks_coalesce;
SET ROLE regress_webhooks_coalesce;
SELECT count(webhooks.dispatch('b', '{"n": 17}', coalesce_key => 'tx'));
RESET ROLE;
SELECT s FROM stand() s WHERE s ~ '^1[67] ';
DROP OWNED BY regress_webhooks_coalesce;
DROP ROLE regress_webhooks_coalesce;
ALTER SYSTEM RESET webhooks.allowed_networks;
SELECT pg_reload_conf();

CALL leave_nothing();
DROP FUNCTION stand();
