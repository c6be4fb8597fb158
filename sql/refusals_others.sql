-- What each argument refuses of the functions for watching tables, signing, receiving, delivering, monitoring and granting, and in which
-- words: before anything is written.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
\set refusals :tree /test/lib/refusals.sql
\i :refusals
CREATE TABLE plain (id int PRIMARY KEY, name text, tenant text);
CREATE TABLE keyless (a int);
CREATE TABLE unseen (id int PRIMARY KEY);
CREATE VIEW seen AS SELECT * FROM plain;
SELECT endpoint_id AS endpoint FROM webhooks.register_endpoint('https://example.com/') \gset
SELECT endpoint_id AS disabled FROM webhooks.register_endpoint('https://example.com/', description => 'disabled') \gset
SELECT webhooks.disable_endpoint(:'disabled');
SELECT endpoint_id AS other FROM webhooks.register_endpoint('https://example.com/', tenant_id => 'b') \gset
CREATE TABLE ids (name text, id uuid);
INSERT INTO ids VALUES ('endpoint', :'endpoint'), ('disabled', :'disabled'), ('other', :'other'), ('nobody', '00000000-0000-7000-8000-000000000000');
CREATE FUNCTION id(of_name text) RETURNS uuid LANGUAGE sql AS 'SELECT id FROM ids WHERE name = of_name';

-- Watching. What a trigger's own arguments may be is shown where watching is.
INSERT INTO taken (call, argument, value) VALUES ('watch', 'relation', $$'plain'$$), ('unwatch', 'relation', $$'plain'$$), ('backfill', 'relation', $$'plain'$$), ('backfill', 'endpoint_id', $$id('endpoint')$$);
INSERT INTO refused (call, argument, value)
SELECT f, 'relation', v FROM unnest('{watch,unwatch}'::text[]) f, unnest(ARRAY['NULL', '1', '4000000000', $$'seen'$$, $$'plain_pkey'$$, $$'pg_class'$$, $$'webhooks.events'$$]) v UNION ALL
SELECT 'watch', 'resource', v FROM unnest(ARRAY[$$''$$, $$'a b'$$, $$'a.'$$, $$E'a\n'$$, $$'webhooks'$$, $$'webhooks.x'$$, $$repeat('x', 119)$$]) v UNION ALL
SELECT 'watch', 'events', v FROM unnest(ARRAY['NULL', $$'{}'$$, $$'{NULL}'$$, $$'{created,NULL}'$$, $$'{created,changed}'$$, $$'{Created}'$$, $$'{created,created}'$$, $$'{{created,updated},{deleted,truncated}}'$$]) v UNION ALL
SELECT 'watch', c, v FROM unnest('{include_columns,exclude_columns}'::text[]) c, unnest(ARRAY[$$'{}'$$, $$'{NULL}'$$, $$'{id,nome}'$$, $$'{ctid}'$$, $$'{""}'$$, $$'{id,id}'$$, $$'{{id},{name}}'$$]) v UNION ALL
SELECT 'watch', 'exclude_columns', v FROM unnest(ARRAY[$$'{id,name,tenant}'$$, $$'{id}', include_columns => '{id}'$$]) v UNION ALL
SELECT 'watch', 'tenant_column', v FROM unnest(ARRAY[$$''$$, $$'acount'$$, $$'ctid'$$]) v UNION ALL
SELECT 'watch', 'ordered', 'NULL' UNION ALL
SELECT 'watch', 'level', v FROM unnest(ARRAY['NULL', $$''$$, $$'rows'$$, $$'Row'$$]) v;
INSERT INTO taken (call, argument, value) VALUES ('watch (without a key)', 'relation', $$'keyless'$$);
INSERT INTO refused (call, argument, value) VALUES ('watch (without a key)', 'ordered', 'true');
SELECT refusals('watch', 'watch (without a key)', 'unwatch');

