-- The event catalog and API versions: what is registered, what dispatch then refuses, and as whom the functions run.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
CREATE FUNCTION receivers(event uuid) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(e.description, ' ' ORDER BY e.endpoint_id), 'none')
	FROM webhooks.queue q JOIN webhooks.endpoints e USING (endpoint_id) WHERE q.event_id = event
$$;
CREATE SCHEMA app;
CREATE FUNCTION app.positive(event_type text, payload jsonb) RETURNS boolean LANGUAGE sql RETURN (payload->>'amount')::numeric > 0;
CREATE FUNCTION app.loud(event_type text, payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF payload ? 'bad' THEN
		RAISE EXCEPTION 'bad % in %', payload->>'bad', event_type USING ERRCODE = 'WH001';
	END IF;
END
$$;

-- Event types: what is kept, and what registering again changes
SELECT webhooks.register_event_type('order.paid', 'an order was paid', '{"amount": 1}', 'app.positive(text,jsonb)');
SELECT webhooks.register_event_type('order.plain');
SELECT name, description, example, validator, retired_at IS NULL, created_at = now() FROM webhooks.event_types ORDER BY name;
SELECT webhooks.retire_event_type('order.plain');
SELECT name, retired_at = now() FROM webhooks.event_types WHERE name = 'order.plain';
SELECT webhooks.register_event_type('order.plain', 'again');
SELECT name, description, retired_at FROM webhooks.event_types WHERE name = 'order.plain';

-- What is refused
CREATE PROCEDURE app.procedure(event_type text, payload jsonb) LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION app.one(payload jsonb) RETURNS boolean LANGUAGE sql RETURN true;
CREATE FUNCTION app.swapped(payload jsonb, event_type text) RETURNS boolean LANGUAGE sql RETURN true;
CREATE FUNCTION app.plain_json(event_type text, payload json) RETURNS boolean LANGUAGE sql RETURN true;
CREATE FUNCTION app.number(event_type text, payload jsonb) RETURNS integer LANGUAGE sql RETURN 1;
CREATE FUNCTION app.many(event_type text, payload jsonb) RETURNS SETOF boolean LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION pg_temp.temporary(event_type text, payload jsonb) RETURNS boolean LANGUAGE sql RETURN true;
SELECT c, regexp_replace(tried('SELECT webhooks.register_event_type(' || c || ')'), 'pg_temp_[0-9]+', 'pg_temp_N') FROM unnest(ARRAY[
	'NULL', $$''$$, $$'a b'$$, $$'order.*'$$, $$'webhooks.ping'$$,
	$$'x', validator => 'app.procedure(text,jsonb)'$$, $$'x', validator => 'app.one(jsonb)'$$, $$'x', validator => 'app.swapped(jsonb,text)'$$,
	$$'x', validator => 'app.plain_json(text,json)'$$, $$'x', validator => 'app.number(text,jsonb)'$$, $$'x', validator => 'app.many(text,jsonb)'$$,
	$$'x', validator => 'pg_temp.temporary(text,jsonb)'$$, $$'x', validator => 4294967295$$
]) c;
SELECT tried('SELECT webhooks.retire_event_type(NULL)'), tried('SELECT webhooks.retire_event_type(''unknown'')');
SELECT count(*) FROM webhooks.event_types;

-- An open catalog takes every type; a validator is asked all the same.
SELECT tried($$SELECT webhooks.dispatch('order.any', '{}')$$), tried($$SELECT webhooks.dispatch('order.paid', '{"amount": 1}')$$);
SELECT p, tried(format('SELECT webhooks.dispatch(''order.paid'', %L)', p)) FROM unnest(ARRAY['{"amount": 0}', '{}', 'null', '{"amount": "x"}']) p;
SELECT webhooks.register_event_type('order.loud', validator => 'app.loud(text,jsonb)');
SELECT tried($$SELECT webhooks.dispatch('order.loud', '{}')$$), tried($$SELECT webhooks.dispatch('order.loud', '{"bad": 7}')$$);
-- a raw body that is no JSON cannot be judged
SELECT b, t, tried(format('SELECT webhooks.dispatch_raw(''order.paid'', convert_to(%L, ''UTF8''), %L)', b, t)) FROM (VALUES
	('{"amount": 1}', 'application/json'), ('{"amount": 0}', 'application/json'), ('{"amount": 1', 'application/json'), ('{"amount": 1}', 'text/plain')) v(b, t);
SELECT event_type, payload, body FROM webhooks.events ORDER BY event_id;

-- An enforced one takes those that are registered and not retired.
ALTER SYSTEM SET webhooks.event_catalog = 'enforced';
SELECT pg_reload_conf();
\c -
SELECT webhooks.retire_event_type('order.plain');
SELECT t, tried(format('SELECT webhooks.dispatch(%L, ''{"amount": 1}'')', t)) FROM unnest('{order.paid,order.plain,order.any,order.loud,webhooks.ping}'::text[]) t;
SELECT tried($$SELECT webhooks.dispatch_raw('order.any', '\x31')$$);
SELECT webhooks.register_event_type('order.plain');
SELECT tried($$SELECT webhooks.dispatch('order.plain', '{}')$$);
-- within the transaction, and no longer when it is rolled back
BEGIN;
SELECT webhooks.register_event_type('order.new');
SELECT tried($$SELECT webhooks.dispatch('order.new', '{}')$$);
ROLLBACK;
SELECT tried($$SELECT webhooks.dispatch('order.new', '{}')$$);
DELETE FROM webhooks.event_types WHERE name = 'order.plain';
SELECT tried($$SELECT webhooks.dispatch('order.plain', '{}')$$);
-- a table that cannot be read allows nothing
ALTER TABLE webhooks.event_types RENAME TO gone;
SELECT tried($$SELECT webhooks.dispatch('order.paid', '{"amount": 1}')$$);
ALTER TABLE webhooks.gone RENAME TO event_types;
SELECT tried($$SELECT webhooks.dispatch('order.paid', '{"amount": 1}')$$);
BEGIN;
TRUNCATE webhooks.event_types;
SELECT tried($$SELECT webhooks.dispatch('order.paid', '{"amount": 1}')$$);
ROLLBACK;
ALTER SYSTEM RESET webhooks.event_catalog;
SELECT pg_reload_conf();
\c -
ALTER SYSTEM SET webhooks.event_catalog = 'shut';

-- API versions
CREATE FUNCTION app.v1(event_type text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO app.calls VALUES ('v1', event_type, payload, current_user);
	RETURN CASE
		WHEN payload ? 'null' THEN NULL
		WHEN payload ? 'big' THEN to_jsonb(repeat('x', 300000))
		WHEN payload ? 'scalar' THEN '7'
		ELSE jsonb_build_object('v1', payload) END;
END
$$;
CREATE FUNCTION app.v2(event_type text, payload jsonb) RETURNS jsonb LANGUAGE sql RETURN jsonb_build_array(event_type, payload);
CREATE TABLE app.calls (version text, event_type text, payload jsonb, role text);
SELECT c, tried('SELECT webhooks.register_api_version(' || c || ')') FROM unnest(ARRAY[
	$$NULL, 'app.v1(text,jsonb)'$$, $$'', 'app.v1(text,jsonb)'$$, $$'a"b', 'app.v1(text,jsonb)'$$, $$'a b', 'app.v1(text,jsonb)'$$,
	$$repeat('x', 65), 'app.v1(text,jsonb)'$$, $$'v1', NULL$$, $$'v1', 'app.positive(text,jsonb)'$$, $$'v1', 'app.one(jsonb)'$$
]) c;
SELECT webhooks.register_api_version('v1', 'app.v2(text,jsonb)'), webhooks.register_api_version('v1', 'app.v1(text,jsonb)'), webhooks.register_api_version('2026-11-27', 'app.v2(text,jsonb)');
SELECT version, transform FROM webhooks.api_versions ORDER BY version;
SELECT tried($$SELECT webhooks.register_endpoint('https://example.com/', api_version => 'v3')$$);
SELECT tried($$SELECT webhooks.register_endpoint('https://example.com/', api_version => '')$$);
SELECT count(webhooks.register_endpoint('https://example.com/' || n, '{v}', description => n::text, api_version => v))
FROM unnest('{v1,v1,2026-11-27,v1,NULL}'::text[]) WITH ORDINALITY u(v, n);
SELECT count(webhooks.register_endpoint('https://example.com/f', '{v}', description => 'filtered', api_version => 'v1', filter => '$.a == 1'));

-- once for each version, however many endpoints share it; filters see the payload as it was dispatched
SELECT webhooks.dispatch('v', '{"a": 1}') AS event \gset
SELECT payload, versions, receivers(event_id) FROM webhooks.events WHERE event_id = :'event';
SELECT version, event_type, payload FROM app.calls;
-- and only for those that get the event
TRUNCATE app.calls;
SELECT webhooks.dispatch('v', '{}', endpoint_ids => ARRAY[endpoint_id]) AS event FROM webhooks.endpoints WHERE description = '3' \gset
SELECT versions, receivers(event_id) FROM webhooks.events WHERE event_id = :'event';
SELECT webhooks.dispatch('v', '{}', endpoint_ids => ARRAY[endpoint_id]) AS event FROM webhooks.endpoints WHERE description = '5' \gset
SELECT versions, receivers(event_id) FROM webhooks.events WHERE event_id = :'event';
SELECT webhooks.dispatch_raw('v', '\x7b7d') AS event \gset
SELECT versions, receivers(event_id) FROM webhooks.events WHERE event_id = :'event';
SELECT count(*) FROM app.calls;
SELECT webhooks.dispatch('v', '{"scalar": 1}') AS event \gset
SELECT versions->'v1' FROM webhooks.events WHERE event_id = :'event';

-- What a transform does wrong ends the dispatch.
SELECT count(*) AS events_before FROM webhooks.events \gset
SELECT p, tried(format('SELECT webhooks.dispatch(''v'', %L)', p)) FROM unnest('{"{\"null\": 1}","{\"big\": 1}"}'::text[]) p;
ALTER FUNCTION app.v1 RENAME TO v9;
SELECT tried($$SELECT webhooks.dispatch('v', '{}')$$);
CREATE FUNCTION app.v1(event_type text, payload jsonb) RETURNS text LANGUAGE sql RETURN 'another';
SELECT tried($$SELECT webhooks.dispatch('v', '{}')$$);
DROP FUNCTION app.v1;
ALTER FUNCTION app.v9 RENAME TO v1;
DELETE FROM webhooks.api_versions WHERE version = '2026-11-27';
SELECT tried($$SELECT webhooks.dispatch('v', '{}')$$);
SELECT webhooks.register_api_version('2026-11-27', 'app.v2(text,jsonb)');
SELECT count(*) - :events_before FROM webhooks.events;

-- A function that dispatches itself, and changes endpoints while it is at it
CREATE FUNCTION app.busy(event_type text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM webhooks.disable_endpoint(endpoint_id) FROM webhooks.endpoints WHERE description = 'busy';
	PERFORM webhooks.enable_endpoint(endpoint_id) FROM webhooks.endpoints WHERE description = 'busy';
	PERFORM webhooks.dispatch('inner', payload);
	RETURN payload;
END
$$;
SELECT webhooks.register_api_version('busy', 'app.busy(text,jsonb)');
SELECT count(webhooks.register_endpoint('https://example.com/busy', '{busy}', description => 'busy', api_version => 'busy')) FROM generate_series(1, 3);
SELECT receivers(webhooks.dispatch('busy', '{}'));

-- They run as whoever dispatches, with that user's privileges.
CREATE ROLE wh_dispatcher;
CREATE ROLE wh_manager;
GRANT USAGE ON SCHEMA webhooks TO wh_dispatcher, wh_manager;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA webhooks TO wh_dispatcher, wh_manager;
TRUNCATE app.calls;
SET ROLE wh_dispatcher;
SELECT tried($$SELECT webhooks.dispatch('v', '{}')$$);
RESET ROLE;
GRANT USAGE ON SCHEMA app TO wh_dispatcher;
GRANT INSERT ON app.calls TO wh_dispatcher;
SET ROLE wh_dispatcher;
SELECT tried($$SELECT webhooks.dispatch('v', '{}')$$);
RESET ROLE;
SELECT version, role FROM app.calls;
REVOKE EXECUTE ON FUNCTION app.v1, app.positive FROM PUBLIC;
SET ROLE wh_dispatcher;
SELECT tried($$SELECT webhooks.dispatch('v', '{}')$$), tried($$SELECT webhooks.dispatch('order.paid', '{"amount": 1}')$$);
RESET ROLE;
-- who registers one needs EXECUTE on it, and no privilege on the tables
SET ROLE wh_manager;
SELECT tried($$SELECT webhooks.register_api_version('mine', 'app.v1(text,jsonb)')$$);
RESET ROLE;
SELECT 'app.v1(text,jsonb)'::regprocedure::oid AS v1, 'app.v2(text,jsonb)'::regprocedure::oid AS v2, 'app.positive(text,jsonb)'::regprocedure::oid AS positive \gset
SET ROLE wh_manager;
SELECT tried(format('SELECT webhooks.register_api_version(''mine'', %s)', :v1)), tried(format('SELECT webhooks.register_api_version(''mine'', %s)', :v2)),
	tried(format('SELECT webhooks.register_event_type(''mine'', validator => %s)', :positive)), tried('SELECT webhooks.register_event_type(''mine'')'),
	tried('SELECT webhooks.retire_event_type(''mine'')');
SELECT tried('SELECT count(*) FROM webhooks.event_types'), current_user;
RESET ROLE;

-- One tenant's session changes neither.
SET webhooks.tenant_id = 'acme';
SELECT tried('SELECT webhooks.register_event_type(''a'')'), tried('SELECT webhooks.retire_event_type(''mine'')'), tried('SELECT webhooks.register_api_version(''a'', ''app.v2(text,jsonb)'')');
RESET webhooks.tenant_id;
BEGIN READ ONLY;
SELECT tried('SELECT webhooks.register_event_type(''a'')');
ROLLBACK;

CALL leave_nothing();
DROP OWNED BY wh_dispatcher, wh_manager;
DROP ROLE wh_dispatcher, wh_manager;
\set VERBOSITY terse
SET client_min_messages = warning;
DROP SCHEMA app CASCADE;
DROP FUNCTION receivers(uuid);
