-- What each argument of the functions about events, deliveries and the catalog refuses, and in which words: before anything is written.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
\set refusals :tree /test/lib/refusals.sql
\i :refusals
SELECT endpoint_id AS endpoint FROM webhooks.register_endpoint('https://example.com/', retry_schedule => '{}') \gset
SELECT endpoint_id AS other FROM webhooks.register_endpoint('https://example.com/', tenant_id => 'b') \gset
SELECT webhooks.dispatch('a', '{}') AS event, webhooks.dispatch('a', '{}', 'b') AS other_event \gset
SELECT delivery_id AS delivery FROM webhooks.queue WHERE event_id = :'event' \gset
SELECT delivery_id AS other_delivery FROM webhooks.queue WHERE event_id = :'other_event' \gset
INSERT INTO webhooks.dead_letters (delivery_id, event_id, endpoint_id, tenant_id, reason, attempts, dead_at)
SELECT delivery_id, event_id, endpoint_id, CASE WHEN event_id = :'event' THEN '' ELSE 'b' END, 'exhausted', 1, now() FROM webhooks.queue;
DELETE FROM webhooks.queue;
CREATE TABLE ids (name text, id uuid);
INSERT INTO ids VALUES ('endpoint', :'endpoint'), ('event', :'event'), ('delivery', :'delivery'),
	('other endpoint', :'other'), ('other event', :'other_event'), ('other delivery', :'other_delivery'), ('nobody', '00000000-0000-7000-8000-000000000000');