-- A backfill commits, so that it is called by itself: what is refused before it begins,
INSERT INTO refused (call, argument, value)
SELECT 'backfill', 'relation', v FROM unnest(ARRAY['NULL', '1', $$'plain_pkey'$$, $$'seen'$$]) v UNION ALL
SELECT 'backfill', 'endpoint_id', v FROM unnest(ARRAY['NULL', $$id('nobody')$$]) v UNION ALL
SELECT 'backfill', 'batch_size', v FROM unnest(ARRAY['NULL', '0', '-1', '151']) v;
INSERT INTO takes_all VALUES ('backfill', 'sent', 'what comes in does not count'), ('backfill', 'resource', 'judged by the table''s triggers: below');
SELECT refusals('backfill');
-- and what when it is about to
SELECT webhooks.watch('plain'), webhooks.watch('keyless');
CALL webhooks.backfill('unseen', :'endpoint');
CALL webhooks.backfill('keyless', :'endpoint');
CALL webhooks.backfill('plain', :'endpoint', 'color');
CALL webhooks.backfill('plain', :'endpoint', sent => 5);
\set VERBOSITY sqlstate
CALL webhooks.backfill('plain', :'disabled');
SET webhooks.tenant_id = 'a';
CALL webhooks.backfill('plain', :'other');
RESET webhooks.tenant_id;
\set VERBOSITY default
SELECT count(*) FROM webhooks.backfills;
TRUNCATE webhooks.backfills;
SELECT tried('SELECT webhooks.emit_change()');

-- Signing and verifying.
CREATE FUNCTION secret() RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE='$$;
INSERT INTO taken (call, argument, value)
SELECT 'sign' || t, a, replace(v, '<type>', coalesce(substring(t, '\((.*)\)'), 'text')) FROM unnest(ARRAY['', ' (bytea)']) t,
	(VALUES ('secret', 'secret()'), ('message_id', $$'m'$$), ('sent_at', 'now()'), ('body', $$''::<type>$$)) w(a, v) UNION ALL
SELECT 'verify' || t, a, replace(v, '<type>', coalesce(substring(t, '\((.*)\)'), 'text')) FROM unnest(ARRAY['', ' (bytea)']) t,
	(VALUES ('secret', 'secret()'), ('headers', $$'{}'$$), ('body', $$''::<type>$$)) w(a, v) UNION ALL
SELECT 'verify (of several)', a, v FROM (VALUES ('secrets', 'ARRAY[secret()]'), ('headers', $$'{}'$$), ('body', $$''::text$$)) w(a, v) UNION ALL
SELECT 'verify (of several, bytea)', a, v FROM (VALUES ('secrets', 'ARRAY[secret()]'), ('headers', $$'{}'$$), ('body', $$''::bytea$$)) w(a, v);
CREATE TABLE secrets (value text, n serial);
INSERT INTO secrets (value) VALUES ($$''$$), ($$'x'$$), ($$'whsec_'$$), ($$'whsec_!'$$), ($$'whsec_' || encode('short', 'base64')$$), ($$secret() || E'\n'$$), ($$'whsk_' || encode(repeat('x', 32)::bytea, 'base64')$$),
	($$secret(), scheme => 'v1a'$$), ($$'whsk_!', scheme => 'v1a'$$), ($$'whsk_MA==', scheme => 'v1a'$$), ($$'', scheme => 'github'$$), ($$repeat('x', 257), scheme => 'github'$$),
	($$'whsk_' || encode(repeat('x', 32)::bytea, 'base64'), scheme => 'github'$$);
