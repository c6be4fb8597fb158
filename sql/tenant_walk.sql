-- From one tenant's session, every function, view and table there is: nothing of another tenant's is read or written, and what is another's
-- cannot be told from what is not there.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
CREATE ROLE regress_webhooks_a;
SELECT webhooks.grant_access('regress_webhooks_a', 'manage');
CREATE SCHEMA tests;
GRANT ALL ON SCHEMA tests TO regress_webhooks_a;

-- Tenant b has something of everything, all of it marked: endpoints, one of them ordered; a delivery that waits, one that ended and one that is dead.
SELECT endpoint_id AS endpoint FROM webhooks.register_endpoint('https://localhost:9/of-b', '{of.b,of-b.ended}', tenant_id => 'b', ordering => 'key', retry_schedule => '{}',
	description => 'of-b', headers => '{"X-Of-B": "of-b"}', metadata => '{"is": "of-b"}') \gset
SELECT endpoint_id AS a FROM webhooks.register_endpoint('https://localhost:9/of-a', '{of.a}', tenant_id => 'a', retry_schedule => '{}') \gset
DO $$ BEGIN WHILE webhooks.maintain() IS NOT NULL LOOP END LOOP; END $$;
SELECT webhooks.dispatch('of.b', '{"is": "of-b"}', 'b') AS event_dead, webhooks.dispatch('of.a', '{"is": "of-a"}', 'a') AS event_a \gset
CALL webhooks.deliver_due();
SELECT delivery_id AS dead FROM webhooks.dead_letters WHERE tenant_id = 'b' \gset
SELECT webhooks.dispatch('of-b.ended', '{"is": "of-b"}', 'b') AS event_ended \gset
UPDATE webhooks.queue SET due_at = 'infinity' WHERE event_id = :'event_ended';
SELECT webhooks.dispatch('of.b', '{"is": "of-b"}', 'b', ordering_key => 'same') AS event, webhooks.dispatch('of.a', '{"is": "of-a"}', 'a', ordering_key => 'same') AS event_a2 \gset
SELECT delivery_id AS delivery FROM webhooks.queue WHERE event_id = :'event' \gset
SELECT delivery_id AS ended FROM webhooks.queue WHERE event_id = :'event_ended' \gset
WITH gone AS (DELETE FROM webhooks.queue WHERE delivery_id = :'ended' RETURNING *)
INSERT INTO webhooks.attempts (delivery_id, event_id, endpoint_id, tenant_id, url, attempt, attempted_at, duration_ms, outcome, status_code, response_body)
SELECT delivery_id, event_id, endpoint_id, 'b', 'https://localhost:9/of-b', 1, now(), 1, 'succeeded', 200, 'of-b' FROM gone;
-- as far as there are such things
DO $$
BEGIN
	IF EXISTS (SELECT FROM pg_proc WHERE pronamespace = 'webhooks'::regnamespace AND proname = 'add_signing_key') THEN
		EXECUTE $q$SELECT webhooks.add_signing_key('key-of-b', tenant_id => 'b')$q$;
	END IF;
END $$;

