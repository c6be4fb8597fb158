-- idempotency_key: the second dispatch with a key is the first, per tenant, within the window.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
CREATE FUNCTION receivers(event uuid) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(e.description, ' ' ORDER BY e.endpoint_id), 'none')
	FROM webhooks.queue q JOIN webhooks.endpoints e USING (endpoint_id) WHERE q.event_id = event
$$;

SELECT count(webhooks.register_endpoint('https://example.com/' || t, '{i}', tenant_id => t, description => t)) FROM unnest('{"",acme}'::text[]) t;
CREATE FUNCTION told(event uuid) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce((SELECT payload::text FROM webhooks.events WHERE event_id = event), 'none') || ' ' || (SELECT count(*) FROM webhooks.queue WHERE event_id = event)
$$;

SELECT webhooks.dispatch('i', '1', idempotency_key => 'k') AS first \gset
SELECT webhooks.dispatch('i', '1', idempotency_key => 'k') = :'first' AS same, webhooks.dispatch('other', '2', idempotency_key => 'k') = :'first' AS other_payload,
	webhooks.dispatch_raw('i', '\x33', idempotency_key => 'k') = :'first' AS raw, webhooks.dispatch('i', '1', 'acme', idempotency_key => 'k') = :'first' AS other_tenant,
	webhooks.dispatch('i', '1', idempotency_key => 'K') = :'first' AS other_key, webhooks.dispatch('i', '1') = :'first' AS no_key;
SELECT event_type, tenant_id, told(event_id) FROM webhooks.events ORDER BY event_id;
SELECT k.tenant_id, k.idempotency_key, e.payload, k.created_at = e.created_at FROM webhooks.idempotency_keys k JOIN webhooks.events e USING (event_id) ORDER BY 1, 2;

-- in one statement, and in one transaction
SELECT count(DISTINCT webhooks.dispatch('i', to_jsonb(n), idempotency_key => 'many' || n % 10)) FROM generate_series(1, 1000) n;
BEGIN;
SELECT webhooks.dispatch('i', '"a"', idempotency_key => 'undone') AS undone \gset
SAVEPOINT s;
SELECT webhooks.dispatch('i', '"b"', idempotency_key => 'undone') = :'undone' AS same, webhooks.dispatch('i', '"c"', idempotency_key => 'undone2') AS undone2 \gset
SELECT :'same';
ROLLBACK TO s;
SELECT webhooks.dispatch('i', '"d"', idempotency_key => 'undone2') = :'undone2';
ROLLBACK;
SELECT told(webhooks.dispatch('i', '"e"', idempotency_key => 'undone')), told(webhooks.dispatch('i', '"f"', idempotency_key => 'undone2'));

-- a refused dispatch uses up no key
SELECT tried($$SELECT webhooks.dispatch('i', '1', endpoint_ids => '{NULL}', idempotency_key => 'refused')$$);
SELECT told(webhooks.dispatch('i', '"g"', idempotency_key => 'refused'));

-- an event that is not stored has its key all the same
ALTER SYSTEM SET webhooks.store_unmatched = off;
SELECT pg_reload_conf();
\c -
SELECT webhooks.dispatch('nobody', '1', idempotency_key => 'nobody') = webhooks.dispatch('nobody', '1', idempotency_key => 'nobody');
ALTER SYSTEM RESET webhooks.store_unmatched;

-- After the window the key is free again; maintain() cleans up.
UPDATE webhooks.idempotency_keys SET created_at = now() - interval '23 hours 59 minutes' WHERE idempotency_key = 'K';
UPDATE webhooks.idempotency_keys SET created_at = now() - interval '24 hours' WHERE idempotency_key = 'k' AND tenant_id = '';
SELECT told(webhooks.dispatch('i', '"h"', idempotency_key => 'k')), told(webhooks.dispatch('i', '"i"', idempotency_key => 'K'));
SELECT told(webhooks.dispatch('i', '"j"', idempotency_key => 'k'));
UPDATE webhooks.idempotency_keys SET created_at = now() - interval '24 hours 1 second' WHERE idempotency_key LIKE 'many%' OR idempotency_key = 'K';
DO $$ BEGIN WHILE webhooks.maintain() IS NOT NULL LOOP END LOOP; END $$;
SELECT tenant_id, idempotency_key FROM webhooks.idempotency_keys ORDER BY 1, 2;
ALTER SYSTEM SET webhooks.idempotency_window = '0';
SELECT pg_reload_conf();
\c -
SELECT told(webhooks.dispatch('i', '"k"', idempotency_key => 'k')), told(webhooks.dispatch('i', '"l"', idempotency_key => 'k'));
ALTER SYSTEM SET webhooks.idempotency_window = 'soon';
ALTER SYSTEM RESET webhooks.idempotency_window;
SELECT pg_reload_conf();
\c -

-- The caller has no privilege on the table, and no say in what its operators are.
CREATE ROLE wh_dispatcher;
GRANT USAGE ON SCHEMA webhooks TO wh_dispatcher;
GRANT EXECUTE ON FUNCTION webhooks.dispatch TO wh_dispatcher;
CREATE SCHEMA evil;
GRANT USAGE ON SCHEMA evil TO wh_dispatcher;
CREATE FUNCTION evil.text_eq(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'run as %', current_user; END $$;
CREATE FUNCTION evil.time_cmp(timestamptz, timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'run as %', current_user; END $$;
CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.text_eq);
CREATE OPERATOR evil.<= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = evil.time_cmp);
CREATE OPERATOR evil.> (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = evil.time_cmp);
SET ROLE wh_dispatcher;
SELECT tried($$SELECT count(*) FROM webhooks.idempotency_keys$$);
SET search_path = evil, pg_catalog;
SELECT webhooks.dispatch('i', '"m"', idempotency_key => 'mine') IS NOT DISTINCT FROM webhooks.dispatch('i', '"n"', idempotency_key => 'mine'), current_user;
RESET search_path;
RESET ROLE;

CALL leave_nothing();
DROP OWNED BY wh_dispatcher;
DROP ROLE wh_dispatcher;
\set VERBOSITY terse
SET client_min_messages = warning;
DROP SCHEMA evil CASCADE;
DROP FUNCTION told(uuid);
DROP FUNCTION receivers(uuid);