INSERT INTO refused (call, argument, value)
SELECT f, 'secret', v FROM unnest('{sign,verify}'::text[]) f, (SELECT 'NULL', 0 UNION ALL SELECT value, n FROM secrets ORDER BY 2) s(v, n) UNION ALL
SELECT 'sign', 'secret', $$'whpk_' || encode(repeat('x', 32)::bytea, 'base64'), scheme => 'v1a'$$ UNION ALL
SELECT 'sign', 'message_id', v FROM unnest(ARRAY['NULL', $$''$$, $$'a b'$$, $$'a.b'$$, $$'ä'$$, $$E'm\n'$$]) v UNION ALL
SELECT 'sign', 'sent_at', v FROM unnest(ARRAY['NULL', $$'infinity'$$, $$'-infinity'$$]) v UNION ALL
SELECT f, 'body', 'NULL::text' FROM unnest('{sign,verify}'::text[]) f UNION ALL
SELECT f, 'body', 'NULL::bytea' FROM unnest('{sign (bytea),verify (bytea),"verify (of several, bytea)"}'::text[]) f UNION ALL
SELECT f, 'scheme', v FROM unnest('{sign,verify}'::text[]) f, unnest(ARRAY['NULL', $$''$$, $$'v2'$$, $$'V1'$$, $$'none'$$]) v UNION ALL
SELECT f, 'headers', v FROM unnest('{verify,verify (of several)}'::text[]) f, unnest(ARRAY['NULL', $$'[]'$$, $$'"x"'$$, $$'null'$$]) v UNION ALL
SELECT f, 'tolerance', v FROM unnest('{verify,verify (of several)}'::text[]) f, unnest(ARRAY['NULL', $$'-1s'$$]) v UNION ALL
SELECT 'verify (of several)', 'secrets', v FROM unnest(ARRAY['NULL::text[]', $$'{}'$$, $$ARRAY[secret(), NULL]$$, $$ARRAY[secret(), 'x']$$, $$ARRAY[ARRAY[secret()], ARRAY[secret()]]$$]) v;
SELECT refusals('sign', 'sign (bytea)', 'verify', 'verify (bytea)', 'verify (of several)', 'verify (of several, bytea)');

-- Receiving.
SELECT webhooks.add_source('known', secret()), webhooks.add_source('known', secret(), tenant_id => 'b'), webhooks.add_source('of b', secret(), tenant_id => 'b'), webhooks.add_source('hub', 'a plain secret', 'github');
CREATE FUNCTION signed(body text, id text DEFAULT 'm', at timestamptz DEFAULT now(), with_secret text DEFAULT secret()) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('webhook-id', id, 'webhook-timestamp', floor(EXTRACT(epoch FROM at))::text, 'webhook-signature', webhooks.sign(with_secret, id, at, body))
$$;
CREATE SCHEMA app;
CREATE FUNCTION app.handler(text, text, jsonb) RETURNS void LANGUAGE sql AS 'SELECT';
CREATE FUNCTION app.strict_handler(text, text, jsonb) RETURNS void LANGUAGE sql STRICT AS 'SELECT';
CREATE FUNCTION app.other_arguments(text, jsonb) RETURNS void LANGUAGE sql AS 'SELECT';
CREATE FUNCTION app.other_result(text, text, jsonb) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION app.a_set(text, text, jsonb) RETURNS SETOF text LANGUAGE sql AS 'SELECT $1';
CREATE PROCEDURE app.proc(text, text, jsonb) LANGUAGE sql AS 'SELECT';
INSERT INTO taken (call, argument, value) VALUES
	('add_source', 'name', $$'new'$$), ('add_source', 'secret', 'secret()'), ('rotate_source_secret', 'name', $$'known'$$), ('rotate_source_secret', 'secret', 'secret()'), ('remove_source', 'name', $$'known'$$),
	('on_event', 'source', $$'known'$$), ('on_event', 'event_type_pattern', $$'order.*'$$), ('on_event', 'handler', $$'app.handler(text, text, jsonb)'$$),
	('receive', 'source', $$'known'$$), ('receive', 'headers', $$signed('{}')$$), ('receive', 'body', $$'{}'::text$$),
	('receive (bytea)', 'source', $$'known'$$), ('receive (bytea)', 'headers', $$signed('{}')$$), ('receive (bytea)', 'body', $$'{}'::bytea$$),
	('receive (of a hub)', 'source', $$'hub'$$), ('receive (of a hub)', 'headers', $$jsonb_build_object('X-GitHub-Delivery', 'm', 'X-Hub-Signature-256', webhooks.sign('a plain secret', NULL, NULL, '{}'::text, 'github'))$$), ('receive (of a hub)', 'body', $$'{}'::text$$),
	('reprocess', 'source', $$'known'$$), ('reprocess', 'since', $$'-infinity'$$);
