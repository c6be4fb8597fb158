-- Receiving: sources, messages taken once, handlers, what is refused, and retention.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
\set secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw
\set VERBOSITY terse
CREATE FUNCTION headers(id text, body text, scheme text DEFAULT 'v1') RETURNS jsonb LANGUAGE sql AS $$
	SELECT CASE scheme
		WHEN 'stripe' THEN jsonb_build_object('Stripe-Signature', s)
		WHEN 'github' THEN jsonb_build_object('X-Hub-Signature-256', s)
		WHEN 'x-webhook' THEN jsonb_build_object('X-Webhook-Timestamp', t, 'X-Webhook-Signature', s)
		WHEN 'rfc9421' THEN (SELECT jsonb_object_agg(split_part(line, ': ', 1), split_part(line, ': ', 2)) FROM regexp_split_to_table(s, E'\n') line)
			|| jsonb_build_object('webhook-id', id, 'webhook-timestamp', t)
		ELSE jsonb_build_object('Webhook-Id', id, 'Webhook-Timestamp', t, 'Webhook-Signature', s)
	END
	FROM (SELECT webhooks.sign('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', id, statement_timestamp(), body, scheme) AS s,
		floor(EXTRACT(epoch FROM statement_timestamp()))::bigint::text AS t) m
$$;

-- A message is new once.
SELECT webhooks.add_source('shop', :'secret');
\set body '{"type": "order.created", "data": {"n": 1}}'
SELECT * FROM webhooks.receive('shop', headers('msg_1', :'body'), :'body');
SELECT * FROM webhooks.receive('shop', headers('msg_1', :'body'), :'body');
SELECT * FROM webhooks.receive('shop', headers('msg_2', :'body'), convert_to(:'body', 'UTF8'));
-- What was rolled back was never received.
BEGIN;
SELECT is_new FROM webhooks.receive('shop', headers('msg_3', :'body'), :'body');
ROLLBACK;
SELECT is_new FROM webhooks.receive('shop', headers('msg_3', :'body') || '{"Authorization": "Bearer token", "Cookie": "a=b", "X-Other": ["1", "2"]}', :'body');
SELECT source, message_id, event_type, convert_from(body, 'UTF8'), payload, headers - 'webhook-timestamp' - 'webhook-signature' FROM webhooks.inbox ORDER BY message_id;
SELECT message_id, event_type, payload, convert_from(body, 'UTF8') = :'body', headers ? 'webhook-id' FROM webhooks.reprocess('shop', now() - interval '1 hour') ORDER BY 1;
SELECT count(*) FROM webhooks.reprocess('shop', now() + interval '1 hour');

-- A body need not be JSON; then there is no payload and no type.
SELECT message_id, event_type, payload, is_new FROM unnest(ARRAY['', 'text', '{"type": "a"', '{"type": "\u0000"}', '[1e999999999]', repeat('[', 100000)]) b, webhooks.receive('shop', headers('bad_' || length(b), b), b)
ORDER BY message_id COLLATE "C";
SELECT message_id, event_type, payload, is_new FROM unnest(ARRAY['1', '"type"', '["type"]', '{"type": 17}', '{"type": null}']) b, webhooks.receive('shop', headers('scalar_' || length(b), b), b)
ORDER BY message_id COLLATE "C";
SELECT message_id, payload FROM (SELECT floor(EXTRACT(epoch FROM now()))::bigint t) n,
	webhooks.receive('shop', jsonb_build_object('webhook-id', 'nul', 'webhook-timestamp', t, 'webhook-signature', webhooks.sign(:'secret', 'nul', to_timestamp(t), '\x7b7d00'::bytea)), '\x7b7d00'::bytea);
SELECT encode(body, 'hex') FROM webhooks.inbox WHERE message_id = 'nul';