CREATE FUNCTION id(of_name text) RETURNS uuid LANGUAGE sql AS 'SELECT id FROM ids WHERE name = of_name';
SELECT count(webhooks.add_signing_key(k)) FROM unnest('{k,retired}'::text[]) k;
SELECT webhooks.retire_signing_key('retired');
SELECT webhooks.add_signing_key('of-b', tenant_id => 'b') IS NOT NULL;
CREATE SCHEMA app;
CREATE FUNCTION app.validator(text, jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION app.transform(text, jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $2';
CREATE FUNCTION app.one(text) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb';
CREATE FUNCTION app.a_set(text, jsonb) RETURNS SETOF jsonb LANGUAGE sql AS 'SELECT $2';
CREATE FUNCTION app.an_int(text, jsonb) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE PROCEDURE app.proc(text, jsonb) LANGUAGE sql AS 'SELECT 1';

-- What dispatch and dispatch_raw have in common, and partly dispatch_to_urls.
CREATE TABLE types (value text, n serial);
INSERT INTO types (value) VALUES ('NULL'), ($$''$$), ($$'a b'$$), ($$'a.*'$$), ($$'*'$$), ($$'.a'$$), ($$'a..b'$$), ($$E'a\n'$$), ($$' a'$$), ($$'é'$$), ($$'webhooks.ping'$$), ($$repeat('x', 129)$$);
CREATE TEMPORARY TABLE options (argument text, value text, n serial);
INSERT INTO options (argument, value) VALUES
	('tenant_id', $$repeat('x', 256)$$),
	('endpoint_ids', $$'{NULL}'$$), ('endpoint_ids', $$ARRAY[id('endpoint'), id('nobody')]$$), ('endpoint_ids', $$ARRAY[id('other endpoint')]$$),
	('endpoint_ids', $$ARRAY[ARRAY[id('endpoint')], ARRAY[id('endpoint')]]$$),
	('idempotency_key', $$''$$), ('idempotency_key', $$repeat('x', 256)$$),
	('ordering_key', $$''$$), ('ordering_key', $$repeat('x', 513)$$),
	('coalesce_key', $$''$$), ('coalesce_key', $$repeat('x', 256)$$),
	('occurred_at', $$'infinity'$$), ('occurred_at', $$'-infinity'$$), ('occurred_at', $$'10000-01-01 00:00+00'$$), ('occurred_at', $$'0001-12-31 23:59:59+00 BC'$$),
	('deliver_at', $$'infinity'$$), ('deliver_at', $$'-infinity'$$),
	('expires_at', $$'infinity'$$), ('expires_at', $$'-infinity'$$), ('expires_at', $$now() - interval '1 second'$$), ('expires_at', $$now() + interval '1 hour', deliver_at => now() + interval '1 hour'$$);
CREATE TEMPORARY TABLE headers (value text, n serial);
INSERT INTO headers (value) VALUES ($$'[]'$$), ($$'"x"'$$), ($$'null'$$), ($$'{"": "x"}'$$), ($$'{"X A": "x"}'$$), ($$jsonb_build_object(repeat('x', 257), 'x')$$), ($$'{"X-A": null}'$$), ($$'{"X-A": {}}'$$),
	($$'{"X-A": "x\r\nX-B: y"}'$$), ($$'{"X-A": "x\n"}'$$), ($$jsonb_build_object('X-A', repeat('x', 4097))$$), ($$'{"X-A": "x", "x-a": "y"}'$$), ($$'{"Content-Length": "1"}'$$), ($$'{"webhook-id": "x"}'$$),
	($$(SELECT jsonb_object_agg('x-' || i, '') FROM generate_series(1, 65) i)$$), ($$'{"Authorization": "********"}'$$);

INSERT INTO taken (call, argument, value) VALUES
	('dispatch', 'event_type', $$'a'$$), ('dispatch', 'payload', $$'{}'$$), ('dispatch_raw', 'event_type', $$'a'$$), ('dispatch_raw', 'body', $$'{}'$$),
	('dispatch_to_urls', 'event_type', $$'a'$$), ('dispatch_to_urls', 'payload', $$'{}'$$), ('dispatch_to_urls', 'targets', $$'{https://example.com/}'$$);
INSERT INTO refused (call, argument, value)
SELECT f, 'event_type', value FROM unnest('{dispatch,dispatch_raw,dispatch_to_urls}'::text[]) WITH ORDINALITY u(f, i), types ORDER BY i, n;
INSERT INTO refused (call, argument, value) VALUES
	('dispatch', 'payload', 'NULL'), ('dispatch', 'payload', $$to_jsonb(repeat('x', 262143))$$), ('dispatch', 'payload', $$'1e131071'::jsonb || (SELECT jsonb_agg(1) FROM generate_series(1, 70000))$$),
	('dispatch_raw', 'body', 'NULL'), ('dispatch_raw', 'body', $$repeat('x', 262145)::bytea$$),
	('dispatch_raw', 'content_type', 'NULL'), ('dispatch_raw', 'content_type', $$''$$), ('dispatch_raw', 'content_type', $$'json'$$), ('dispatch_raw', 'content_type', $$E'text/plain\r\nX-A: x'$$),
	('dispatch_raw', 'content_type', $$E'text/plain\n'$$), ('dispatch_raw', 'content_type', $$'text/' || repeat('x', 251)$$),
	('dispatch_to_urls', 'payload', 'NULL'), ('dispatch_to_urls', 'payload', $$to_jsonb(repeat('x', 262143))$$),
	('dispatch_to_urls', 'targets', 'NULL'), ('dispatch_to_urls', 'targets', $$'{}'$$), ('dispatch_to_urls', 'targets', $$'{NULL}'$$), ('dispatch_to_urls', 'targets', $$'{https://example.com/,""}'$$),
	('dispatch_to_urls', 'targets', $$'{https://example.com/,http://example.com/}'$$), ('dispatch_to_urls', 'targets', $$'{https://example.com/,https://example.com/a,https://10.0.0.1/}'$$),
	('dispatch_to_urls', 'targets', $$'{{https://example.com/},{https://example.com/a}}'$$), ('dispatch_to_urls', 'targets', $$array_fill('https://example.com/'::text, ARRAY[1001])$$),
	('dispatch_to_urls', 'headers', 'NULL'),
	('dispatch_to_urls', 'signing_key_id', $$''$$), ('dispatch_to_urls', 'signing_key_id', $$'none'$$), ('dispatch_to_urls', 'signing_key_id', $$'retired'$$), ('dispatch_to_urls', 'signing_key_id', $$'of-b'$$),
	('dispatch_to_urls', 'tenant_id', $$repeat('x', 256)$$),
	('dispatch_to_urls', 'retry_schedule', $$'{NULL}'$$), ('dispatch_to_urls', 'retry_schedule', $$'{-1s}'$$), ('dispatch_to_urls', 'retry_schedule', $$'{367 days}'$$),
	('dispatch_to_urls', 'retry_schedule', $$'{{1s},{2s}}'$$), ('dispatch_to_urls', 'retry_schedule', $$array_fill('1s'::interval, ARRAY[101])$$);
INSERT INTO refused (call, argument, value) SELECT f, argument, value FROM unnest('{dispatch,dispatch_raw}'::text[]) WITH ORDINALITY u(f, i), options ORDER BY i, n;
INSERT INTO refused (call, argument, value) SELECT f, 'headers', value FROM unnest('{dispatch,dispatch_raw,dispatch_to_urls}'::text[]) WITH ORDINALITY u(f, i), headers ORDER BY i, n;
SELECT refusals('dispatch', 'dispatch_raw', 'dispatch_to_urls');
-- the catalog's refusals come before a target is made of a URL
ALTER SYSTEM SET webhooks.event_catalog = 'enforced';
SELECT pg_reload_conf();
\c -
SELECT call, tried(statement(call, NULL, NULL), false) FROM unnest('{dispatch,dispatch_raw,dispatch_to_urls}'::text[]) call;
ALTER SYSTEM RESET webhooks.event_catalog;
SELECT pg_reload_conf();
\c -

INSERT INTO taken (call, argument, value) VALUES ('add_signing_key', 'key_id', $$'new'$$), ('retire_signing_key', 'key_id', $$'k'$$);
INSERT INTO refused (call, argument, value)
SELECT f, 'key_id', value FROM unnest('{add_signing_key,retire_signing_key}'::text[]) f, unnest(ARRAY['NULL', $$''$$, $$'a b'$$, $$'ä'$$, $$E'k\n'$$, $$repeat('x', 65)$$]) value;
INSERT INTO refused (call, argument, value) VALUES
	('add_signing_key', 'key_id', $$'k'$$), ('retire_signing_key', 'key_id', $$'none'$$), ('retire_signing_key', 'key_id', $$'of-b'$$),
	('add_signing_key', 'secret', $$''$$), ('add_signing_key', 'secret', $$'plain and long'$$), ('add_signing_key', 'secret', $$'whsec_!'$$), ('add_signing_key', 'secret', $$'whsec_' || encode('short', 'base64')$$),
	('add_signing_key', 'secret', $$'whsk_' || encode(repeat('x', 32)::bytea, 'base64')$$), ('add_signing_key', 'secret', $$'whpk_' || encode(repeat('x', 32)::bytea, 'base64')$$),
	('add_signing_key', 'tenant_id', $$repeat('x', 256)$$), ('retire_signing_key', 'tenant_id', $$repeat('x', 256)$$), ('retire_signing_key', 'tenant_id', $$'b'$$);
SELECT refusals('add_signing_key', 'retire_signing_key');

-- Events and deliveries by their id.
INSERT INTO taken (call, argument, value)
SELECT f, 'event_id', $$id('event')$$ FROM unnest('{dispatch_status,cancel_event,replay_event}'::text[]) f UNION ALL
SELECT f, 'delivery_id', $$id('delivery')$$ FROM unnest('{cancel_delivery,replay_delivery,discard_dead_letter}'::text[]) f UNION ALL
SELECT 'replay_failed', 'endpoint_id', $$id('endpoint')$$;
INSERT INTO refused (call, argument, value) SELECT call, argument, v FROM taken, unnest(ARRAY['NULL', $$id('nobody')$$]) v WHERE argument IN ('event_id', 'delivery_id', 'endpoint_id');
INSERT INTO taken (call, argument, value) VALUES ('replay_failed', 'since', $$now() - interval '1 hour'$$);
INSERT INTO refused (call, argument, value) VALUES
	('replay_event', 'endpoint_id', $$id('nobody')$$),
	('replay_failed', 'since', 'NULL'), ('replay_failed', 'since', $$now() + interval '1 hour'$$), ('replay_failed', 'since', $$'infinity'$$),
	('replay_failed', 'until', 'NULL'), ('replay_failed', 'until', $$now() - interval '2 hours'$$), ('replay_failed', 'until', $$'-infinity'$$);
SELECT refusals('dispatch_status', 'cancel_event', 'cancel_delivery', 'replay_delivery', 'replay_event', 'replay_failed', 'discard_dead_letter');

-- The catalog and the API versions.
INSERT INTO taken (call, argument, value) VALUES
	('register_event_type', 'name', $$'a.b'$$), ('retire_event_type', 'name', $$'known'$$), ('register_api_version', 'version', $$'v1'$$), ('register_api_version', 'transform', $$'app.transform(text, jsonb)'$$);
SELECT webhooks.register_event_type('known');
CREATE FUNCTION pg_temp.passing(text, jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $2';
INSERT INTO refused (call, argument, value) SELECT 'register_event_type', 'name', value FROM types ORDER BY n;
INSERT INTO takes_all VALUES ('register_event_type', 'description', 'stored and shown, nothing else'), ('register_event_type', 'example', 'the same');
INSERT INTO refused (call, argument, value)
SELECT 'register_event_type', 'validator', v FROM unnest(ARRAY['1', '0', $$'app.one(text)'$$, $$'app.transform(text, jsonb)'$$, $$'app.a_set(text, jsonb)'$$, $$'app.an_int(text, jsonb)'$$, $$'app.proc(text, jsonb)'$$, $$'pg_temp.passing(text, jsonb)'$$]) v UNION ALL
SELECT 'register_api_version', 'transform', v FROM unnest(ARRAY['NULL', '1', $$'app.one(text)'$$, $$'app.validator(text, jsonb)'$$, $$'app.a_set(text, jsonb)'$$, $$'app.an_int(text, jsonb)'$$, $$'app.proc(text, jsonb)'$$, $$'pg_temp.passing(text, jsonb)'$$]) v;
INSERT INTO refused (call, argument, value) VALUES
	('retire_event_type', 'name', 'NULL'), ('retire_event_type', 'name', $$'unknown'$$), ('retire_event_type', 'name', $$''$$),
	('register_api_version', 'version', 'NULL'), ('register_api_version', 'version', $$''$$), ('register_api_version', 'version', $$'a b'$$), ('register_api_version', 'version', $$'"'$$), ('register_api_version', 'version', $$E'v1\n'$$),
	('register_api_version', 'version', $$repeat('x', 65)$$);
SELECT refusals('register_event_type', 'retire_event_type', 'register_api_version');

-- What is another tenant's is unknown, and another tenant cannot be named.
INSERT INTO refused (call, argument, value)
SELECT call || ' (as b)', 'tenant_id', v FROM unnest('{dispatch,dispatch_raw,dispatch_to_urls,add_signing_key,retire_signing_key}'::text[]) call, unnest(ARRAY[$$'a'$$, $$''$$]) v UNION ALL
SELECT call || ' (as b)', 'endpoint_ids', $$ARRAY[id('endpoint')]$$ FROM unnest('{dispatch,dispatch_raw}'::text[]) call UNION ALL
SELECT call || ' (as b)', argument, value FROM taken WHERE value LIKE 'id(%';
INSERT INTO refused (call, argument, value) VALUES
	('dispatch_to_urls (as b)', 'signing_key_id', $$'k'$$), ('retire_signing_key (as b)', 'key_id', $$'k'$$), ('replay_event (as b)', 'endpoint_id', $$id('endpoint')$$);
INSERT INTO taken (call, argument, value)
SELECT call || ' (as b)', argument, CASE WHEN call = 'retire_signing_key' THEN $$'of-b'$$ ELSE replace(value, 'id(''', 'id(''other ') END FROM taken ORDER BY n;
SET webhooks.tenant_id = 'b';
SELECT refusals('dispatch (as b)', 'dispatch_raw (as b)', 'dispatch_to_urls (as b)', 'add_signing_key (as b)', 'retire_signing_key (as b)', 'dispatch_status (as b)', 'cancel_event (as b)', 'cancel_delivery (as b)',
	'replay_delivery (as b)', 'replay_event (as b)', 'replay_failed (as b)', 'discard_dead_letter (as b)');
-- event types and API versions are all tenants'
SELECT call, tried(statement(call, NULL, NULL), false) FROM unnest('{register_event_type,retire_event_type,register_api_version}'::text[]) call;
RESET webhooks.tenant_id;

SELECT what_is_missing('events');
SET client_min_messages = warning;
DROP SCHEMA app CASCADE;
DROP TABLE ids, types;
CALL forget_refusals();
DROP FUNCTION id;
CALL leave_nothing();