INSERT INTO refused (call, argument, value)
SELECT f, a, v FROM (VALUES ('add_source', 'name'), ('rotate_source_secret', 'name'), ('remove_source', 'name'), ('on_event', 'source')) w(f, a), unnest(ARRAY['NULL', $$''$$, $$repeat('x', 129)$$, $$E'known\n'$$]) v UNION ALL
SELECT f, 'source', v FROM unnest('{receive,reprocess}'::text[]) f, unnest(ARRAY['NULL', $$''$$]) v UNION ALL
SELECT f, a, $$'unknown'$$ FROM (VALUES ('rotate_source_secret', 'name'), ('remove_source', 'name'), ('on_event', 'source'), ('receive', 'source'), ('reprocess', 'source')) w(f, a) UNION ALL
SELECT f, 'tenant_id', $$repeat('x', 256)$$ FROM unnest('{add_source,rotate_source_secret,remove_source,on_event,receive,receive (bytea),reprocess}'::text[]) f UNION ALL
SELECT 'add_source', 'name', $$'known'$$ UNION ALL
SELECT f, 'secret', v FROM unnest('{add_source,rotate_source_secret}'::text[]) f, (SELECT 'NULL', 0 UNION ALL SELECT value, n FROM secrets ORDER BY 2) s(v, n)
WHERE f = 'add_source' OR v NOT LIKE '%scheme =>%' UNION ALL
SELECT 'rotate_source_secret', 'overlap', v FROM unnest(ARRAY['NULL', $$'-1s'$$, $$'367 days'$$, $$'1000000 days -24000000 hours'$$]) v UNION ALL
SELECT 'add_source', 'scheme', v FROM unnest(ARRAY['NULL', $$''$$, $$'v2'$$, $$'none'$$]) v UNION ALL
SELECT 'add_source', 'tolerance', v FROM unnest(ARRAY['NULL', $$'-1s'$$]) v UNION ALL
SELECT 'add_source', 'id_path', v FROM unnest(ARRAY[$$'$.id ? (@ == $x)'$$]) v UNION ALL
SELECT 'on_event', 'event_type_pattern', v FROM unnest(ARRAY['NULL', $$''$$, $$'**'$$, $$'*.a'$$, $$'a*'$$, $$'a.*.b'$$, $$'.*'$$, $$E'a\n'$$, $$repeat('x', 257)$$]) v UNION ALL
SELECT 'on_event', 'handler', v FROM unnest(ARRAY['1', $$'app.strict_handler(text, text, jsonb)'$$, $$'app.other_arguments(text, jsonb)'$$, $$'app.other_result(text, text, jsonb)'$$, $$'app.a_set(text, text, jsonb)'$$, $$'app.proc(text, text, jsonb)'$$]) v UNION ALL
SELECT f, 'headers', v FROM unnest('{receive,receive (bytea)}'::text[]) f, unnest(ARRAY['NULL', $$'[]'$$, $$'"x"'$$, $$'null'$$, $$'{}'$$, $$signed('{"a": 1}')$$, $$signed('{}', 'm', now() - interval '10 minutes')$$,
	$$signed('{}', 'm', now(), 'whsec_' || encode(repeat('y', 32)::bytea, 'base64'))$$, $$signed('{}', repeat('x', 513))$$, $$signed('{}') - 'webhook-id'$$]) v UNION ALL