SELECT webhooks.add_source('key-of-b', 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', tenant_id => 'b');
SELECT is_new FROM webhooks.receive('key-of-b', jsonb_build_object('webhook-id', 'of-b', 'webhook-timestamp', floor(EXTRACT(epoch FROM now()))::bigint,
	'webhook-signature', webhooks.sign('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'of-b', now(), '{"is": "of-b"}')), '{"is": "of-b"}', 'b');

-- What is called. $x stands for an id of tenant b's, and in a second call for one that nobody has: both must come to the same.
CREATE TABLE tests.calls (name text, call text, refused text DEFAULT 'P0002');
INSERT INTO tests.calls (name, call) VALUES
	('dispatch', $$SELECT webhooks.dispatch('of.a', '{}', endpoint_ids => ARRAY[$endpoint]::uuid[])$$), ('dispatch_raw', $$SELECT webhooks.dispatch_raw('of.a', '', endpoint_ids => ARRAY[$endpoint]::uuid[])$$),
	('dispatch_status', 'SELECT webhooks.dispatch_status($event)'), ('dispatch_status', 'SELECT webhooks.dispatch_status($event_dead)'),
	('update_endpoint', $$SELECT webhooks.update_endpoint($endpoint, description => 'x')$$),
	('pause_endpoint', 'SELECT webhooks.pause_endpoint($endpoint)'), ('resume_endpoint', 'SELECT webhooks.resume_endpoint($endpoint)'),
	('disable_endpoint', 'SELECT webhooks.disable_endpoint($endpoint)'), ('enable_endpoint', 'SELECT webhooks.enable_endpoint($endpoint)'),
	('remove_endpoint', 'SELECT webhooks.remove_endpoint($endpoint)'), ('rotate_secret', 'SELECT webhooks.rotate_secret($endpoint)'),
	('public_key', 'SELECT webhooks.public_key($endpoint)'), ('ping_endpoint', 'SELECT webhooks.ping_endpoint($endpoint)'),
	('endpoint_stats', 'SELECT webhooks.endpoint_stats($endpoint)'), ('checked_endpoint', $$SELECT webhooks.checked_endpoint($endpoint, '1 day')$$),
	('cancel_event', 'SELECT webhooks.cancel_event($event)'), ('cancel_delivery', 'SELECT webhooks.cancel_delivery($delivery)'),
	('replay_delivery', 'SELECT webhooks.replay_delivery($delivery)'), ('replay_delivery', 'SELECT webhooks.replay_delivery($dead)'), ('replay_delivery', 'SELECT webhooks.replay_delivery($ended)'),
	('replay_event', 'SELECT webhooks.replay_event($event)'), ('replay_event', 'SELECT webhooks.replay_event($event_dead, $endpoint)'),
	('replay_failed', $$SELECT webhooks.replay_failed($endpoint, '-infinity')$$), ('discard_dead_letter', 'SELECT webhooks.discard_dead_letter($dead)'),
	('backfill', $$CALL webhooks.backfill('tests.calls', $endpoint)$$), ('retire_signing_key', 'SELECT webhooks.retire_signing_key($key)'),
	('receive', $$SELECT webhooks.receive($key, '{}', '')$$), ('reprocess', $$SELECT webhooks.reprocess($key, '-infinity')$$),
	('on_event', $$SELECT webhooks.on_event($key, '*', NULL)$$), ('remove_source', 'SELECT webhooks.remove_source($key)'),
	('rotate_source_secret', $$SELECT webhooks.rotate_source_secret($key, 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw')$$);
-- Naming the other tenant.
INSERT INTO tests.calls VALUES
	('dispatch', $$SELECT webhooks.dispatch('of.b', '{}', 'b')$$, '42501'), ('dispatch_raw', $$SELECT webhooks.dispatch_raw('of.b', '', tenant_id => 'b')$$, '42501'),
	('dispatch_to_urls', $$SELECT webhooks.dispatch_to_urls('of.b', '{}', '{https://localhost:9/}', tenant_id => 'b')$$, '42501'),
	('register_endpoint', $$SELECT webhooks.register_endpoint('https://localhost:9/', tenant_id => 'b')$$, '42501'),
	('add_signing_key', $$SELECT webhooks.add_signing_key('key', tenant_id => 'b')$$, '42501'), ('retire_signing_key', $$SELECT webhooks.retire_signing_key('key-of-b', 'b')$$, '42501'),
	('receive', $$SELECT webhooks.receive('key-of-b', '{}', '', tenant_id => 'b')$$, '42501'), ('reprocess', $$SELECT webhooks.reprocess('key-of-b', '-infinity', 'b')$$, '42501'),
	('on_event', $$SELECT webhooks.on_event('key-of-b', '*', NULL, 'b')$$, '42501'), ('remove_source', $$SELECT webhooks.remove_source('key-of-b', 'b')$$, '42501'),
	('add_source', $$SELECT webhooks.add_source('x', 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', tenant_id => 'b')$$, '42501'),
	('rotate_source_secret', $$SELECT webhooks.rotate_source_secret('key-of-b', 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', tenant_id => 'b')$$, '42501'),
	('deliver_due', 'CALL webhooks.deliver_due()', '42501');
-- What tells of everything a session may see. With a name that the other tenant uses, too, one gets one's own.
INSERT INTO tests.calls VALUES
	('dispatch', $$SELECT webhooks.dispatch('of.b', '{}')$$, ''), ('dispatch', $$SELECT webhooks.dispatch('of.b', '{}', ordering_key => 'same')$$, ''),
	('dispatch_to_urls', $$SELECT webhooks.dispatch_to_urls('of.b', '{}', '{https://localhost:9/}', signing_key_id => 'key-of-b')$$, ''),
	('add_signing_key', $$SELECT webhooks.add_signing_key('key-of-b')$$, ''), ('add_source', $$SELECT webhooks.add_source('key-of-b', 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw')$$, ''),
	 ('endpoint_stats', 'SELECT webhooks.endpoint_stats()', ''), ('health', 'SELECT webhooks.health()', ''), ('metrics', 'SELECT webhooks.metrics()', ''),
	('report_html', 'SELECT webhooks.report_html()', ''), ('in_flight', 'SELECT webhooks.in_flight()', ''), ('endpoint_breakers', 'SELECT webhooks.endpoint_breakers()', ''), ('processes', 'SELECT webhooks.processes()', ''),
	('wait_until_idle', $$SELECT webhooks.wait_until_idle('0') OR NOT EXISTS (SELECT FROM webhooks.queue)$$, '');
-- No tenant's: what is worked out from the arguments, and what all tenants share.
CREATE TABLE tests.no_tenants AS SELECT unnest('{check_url,exponential_backoff,sign,verify,register_event_type,retire_event_type,register_api_version,
	html,html_table,html_row,secrets_encrypted,emit_change,watch,unwatch}'::text[]) AS name;
-- Whoever adds a function adds its call, or says why it needs none.
SELECT name || ' is never called' FROM webhooks.access_levels()
WHERE kind = 'function' AND level <> 'owner' AND name NOT IN (SELECT name FROM tests.calls UNION SELECT name FROM tests.no_tenants);

CREATE TABLE tests.ids (name text, of_b text, of_nobody text);
INSERT INTO tests.ids VALUES ('$endpoint', :'endpoint'), ('$event', :'event'), ('$event_dead', :'event_dead'), ('$delivery', :'delivery'), ('$dead', :'dead'), ('$ended', :'ended');
UPDATE tests.ids SET of_nobody = overlay(of_b PLACING '00000000' FROM 29);
INSERT INTO tests.ids VALUES ('$key', 'key-of-b', 'key-of-n');
GRANT SELECT ON ALL TABLES IN SCHEMA tests TO regress_webhooks_a;

-- All of the tables, less what is tenant a's.
CREATE FUNCTION tests.fingerprint() RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
	c record;
	said text;
	result text := '';
BEGIN
	FOR c IN
		SELECT oid::regclass AS rel, EXISTS (SELECT FROM pg_attribute WHERE attrelid = oid AND attname = 'tenant_id') AS has_tenant,
			EXISTS (SELECT FROM pg_attribute WHERE attrelid = oid AND attname = 'endpoint_id') AS has_endpoint
		FROM pg_class WHERE relnamespace = 'webhooks'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY relname
	LOOP
		EXECUTE format('SELECT md5(string_agg(t::text, E''\n'' ORDER BY t::text)) FROM %s t WHERE %s', c.rel,
			CASE WHEN c.has_tenant THEN 't.tenant_id <> ''a''' WHEN c.has_endpoint THEN 'EXISTS (SELECT FROM webhooks.endpoints e WHERE e.endpoint_id = t.endpoint_id AND e.tenant_id <> ''a'')' ELSE 'true' END) INTO said;
		result := result || coalesce(said, '-');
	END LOOP;
	RETURN result;
END
$$;
-- All that a caller gets to see of a statement's end.
CREATE FUNCTION tests.outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	r record;
	result text := 'ok';
	said text;
	detail text;
	hint text;
	context text;
	object text;
BEGIN
	IF statement LIKE 'CALL%' THEN
		EXECUTE statement;
		RETURN result;
	END IF;
	FOR r IN EXECUTE statement LOOP
		result := result || r::text;
	END LOOP;
	RETURN result;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS said = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT, context = PG_EXCEPTION_CONTEXT, object = CONSTRAINT_NAME;
	RETURN concat_ws(' | ', SQLSTATE, said, detail, hint, context, object);
END
$$;
CREATE FUNCTION tests.fill(call text, nobody boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	id record;
BEGIN
	FOR id IN SELECT * FROM tests.ids ORDER BY length(name) DESC LOOP
		call := replace(call, id.name, quote_literal(CASE WHEN nobody THEN id.of_nobody ELSE id.of_b END));
	END LOOP;
	RETURN call;
END
$$;
CREATE FUNCTION tests.masked(said text) RETURNS text LANGUAGE sql AS $$
	SELECT regexp_replace(said, '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|key-of-[bn]', '<id>', 'g')
$$;
CREATE FUNCTION tests.tells_of_b(said text) RETURNS boolean LANGUAGE sql AS $$
	SELECT said ~ 'of-b|ended' OR EXISTS (SELECT FROM tests.ids WHERE position(of_b IN said) > 0)
$$;

-- The walk: each function that exists, and what is wrong with what came of it.
CREATE FUNCTION tests.walk() RETURNS TABLE (what text, wrong text, said text) LANGUAGE plpgsql AS $$
DECLARE
	c record;
	before constant text := tests.fingerprint();
	of_b text;
	of_nobody text;
BEGIN
	FOR c IN SELECT * FROM tests.calls WHERE EXISTS (SELECT FROM pg_proc WHERE pronamespace = 'webhooks'::regnamespace AND proname = name) LOOP
		what := c.call;
		SELECT tests.outcome(tests.fill(c.call, false)), tests.outcome(tests.fill(c.call, true)) INTO of_b, of_nobody;
		said := of_b || ' / ' || of_nobody;
		FOREACH wrong IN ARRAY ARRAY[
			CASE WHEN c.refused <> '' AND left(of_b, 5) <> c.refused THEN 'is not refused as it should be' END,
			CASE WHEN c.call LIKE '%$%' AND tests.masked(of_b) <> tests.masked(of_nobody) THEN 'tells that it exists' END,
			CASE WHEN c.call NOT LIKE '%$%' AND c.refused = '' AND tests.tells_of_b(replace(of_b, 'key-of-b', '')) THEN 'tells of the other' END,
			CASE WHEN tests.fingerprint() <> before THEN 'changes what is the other''s' END]
		LOOP
			CONTINUE WHEN wrong IS NULL;
			RETURN NEXT;
		END LOOP;
	END LOOP;
END
$$;
SET webhooks.tenant_id = 'a';
SET ROLE regress_webhooks_a;
SELECT * FROM tests.walk();
RESET ROLE;
-- the walk finds what there is to find: of tenant b's own session nearly every call is something to tell
SET webhooks.tenant_id = 'b';
BEGIN;
SELECT count(DISTINCT what) > 15, count(DISTINCT wrong) >= 3 FROM tests.walk();
ROLLBACK;

-- Tables and views: one's own rows and no others, whether read as an observer or, by whoever granted more than grant_access does, wholly; partitions, too.
CREATE FUNCTION tests.rows_seen() RETURNS TABLE (rel regclass, own boolean, others boolean) LANGUAGE plpgsql AS $$
DECLARE
	said text;
	columns text;
BEGIN
	FOR rel IN SELECT oid FROM pg_class WHERE relnamespace = 'webhooks'::regnamespace AND relkind IN ('r', 'p', 'v') AND has_any_column_privilege(oid, 'SELECT') ORDER BY relname COLLATE "C" LOOP
		SELECT string_agg(format('%I::text', attname), ', ') INTO columns FROM pg_attribute
		WHERE attrelid = rel AND attnum > 0 AND NOT attisdropped AND has_column_privilege(rel, attnum, 'SELECT');
		EXECUTE format('SELECT coalesce(string_agg(concat_ws('' '', %s), E''\n''), '''') FROM %s', columns, rel) INTO said;
		own := said <> '';
		others := tests.tells_of_b(said);
		RETURN NEXT;
	END LOOP;
END
$$;
SET webhooks.tenant_id = 'a';
-- one's own of the other's name
SELECT webhooks.remove_source('key-of-b');
SET ROLE regress_webhooks_a;
SELECT rel FROM tests.rows_seen() WHERE others;
SELECT count(*) FROM tests.rows_seen() WHERE own AND rel::text = ANY ('{webhooks.endpoints,webhooks.events,webhooks.queue,webhooks.attempts,webhooks.dead_letters,webhooks.deliveries,webhooks.delivery_log}');
SELECT url, count(*) FROM webhooks.deliveries GROUP BY url;
-- it is an error, not fewer rows, where the rule must not be applied
SET row_security = off;
SELECT count(*) FROM webhooks.queue;
RESET row_security;
RESET ROLE;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA webhooks TO regress_webhooks_a;
SET ROLE regress_webhooks_a;
SELECT rel FROM tests.rows_seen() WHERE others;
SELECT count(*) > 20, bool_or(own) FILTER (WHERE rel::text ~ '_secrets$'), count(*) FILTER (WHERE own AND rel::text ~ '_\d{8}$') FROM tests.rows_seen();
-- without a tenant one sees what one may read
RESET ROLE;
RESET webhooks.tenant_id;
SET ROLE regress_webhooks_a;
SELECT rel::text ~ '_\d{8}$', count(*) FROM tests.rows_seen() WHERE others AND rel::text ~ 'endpoints|events|queue|attempts|dead_letters|deliver' GROUP BY 1 ORDER BY 1;
RESET ROLE;

-- Nor are another's rows written by whoever may write.
CREATE FUNCTION tests.writes() RETURNS TABLE (rel regclass, wrong text, said text) LANGUAGE plpgsql AS $$
DECLARE
	before constant text := tests.fingerprint();
	command text;
BEGIN
	FOR rel, command IN
		SELECT a.attrelid, format(s, a.attrelid::regclass, a.attname)
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid, unnest(ARRAY['DELETE FROM %s', 'UPDATE %s SET %I = DEFAULT']) s
		WHERE c.relnamespace = 'webhooks'::regnamespace AND c.relkind IN ('r', 'p') AND a.attname IN ('tenant_id', 'due_at', 'secret')
	LOOP
		BEGIN
			said := tests.outcome(command);
			wrong := CASE WHEN tests.fingerprint() <> before THEN command END;
			IF wrong IS NOT NULL THEN
				RETURN NEXT;
			END IF;
			RAISE EXCEPTION USING ERRCODE = 'ZZ000';
		EXCEPTION WHEN SQLSTATE 'ZZ000' THEN
		END;
	END LOOP;
END
$$;
SET webhooks.tenant_id = 'a';
SET ROLE regress_webhooks_a;
SELECT * FROM tests.writes();
INSERT INTO webhooks.dead_letters (delivery_id, event_id, endpoint_id, tenant_id, reason, attempts, dead_at) SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'b', 'gone', 1, now();
INSERT INTO webhooks.queue (delivery_id, event_id, endpoint_id, due_at) SELECT gen_random_uuid(), :'event', :'endpoint', now();
RESET ROLE;
-- and no policy that somebody adds lets a tenant see more
CREATE POLICY all_of_it ON webhooks.dead_letters USING (true);
SET ROLE regress_webhooks_a;
SELECT tenant_id, count(*) FROM webhooks.dead_letters GROUP BY 1;
RESET ROLE;
DROP POLICY all_of_it ON webhooks.dead_letters;
RESET webhooks.tenant_id;

-- Every table has the rule, those of days to come included.
SELECT oid::regclass FROM pg_class WHERE relnamespace = 'webhooks'::regnamespace AND relkind IN ('r', 'p') AND NOT relrowsecurity;

CALL leave_nothing();
SET client_min_messages = warning;
DROP SCHEMA tests CASCADE;
DROP OWNED BY regress_webhooks_a;
DROP ROLE regress_webhooks_a;