-- The id stands where the scheme has it, or where id_path says.
SELECT webhooks.add_source('pay', :'secret', 'stripe');
SELECT webhooks.add_source('git', :'secret', 'github');
SELECT webhooks.add_source('other', :'secret', 'x-webhook');
SELECT webhooks.add_source('http', :'secret', 'rfc9421');
SELECT webhooks.add_source('path', :'secret', 'github', id_path => '$.delivery.number');
SELECT * FROM (VALUES ('{"id": "evt_1", "type": "charge.succeeded"}')) v(b), webhooks.receive('pay', headers('', b, 'stripe'), b);
SELECT * FROM (VALUES ('{"ref": "main"}')) v(b), webhooks.receive('git', headers('', b, 'github') || '{"X-GitHub-Delivery": "72d3162e", "X-GitHub-Event": "push"}', b);
SELECT * FROM (VALUES ('{"type": "c"}')) v(b), webhooks.receive('other', headers('', b, 'x-webhook') || '{"X-Webhook-Id": "x_1", "X-Webhook-Event": "a.b"}', b);
SELECT * FROM (VALUES ('{"type": "c"}')) v(b), webhooks.receive('other', headers('', b, 'x-webhook') || '{"webhook-id": "w_1"}', b);
SELECT * FROM (VALUES ('{"type": "c"}')) v(b), webhooks.receive('http', headers('msg_1', b, 'rfc9421'), b);
SELECT * FROM (VALUES ('{"delivery": {"number": 17}}')) v(b), webhooks.receive('path', headers('', b, 'github') || '{"X-GitHub-Delivery": "72d3162e"}', b);
SELECT * FROM (VALUES ('{"delivery": {"number": [17]}}')) v(b), webhooks.receive('path', headers('', b, 'github') || '{"X-GitHub-Delivery": "72d3162e"}', b);
SELECT * FROM (VALUES ('no JSON')) v(b), webhooks.receive('path', headers('', b, 'github') || '{"X-GitHub-Delivery": "72d3162e"}', b);
\set VERBOSITY default
SELECT * FROM (VALUES ('{"id": 1}')) v(b), webhooks.receive('git', headers('', b, 'github'), b);
SELECT * FROM (VALUES ('{"id": ""}')) v(b), webhooks.receive('pay', headers('', b, 'stripe'), b);
\set VERBOSITY terse
SELECT * FROM (SELECT jsonb_build_object('id', repeat('x', 513))::text) v(b), webhooks.receive('pay', headers('', b, 'stripe'), b);
-- A path that cannot be evaluated finds none.
SELECT webhooks.add_source('zone', :'secret', id_path => '$.id ? (@.datetime() > "2026-01-01".datetime())');
SELECT message_id FROM (VALUES ('{"id": "2026-02-01"}')) v(b), webhooks.receive('zone', headers('m', b), b);
SELECT * FROM (VALUES ('{"id": "2026-02-01T00:00:00+00"}')) v(b), webhooks.receive('zone', headers('m', b), b);
SELECT webhooks.remove_source('zone');
-- An id that no signature covers is none.
SELECT * FROM (VALUES ('{"type": "c"}')) v(b), webhooks.receive('http', headers('msg_1', b, 'rfc9421') - 'webhook-timestamp', b);

-- One error for whatever is wrong with a signature, and nothing is stored.
CREATE FUNCTION refusal(source text, headers jsonb, body text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE detail text; hint text;
BEGIN
	PERFORM webhooks.receive(source, headers, body);
	RETURN 'received';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, detail, hint);
END $$;
SELECT DISTINCT refusal('shop', h, b) FROM headers('new', :'body') good, LATERAL (VALUES
	(good, :'body' || ' '), (good || '{"Webhook-Id": "newer"}', :'body'), (good || '{"Webhook-Timestamp": "1"}', :'body'),
	(good || '{"Webhook-Signature": "v1,AAAA"}', :'body'), (good - 'Webhook-Signature', :'body'), ('{}', :'body'),
	(headers('new', :'body', 'stripe'), :'body')) v(h, b);