SELECT 'receive', 'body', v FROM unnest(ARRAY['NULL::text', $$'{"a": 1}'::text$$, $$repeat('x', 262145)$$]) v UNION ALL
SELECT 'receive (bytea)', 'body', v FROM unnest(ARRAY['NULL::bytea', $$'{"a": 1}'::bytea$$, $$repeat('x', 262145)::bytea$$]) v UNION ALL
SELECT 'receive (of a hub)', 'headers', $$jsonb_build_object('X-Hub-Signature-256', webhooks.sign('a plain secret', NULL, NULL, '{}'::text, 'github'))$$ UNION ALL
SELECT 'receive (of a hub)', 'headers', $$jsonb_build_object('X-GitHub-Delivery', '', 'X-Hub-Signature-256', webhooks.sign('a plain secret', NULL, NULL, '{}'::text, 'github'))$$ UNION ALL
SELECT 'reprocess', 'since', 'NULL';
SELECT refusals('add_source', 'rotate_source_secret', 'remove_source', 'on_event', 'receive', 'receive (bytea)', 'receive (of a hub)', 'reprocess');
-- another tenant's is unknown, and another tenant cannot be named
INSERT INTO refused (call, argument, value)
SELECT f || ' (as b)', a, $$'hub'$$ FROM (VALUES ('rotate_source_secret', 'name'), ('remove_source', 'name'), ('on_event', 'source'), ('receive', 'source'), ('reprocess', 'source')) w(f, a) UNION ALL
SELECT f || ' (as b)', 'tenant_id', v FROM unnest('{add_source,rotate_source_secret,remove_source,on_event,receive,reprocess}'::text[]) f, unnest(ARRAY[$$'a'$$, $$''$$]) v;
INSERT INTO taken (call, argument, value) SELECT call || ' (as b)', argument, value FROM taken ORDER BY n;
SET webhooks.tenant_id = 'b';
SELECT refusals('add_source (as b)', 'rotate_source_secret (as b)', 'remove_source (as b)', 'on_event (as b)', 'receive (as b)', 'reprocess (as b)');
RESET webhooks.tenant_id;

-- Delivering and monitoring. A call of deliver_due that is taken is refused for being made in a function.
INSERT INTO refused (call, argument, value)
SELECT 'deliver_due', 'max_deliveries', v FROM unnest(ARRAY['NULL', '0', '-1']) v UNION ALL
SELECT 'deliver_due', 'time_limit', v FROM unnest(ARRAY['NULL', $$'-1s'$$, $$'178000000 years'$$]) v UNION ALL
SELECT 'wait_until_idle', 'timeout', v FROM unnest(ARRAY['NULL', $$'-1s'$$, $$'178000000 years'$$]) v UNION ALL
SELECT 'endpoint_stats', 'endpoint_id', $$id('nobody')$$ UNION ALL
SELECT 'endpoint_stats', 'period', v FROM unnest(ARRAY['NULL', $$'0'$$, $$'-1s'$$, $$'178000000 years'$$]) v;
INSERT INTO takes_all SELECT 'deliver_due', a, 'what comes in does not count' FROM unnest('{attempted,succeeded,retried,dead_lettered}'::text[]) a;
SELECT refusals('deliver_due', 'wait_until_idle', 'endpoint_stats');
SET webhooks.tenant_id = 'a';
SELECT tried('CALL webhooks.deliver_due()');
RESET webhooks.tenant_id;

-- Granting.
CREATE ROLE regress_webhooks_granted;
INSERT INTO taken (call, argument, value) VALUES ('grant_access', 'role', $$'regress_webhooks_granted'$$), ('grant_access', 'level', $$'observe'$$), ('revoke_access', 'role', $$'regress_webhooks_granted'$$);
INSERT INTO refused (call, argument, value)
SELECT f, 'role', v FROM unnest('{grant_access,revoke_access}'::text[]) f, unnest(ARRAY['NULL', '0', '1', $$'-'$$]) v UNION ALL
SELECT 'grant_access', 'level', v FROM unnest(ARRAY['NULL', $$''$$, $$'Manage'$$, $$'owner'$$, $$E'observe\n'$$]) v;
SELECT refusals('grant_access', 'revoke_access');
DROP ROLE regress_webhooks_granted;

SELECT what_is_missing('others');
SET client_min_messages = warning;
DROP SCHEMA app CASCADE;
DROP TABLE plain, keyless, unseen CASCADE;
DROP TABLE ids, secrets;
CALL forget_refusals();
DROP FUNCTION id, secret, signed;
CALL leave_nothing();
