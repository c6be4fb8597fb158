-- Privileges: a role without grants can do nothing; one with USAGE and EXECUTE needs nothing of the tables.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
SELECT endpoint_id AS ep FROM webhooks.register_endpoint('https://localhost:9/', description => 'E') \gset
SELECT webhooks.dispatch('a', '{}') AS event \gset
CREATE ROLE regress_webhooks_nobody;
CREATE ROLE regress_webhooks_app;

-- PUBLIC has nothing: not the schema, not a relation, not a routine, the partitions made later included.
DO $$ BEGIN WHILE webhooks.maintain() IS NOT NULL LOOP END LOOP; END $$;
SELECT has_schema_privilege('regress_webhooks_nobody', 'webhooks', 'USAGE, CREATE');
SELECT relname FROM pg_class WHERE relnamespace = 'webhooks'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')
	AND (has_table_privilege('regress_webhooks_nobody', oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
		OR has_any_column_privilege('regress_webhooks_nobody', oid, 'SELECT, INSERT, UPDATE, REFERENCES'));
SELECT relname FROM pg_class WHERE relnamespace = 'webhooks'::regnamespace AND relkind = 'S' AND has_table_privilege('regress_webhooks_nobody', oid, 'SELECT, UPDATE');
SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'webhooks'::regnamespace AND has_function_privilege('regress_webhooks_nobody', oid, 'EXECUTE');
SELECT count(*) > 10 FROM pg_proc WHERE pronamespace = 'webhooks'::regnamespace;

-- Tried out.
CREATE TEMPORARY TABLE calls (n serial, call text);
GRANT SELECT ON calls TO PUBLIC;
INSERT INTO calls (call) SELECT replace(replace(c, '$ep', quote_literal(:'ep')), '$event', quote_literal(:'event')) FROM unnest(ARRAY[
	$$SELECT webhooks.register_endpoint('https://localhost:9/', '{none}')$$, $$SELECT webhooks.pause_endpoint($ep)$$, $$SELECT webhooks.resume_endpoint($ep)$$,
	$$SELECT webhooks.disable_endpoint($ep)$$, $$SELECT webhooks.enable_endpoint($ep)$$, $$SELECT webhooks.rotate_secret($ep)$$,
	$$SELECT webhooks.check_url('https://example.com/')$$, $$SELECT webhooks.dispatch('a', '{}')$$, $$SELECT webhooks.dispatch_status($event)$$,
	$$SELECT webhooks.replay_delivery(delivery_id) FROM (SELECT gen_random_uuid()) d(delivery_id)$$, $$SELECT webhooks.replay_failed($ep, '-infinity')$$,
	$$SELECT webhooks.replay_event($event)$$, $$SELECT webhooks.cancel_event($event)$$, $$SELECT webhooks.cancel_delivery(gen_random_uuid())$$,
	$$SELECT webhooks.dispatch_to_urls('a', '{}', '{https://localhost:9/}')$$, $$SELECT webhooks.add_signing_key('k', 'whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=')$$, $$SELECT webhooks.retire_signing_key('k')$$, $$SELECT count(*) FROM webhooks.signing_keys$$,
	$$SELECT webhooks.discard_dead_letter(gen_random_uuid())$$, $$SELECT webhooks.wait_until_idle('0')$$, $$SELECT webhooks.maintain()$$,
	$$SELECT count(*) FROM webhooks.in_flight()$$,
	$$SELECT count(*) FROM webhooks.endpoints$$, $$SELECT count(*) FROM webhooks.endpoint_secrets$$, $$SELECT count(*) FROM webhooks.events$$,
	$$SELECT count(*) FROM webhooks.queue$$, $$SELECT count(*) FROM webhooks.attempts$$, $$SELECT count(*) FROM webhooks.dead_letters$$,
	$$SELECT count(*) FROM webhooks.deliveries$$, $$SELECT count(*) FROM webhooks.delivery_log$$, $$SELECT count(*) FROM webhooks.in_flight$$
]) c;
CREATE FUNCTION tried_all() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT CASE WHEN count(DISTINCT said) = 1 THEN 'all: ' || min(said) ELSE string_agg(call || ': ' || said, E'\n' ORDER BY n) END
	FROM (SELECT n, regexp_replace(call, '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', '<id>', 'g') AS call, tried(call) AS said FROM calls ORDER BY n) t
$$;
GRANT EXECUTE ON FUNCTION tried_all() TO PUBLIC;
SET ROLE regress_webhooks_nobody;
SELECT tried_all();
CALL webhooks.deliver_due();
-- the schema alone does not help
RESET ROLE;
GRANT USAGE ON SCHEMA webhooks TO regress_webhooks_nobody;
SET ROLE regress_webhooks_nobody;
SELECT tried_all();
CALL webhooks.deliver_due();
RESET ROLE;

-- dispatch alone: it writes events and queue, which the role itself cannot.
GRANT USAGE ON SCHEMA webhooks TO regress_webhooks_app;
GRANT EXECUTE ON FUNCTION webhooks.dispatch TO regress_webhooks_app;
SET ROLE regress_webhooks_app;
SELECT webhooks.dispatch('by.app', '{"n": 1}') AS event \gset
SELECT tried(format('SELECT webhooks.dispatch(''by.app'', ''{}'', endpoint_ids => ARRAY[%L]::uuid[])', :'ep'));
SELECT tried(format('SELECT webhooks.dispatch_status(%L)', :'event'));
SELECT tried('INSERT INTO webhooks.queue VALUES (gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), now())');
SELECT tried('DELETE FROM webhooks.events');
-- whatever the search_path
SET search_path = '';
SELECT webhooks.dispatch('by.app', '{}') IS NOT NULL;
RESET search_path;
RESET ROLE;
SELECT event_type, payload, count(delivery_id) FROM webhooks.events JOIN webhooks.queue USING (event_id) WHERE event_id = :'event' GROUP BY 1, 2;

-- The functions that are the owner's hands need EXECUTE alone as well.
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA webhooks TO regress_webhooks_app;
SET ROLE regress_webhooks_app;
SELECT tried_all();
CALL webhooks.deliver_due();
SELECT state, error_class FROM webhooks.dispatch_status(:'event');
RESET ROLE;

-- A view shows to whom may read what it reads, and to nobody else.
GRANT SELECT ON webhooks.deliveries, webhooks.delivery_log TO regress_webhooks_nobody;
SET ROLE regress_webhooks_nobody;
SELECT count(*) FROM webhooks.delivery_log;
SELECT count(*) FROM webhooks.deliveries;
RESET ROLE;
GRANT SELECT ON webhooks.endpoints, webhooks.events, webhooks.queue, webhooks.attempts, webhooks.dead_letters, webhooks.in_flight TO regress_webhooks_nobody;
GRANT EXECUTE ON FUNCTION webhooks.in_flight() TO regress_webhooks_nobody;
SET ROLE regress_webhooks_nobody;
SELECT count(*) > 0 FROM webhooks.delivery_log;
SELECT count(*) > 0 FROM webhooks.deliveries;
SELECT tried('SELECT secret FROM webhooks.endpoint_secrets');
RESET ROLE;

-- The functions that run as the owner fix their search_path, and none of them can be had by a name elsewhere.
SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'webhooks'::regnamespace AND prosecdef
	AND NOT coalesce(proconfig @> ARRAY['search_path=pg_catalog, pg_temp'], false);

CALL leave_nothing();
DROP OWNED BY regress_webhooks_nobody, regress_webhooks_app;
DROP ROLE regress_webhooks_nobody, regress_webhooks_app;
DROP FUNCTION tried_all();