SELECT count(*) FROM webhooks.inbox WHERE message_id LIKE 'new%';
SELECT refusal('unknown', '{}', ''), refusal(NULL, '{}', ''), refusal('shop', '[]', ''), refusal('shop', NULL, ''), refusal('shop', '{}', NULL), refusal('shop', '{}', repeat('x', 262145));

-- Handlers run for new messages only, in their transaction, and their error is the message's.
CREATE TABLE applied (handler text, message_id text, event_type text, payload jsonb);
CREATE FUNCTION apply_all(message_id text, event_type text, payload jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO applied VALUES ('all', message_id, event_type, payload) $$;
CREATE FUNCTION apply_order(message_id text, event_type text, payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM webhooks.inbox i WHERE i.message_id = apply_order.message_id) THEN
		RAISE 'the message is not there';
	END IF;
	IF payload ->> 'fail' IS NOT NULL THEN
		RAISE 'not now';
	END IF;
	INSERT INTO applied VALUES ('order', message_id, event_type, payload);
END $$;
SELECT webhooks.on_event('shop', '*', 'apply_all(text, text, jsonb)');
SELECT webhooks.on_event('shop', 'order.*', 'apply_order(text, text, jsonb)');
SELECT webhooks.on_event('shop', 'order', 'apply_order(text, text, jsonb)');
SELECT source, event_type_pattern, handler FROM webhooks.source_handlers ORDER BY 2;
SELECT is_new FROM (VALUES ('{"type": "order.a.b"}')) v(b), webhooks.receive('shop', headers('h_1', b), b);
SELECT is_new FROM (VALUES ('{"type": "order.a.b"}')) v(b), webhooks.receive('shop', headers('h_1', b), b);
SELECT is_new FROM (VALUES ('{"type": "orders.a"}')) v(b), webhooks.receive('shop', headers('h_2', b), b);
SELECT is_new FROM (VALUES ('text')) v(b), webhooks.receive('shop', headers('h_3', b), b);
SELECT refusal('shop', headers('h_4', b), b) FROM (VALUES ('{"type": "order.a", "fail": 1}')) v(b);
SELECT is_new FROM (VALUES ('{"type": "order.a"}')) v(b), webhooks.receive('shop', headers('h_4', b), b);
SELECT * FROM applied ORDER BY message_id, handler;
SELECT webhooks.on_event('shop', 'order.*', NULL);
SELECT webhooks.on_event('shop', 'order.*', NULL);
SELECT is_new FROM (VALUES ('{"type": "order.a"}')) v(b), webhooks.receive('shop', headers('h_5', b), b);
SELECT handler FROM applied WHERE message_id = 'h_5';
-- A handler that is gone, or has become another, is an error.
CREATE FUNCTION apply_none(text, text, jsonb) RETURNS void LANGUAGE sql AS '';
SELECT webhooks.on_event('shop', 'gone', 'apply_none(text, text, jsonb)');
CREATE OR REPLACE FUNCTION apply_none(text, text, jsonb) RETURNS void LANGUAGE sql STRICT AS '';
SELECT refusal('shop', headers('h_6', b), b) FROM (VALUES ('{"type": "gone"}')) v(b);
DROP FUNCTION apply_none;
SELECT refusal('shop', headers('h_6', b), b) FROM (VALUES ('{"type": "gone"}')) v(b);
SELECT count(*) FROM webhooks.inbox WHERE message_id = 'h_6';
SELECT webhooks.on_event('shop', 'gone', NULL);

-- It runs as the caller, who needs EXECUTE on receive and on the handler, and nothing of the tables.
CREATE ROLE regress_webhooks_receiver;
GRANT USAGE ON SCHEMA webhooks TO regress_webhooks_receiver;
GRANT EXECUTE ON FUNCTION webhooks.receive(text, jsonb, text, text), webhooks.sign(text, text, timestamptz, text, text) TO regress_webhooks_receiver;
CREATE FUNCTION apply_user(message_id text, event_type text, payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'applied as %', current_user; END $$;
SELECT webhooks.on_event('shop', '*', 'apply_user(text, text, jsonb)');
-- no operator of the caller's own is used on the way
CREATE SCHEMA regress_trap;
GRANT USAGE ON SCHEMA regress_trap TO PUBLIC;
CREATE FUNCTION regress_trap.sprung(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'sprung as %', current_user; END $$;
CREATE OPERATOR regress_trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = regress_trap.sprung);
SET ROLE regress_webhooks_receiver;
SELECT headers('h_7', '{}') AS headers \gset
SET search_path = regress_trap, pg_catalog, public;
SELECT 'a'::text = 'a'::text;
SELECT is_new, current_user FROM webhooks.receive('shop', :'headers', '{}');
RESET search_path;
INSERT INTO webhooks.inbox_messages VALUES ('', 'shop', 'x', now());
SELECT secret FROM webhooks.source_secrets;
RESET ROLE;
REVOKE EXECUTE ON FUNCTION apply_user FROM PUBLIC;
SET ROLE regress_webhooks_receiver;
SELECT refusal('shop', headers('h_8', '{}'), '{}');
RESET ROLE;
SELECT webhooks.on_event('shop', '*', NULL);

-- Bad arguments.
SELECT webhooks.add_source('shop', :'secret');
SELECT webhooks.add_source('', :'secret');
SELECT webhooks.add_source(NULL, :'secret');
SELECT webhooks.add_source(repeat('x', 129), :'secret');
SELECT webhooks.add_source('a', NULL);
SELECT webhooks.add_source('a', 'whsec_c2VjcmV0');
SELECT webhooks.add_source('a', :'secret', 'none');
SELECT webhooks.add_source('a', :'secret', NULL);
SELECT webhooks.add_source('a', :'secret', tolerance => '-1 second');
SELECT webhooks.add_source('a', :'secret', tolerance => NULL);
SELECT webhooks.add_source('a', :'secret', id_path => '$.id ? (@ > $least)');
SELECT webhooks.add_source('a', :'secret', id_path => ('$' || repeat('[0]', 1000))::jsonpath);
SELECT webhooks.remove_source('a');
SELECT webhooks.remove_source(NULL);
SELECT webhooks.on_event('a', '*', 'apply_user(text, text, jsonb)');
SELECT webhooks.on_event('shop', NULL, 'apply_user(text, text, jsonb)');
SELECT webhooks.on_event('shop', '', 'apply_user(text, text, jsonb)');
SELECT webhooks.on_event('shop', 'a*', 'apply_user(text, text, jsonb)');
SELECT webhooks.on_event('shop', '.*', 'apply_user(text, text, jsonb)');
SELECT webhooks.on_event('shop', '*.*', 'apply_user(text, text, jsonb)');
SELECT webhooks.on_event('shop', '*', 'now()');
SELECT webhooks.on_event('shop', '*', 'headers(text, text, text)');
SELECT webhooks.on_event('shop', '*', 'nowhere(text, text, jsonb)');
SELECT webhooks.reprocess('a', now());
SELECT webhooks.reprocess(NULL, now());
SELECT webhooks.reprocess('shop', NULL);
BEGIN READ ONLY;
SELECT webhooks.receive('shop', '{}', '');
ROLLBACK;

-- A tenant has its own sources, whatever they are called.
SET webhooks.tenant_id = 'acme';
SELECT refusal('shop', headers('msg_1', '{}'), '{}');
SELECT webhooks.remove_source('shop');
SELECT webhooks.add_source('shop', :'secret');
SELECT is_new FROM webhooks.receive('shop', headers('msg_1', '{}'), '{}');
SELECT count(*) FROM webhooks.reprocess('shop', '-infinity');
SELECT webhooks.receive('shop', headers('msg_1', '{}'), '{}', tenant_id => 'other');
SELECT webhooks.add_source('shop', :'secret', tenant_id => '');
SELECT webhooks.reprocess('shop', '-infinity', 'other');
RESET webhooks.tenant_id;
SELECT is_new FROM webhooks.receive('shop', headers('msg_1', '{}'), '{}', tenant_id => 'acme');
SELECT webhooks.on_event('shop', '*', 'apply_all(text, text, jsonb)', tenant_id => 'acme');
SELECT webhooks.remove_source('shop', tenant_id => 'acme');
SELECT count(*) FROM webhooks.source_handlers WHERE tenant_id = 'acme';
SELECT name FROM webhooks.sources WHERE tenant_id = '' ORDER BY 1;

-- Whoever receives for a tenant: its handlers act as that tenant alone, and the session is what it was when they are done.
CREATE FUNCTION apply_as(message_id text, event_type text, payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	RAISE NOTICE 'handled as "%": %, own %', current_setting('webhooks.tenant_id'), tried(format('SELECT webhooks.dispatch(''a'', ''{}'', %L)', payload ->> 'tenant'), false),
		tried('SELECT webhooks.dispatch(''a'', ''{}'')', false);
	IF payload ? 'fail' THEN
		RAISE 'not now';
	END IF;
END $$;
SELECT webhooks.add_source('shared', :'secret', tenant_id => t), webhooks.on_event('shared', '*', 'apply_as(text, text, jsonb)', tenant_id => t) FROM unnest('{acme,""}'::text[]) t;
SELECT is_new, current_setting('webhooks.tenant_id') FROM (VALUES ('{"tenant": "other"}')) v(b), webhooks.receive('shared', headers('msg_1', b), b, tenant_id => 'acme');
SELECT is_new FROM (VALUES ('{"tenant": "acme"}')) v(b), webhooks.receive('shared', headers('msg_2', b), b, tenant_id => 'acme');
SELECT webhooks.receive('shared', headers('msg_3', b), b, tenant_id => 'acme') FROM (VALUES ('{"tenant": "other", "fail": 1}')) v(b);
BEGIN;
SAVEPOINT s;
SELECT webhooks.receive('shared', headers('msg_3', b), b, tenant_id => 'acme') FROM (VALUES ('{"tenant": "other", "fail": 1}')) v(b);
ROLLBACK TO s;
SELECT current_setting('webhooks.tenant_id') = '';
COMMIT;
SELECT is_new FROM (VALUES ('{"tenant": "other"}')) v(b), webhooks.receive('shared', headers('msg_1', b), b);
SET webhooks.tenant_id = 'acme';
SELECT is_new FROM (VALUES ('{"tenant": "other"}')) v(b), webhooks.receive('shared', headers('msg_4', b), b);
RESET webhooks.tenant_id;
SELECT webhooks.remove_source('shared', tenant_id => t) FROM unnest('{acme,""}'::text[]) t;

-- A source gets another secret: during the overlap the older ones are taken, too, and handlers stay.
\set next whsec_bmV4dCBzZWNyZXQgbmV4dCBzZWNyZXQgbmV4dCA=
\set last whsec_bGFzdCBzZWNyZXQgbGFzdCBzZWNyZXQgbGFzdCA=
CREATE FUNCTION taken_with(secrets text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	at constant timestamptz := clock_timestamp();
	secret text;
	id text;
	answers text[];
BEGIN
	FOREACH secret IN ARRAY secrets LOOP
		id := gen_random_uuid();
		BEGIN
			PERFORM webhooks.receive('turning', jsonb_build_object('webhook-id', id, 'webhook-timestamp', floor(EXTRACT(epoch FROM at))::text,
				'webhook-signature', webhooks.sign(secret, id, at, '{}'::text)), '{}'::text);
			answers := answers || 'taken'::text;
		EXCEPTION WHEN invalid_authorization_specification THEN
			answers := answers || 'refused'::text;
		END;
	END LOOP;
	RETURN array_to_string(answers, ' ');
END $$;
\set all 'ARRAY[:''secret'', :''next'', :''last'']'
SELECT webhooks.add_source('turning', :'secret');
SELECT webhooks.on_event('turning', '*', 'apply_all(text, text, jsonb)');
SELECT taken_with(:all);
BEGIN;
SELECT webhooks.rotate_source_secret('turning', :'next');
SELECT expires_at - now(), secret = :'next' FROM webhooks.source_secrets WHERE source = 'turning' ORDER BY 2;
SELECT taken_with(:all);
ROLLBACK;
SELECT taken_with(:all);
SELECT webhooks.rotate_source_secret('turning', :'next', '1 hour');
SELECT webhooks.rotate_source_secret('turning', :'last');
SELECT taken_with(:all);
SELECT round(EXTRACT(epoch FROM expires_at - created_at) / 3600) FROM webhooks.source_secrets WHERE source = 'turning' ORDER BY created_at;
UPDATE webhooks.source_secrets SET expires_at = clock_timestamp() WHERE secret = :'secret' AND source = 'turning';
SELECT taken_with(:all);
-- without an overlap the older ones are over at once, and go when the house is kept
SELECT webhooks.rotate_source_secret('turning', :'secret', '0');
SELECT taken_with(:all);
DO $$ BEGIN WHILE webhooks.maintain() IS NOT NULL LOOP END LOOP; END $$;
SELECT secret = :'secret', expires_at FROM webhooks.source_secrets WHERE source = 'turning';
SELECT event_type_pattern FROM webhooks.source_handlers WHERE source = 'turning';
SELECT webhooks.remove_source('turning');
SELECT count(*) FROM webhooks.source_secrets WHERE source = 'turning';

-- What was received stays known, and readable, though its source went and came again.
SELECT webhooks.remove_source('shop');
SELECT webhooks.add_source('shop', :'secret');
SELECT is_new FROM webhooks.receive('shop', headers('msg_1', :'body'), :'body');

-- Partitions for the days ahead, also where nothing is sent; what is past webhooks.inbox_retention goes, and its ids with it.
SELECT count(*) FROM webhooks.endpoints;
DO $$ BEGIN WHILE webhooks.maintain() IS NOT NULL LOOP END LOOP; END $$;
SELECT count(*) FROM pg_inherits WHERE inhparent = 'webhooks.inbox'::regclass;
SELECT count(*) FROM webhooks.inbox_default;
SELECT is_new FROM webhooks.receive('shop', headers('msg_9', :'body'), :'body');
SELECT count(*) FROM webhooks.inbox_default;
SELECT pg_get_indexdef(indexrelid) ~ '\(tenant_id, source, received_at\)' FROM pg_index WHERE indrelid = to_regclass('webhooks.inbox_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD'));
UPDATE webhooks.inbox SET received_at = now() - interval '31 days' WHERE message_id = 'msg_1';
UPDATE webhooks.inbox_messages SET received_at = now() - interval '32 days' WHERE message_id = 'msg_1';
SELECT webhooks.make_partition('webhooks.inbox', (now() AT TIME ZONE 'UTC')::date - 31) ~ '^made inbox_';
SELECT webhooks.maintain() ~ '^dropped .*inbox_[0-9]{8}$';
SELECT webhooks.maintain();
SELECT count(*) FROM webhooks.inbox WHERE message_id = 'msg_1' AND tenant_id = '' AND source = 'shop';
SELECT is_new FROM webhooks.receive('shop', headers('msg_1', :'body'), :'body');

CALL leave_nothing();
-- their names have dates
DO $$ BEGIN
	EXECUTE (SELECT 'DROP TABLE ' || string_agg(inhrelid::regclass::text, ', ')
		FROM pg_inherits WHERE inhparent = 'webhooks.inbox'::regclass AND inhrelid <> 'webhooks.inbox_default'::regclass);
END $$;
DROP OWNED BY regress_webhooks_receiver;
DROP ROLE regress_webhooks_receiver;
DROP OPERATOR regress_trap.= (text, text);
DROP FUNCTION regress_trap.sprung(text, text);
DROP SCHEMA regress_trap;
DROP FUNCTION apply_as, apply_user, apply_order, apply_all, refusal, headers;
DROP TABLE applied;
