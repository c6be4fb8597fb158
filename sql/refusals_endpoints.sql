-- What each argument of the functions about endpoints refuses, and in which words: before anything is written.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
\set refusals :tree /test/lib/refusals.sql
\i :refusals
SELECT webhooks.add_signing_key('k') IS NOT NULL;
CREATE FUNCTION endpoint(of_description text) RETURNS uuid LANGUAGE sql AS 'SELECT endpoint_id FROM webhooks.endpoints WHERE description = of_description';
CREATE FUNCTION target() RETURNS uuid LANGUAGE sql AS 'SELECT endpoint_id FROM webhooks.endpoints WHERE NOT registered';
CREATE FUNCTION nobody() RETURNS uuid LANGUAGE sql AS $$SELECT '00000000-0000-7000-8000-000000000000'::uuid$$;
SELECT count(*) FROM webhooks.register_endpoint('https://example.com/active', description => 'active');
SELECT count(*) FROM webhooks.register_endpoint('https://example.com/v1a', description => 'v1a', signature_schemes => '{v1a}');
SELECT count(*) FROM webhooks.register_endpoint('https://example.com/github', description => 'github', signature_schemes => '{github}', secret => 'not of base64');
SELECT count(*) FROM webhooks.register_endpoint('https://example.com/none', description => 'none', signature_schemes => '{none}');
SELECT endpoint_id AS disabled FROM webhooks.register_endpoint('https://example.com/disabled', description => 'disabled') \gset
SELECT webhooks.disable_endpoint(:'disabled');
SELECT count(*) FROM webhooks.register_endpoint('https://example.com/other', description => 'other', tenant_id => 'b');
SELECT count(webhooks.dispatch_to_urls('a', '{}', '{https://example.com/target}', signing_key_id => 'k'));

-- The options, which register_endpoint and update_endpoint have in common.
CREATE TEMPORARY TABLE options (argument text, value text, n serial);
INSERT INTO options (argument, value) VALUES
	('url', $$''$$), ('url', $$' '$$), ('url', $$'example.com'$$), ('url', $$'ftp://example.com/'$$), ('url', $$'http://example.com/'$$), ('url', $$'https://'$$),
	('url', $$'https://u:p@example.com/'$$), ('url', $$'https://10.0.0.1/'$$), ('url', $$'https://example.com:0/'$$), ('url', $$'https://example.com:70000/'$$),
	('url', $$'https://example.com/a b'$$), ('url', $$E'https://example.com/\n'$$), ('url', $$E'https://example.com/\tx'$$), ('url', $$' https://example.com/'$$),
	('url', $$'https://example.com/' || repeat('x', 2100)$$),
	('event_types', $$'{}'$$), ('event_types', $$'{NULL}'$$), ('event_types', $$'{a,""}'$$), ('event_types', $$'{"a b"}'$$), ('event_types', $$'{a*}'$$), ('event_types', $$E'{"a\n"}'$$),
	('event_types', $$'{{a,b},{c,d}}'$$), ('event_types', $$array_fill('a'::text, ARRAY[1001])$$), ('event_types', $$ARRAY[repeat('x', 129)]$$),
	('filter', $$'$x > 1'$$), ('filter', $$'$.a'$$), ('filter', $$'1'$$),
	('headers', $$'[]'$$), ('headers', $$'"x"'$$), ('headers', $$'null'$$), ('headers', $$'{"": "x"}'$$), ('headers', $$'{"X A": "x"}'$$), ('headers', $$'{"X-A\n": "x"}'$$),
	('headers', $$'{"X-Ü": "x"}'$$), ('headers', $$jsonb_build_object(repeat('x', 257), 'x')$$), ('headers', $$'{"X-A": null}'$$), ('headers', $$'{"X-A": 1}'$$), ('headers', $$'{"X-A": ["x"]}'$$),
	('headers', $$'{"X-A": "x\r\nX-B: y"}'$$), ('headers', $$'{"X-A": "x\n"}'$$), ('headers', $$jsonb_build_object('X-A', repeat('x', 4097))$$), ('headers', $$'{"X-A": "x", "x-a": "y"}'$$),
	('headers', $$'{"Host": "x"}'$$), ('headers', $$'{"webhook-id": "x"}'$$), ('headers', $$(SELECT jsonb_object_agg('x-' || i, '') FROM generate_series(1, 65) i)$$), ('headers', $$'{"Authorization": "********"}'$$),
	('signature_schemes', $$'{}'$$), ('signature_schemes', $$'{NULL}'$$), ('signature_schemes', $$'{v2}'$$), ('signature_schemes', $$'{V1}'$$), ('signature_schemes', $$'{v1,stripe,v1}'$$),
	('signature_schemes', $$'{none,v1}'$$), ('signature_schemes', $$'{{v1,github},{stripe,v1a}}'$$),
	('payload_format', $$''$$), ('payload_format', $$'xml'$$), ('payload_format', $$'Standard'$$), ('payload_format', $$E'raw\n'$$),
	('api_version', $$''$$), ('api_version', $$'2026-01-01'$$), ('api_version', $$repeat('x', 65)$$),
	('retry_schedule', $$'{NULL}'$$), ('retry_schedule', $$'{5s,NULL}'$$), ('retry_schedule', $$'{-1s}'$$), ('retry_schedule', $$'{1h,367 days}'$$), ('retry_schedule', $$'{{1s,2s},{3s,4s}}'$$),
	('retry_schedule', $$array_fill('1s'::interval, ARRAY[101])$$), ('retry_schedule', $$'{178000000 years}'$$),
	('retry_on', $$' '$$), ('retry_on', $$'4xx,'$$), ('retry_on', $$',5xx'$$), ('retry_on', $$'99'$$), ('retry_on', $$'1000'$$), ('retry_on', $$'5XX'$$), ('retry_on', $$'*,500'$$), ('retry_on', $$'x'$$),
	('timeout', $$'0'$$), ('timeout', $$'-1s'$$), ('timeout', $$'0.1 ms'$$), ('timeout', $$'61 min'$$), ('timeout', $$'1000 years'$$),
	('rate_limit', $$0$$), ('rate_limit', $$-1$$), ('rate_limit', $$'NaN'$$), ('rate_limit', $$'Infinity'$$), ('rate_limit', $$'1e9'$$), ('rate_limit', $$'0.0000099'$$),
	('max_in_flight', $$0$$), ('max_in_flight', $$-1$$), ('max_in_flight', $$2147483647$$),
	('ordering', $$''$$), ('ordering', $$'fifo'$$), ('ordering', $$'None'$$),
	('client_certificate', $$'x'$$), ('client_certificate', $$'x', client_key => 'y'$$), ('client_certificate', $$'', client_key => ''$$), ('client_certificate', $$repeat('x', 100000), client_key => 'y'$$),
	('client_certificate', $$E'-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----\n', client_key => 'y'$$),
	('client_key', $$'y'$$),
	('metadata', $$'[]'$$), ('metadata', $$'1'$$), ('metadata', $$'null'$$);

INSERT INTO taken (call, argument, value) VALUES ('register_endpoint', 'url', $$'https://example.com/'$$);
INSERT INTO refused (call, argument, value)
SELECT 'register_endpoint', argument, 'NULL' FROM unnest('{url,event_types,headers,signature_schemes,payload_format,ordering,metadata}'::text[]) argument;
INSERT INTO refused (call, argument, value) SELECT 'register_endpoint', argument, value FROM options ORDER BY n;
INSERT INTO refused (call, argument, value) VALUES
	('register_endpoint', 'tenant_id', $$repeat('x', 256)$$),
	('register_endpoint', 'secret', $$''$$), ('register_endpoint', 'secret', $$'x'$$), ('register_endpoint', 'secret', $$'whsec_'$$), ('register_endpoint', 'secret', $$'whsec_!'$$),
	('register_endpoint', 'secret', $$'whsec_' || encode('short', 'base64')$$), ('register_endpoint', 'secret', $$'whsec_' || replace(encode(repeat('x', 65)::bytea, 'base64'), E'\n', '')$$),
	('register_endpoint', 'secret', $$'whsec_' || encode(repeat('x', 32)::bytea, 'base64') || E'\n'$$), ('register_endpoint', 'secret', $$'whsec_' || encode(repeat('x', 32)::bytea, 'base64'), signature_schemes => '{none}'$$),
	('register_endpoint', 'secret', $$'whsk_' || encode(repeat('x', 32)::bytea, 'base64')$$), ('register_endpoint', 'secret', $$'whpk_' || encode(repeat('x', 32)::bytea, 'base64'), signature_schemes => '{v1a}'$$),
	('register_endpoint', 'secret', $$'whsk_MA==', signature_schemes => '{v1a}'$$), ('register_endpoint', 'secret', $$'whsk_!', signature_schemes => '{v1a}'$$),
	('register_endpoint', 'secret', $$'whsk_' || replace(encode(repeat('x', 64)::bytea, 'base64'), E'\n', ''), signature_schemes => '{v1a}'$$),
	('register_endpoint', 'secret', $$'whsec_' || encode(repeat('x', 32)::bytea, 'base64'), signature_schemes => '{v1a}'$$),
	('register_endpoint', 'secret', $$'short', signature_schemes => '{github}'$$), ('register_endpoint', 'secret', $$repeat('x', 257), signature_schemes => '{github}'$$),
	('register_endpoint', 'secret', $$'plain and long', signature_schemes => '{github,v1}'$$);
INSERT INTO takes_all VALUES ('register_endpoint', 'description', 'stored and shown, nothing else'), ('update_endpoint', 'description', 'the same');
SELECT refusals('register_endpoint');

-- NULL leaves an option as it is.
INSERT INTO taken (call, argument, value) VALUES ('update_endpoint', 'endpoint_id', $$endpoint('active')$$);
INSERT INTO refused (call, argument, value) VALUES ('update_endpoint', 'endpoint_id', 'NULL'), ('update_endpoint', 'endpoint_id', 'nobody()'), ('update_endpoint', 'endpoint_id', 'target()');
INSERT INTO refused (call, argument, value) SELECT 'update_endpoint', argument, value FROM options ORDER BY n;
INSERT INTO refused (call, argument, value) VALUES
	('update_endpoint', 'reset', $$'{NULL}'$$), ('update_endpoint', 'reset', $$'{""}'$$), ('update_endpoint', 'reset', $$'{color}'$$), ('update_endpoint', 'reset', $$'{secret}'$$), ('update_endpoint', 'reset', $$'{tenant_id}'$$),
	('update_endpoint', 'reset', $$'{url}'$$), ('update_endpoint', 'reset', $$'{timeout,timeout}'$$), ('update_endpoint', 'reset', $$'{timeout}', timeout => '1s'$$), 
	('update_endpoint', 'reset', $$'{client_key}'$$), ('update_endpoint', 'reset', $$'{{timeout,filter},{ordering,headers}}'$$);
INSERT INTO taken (call, argument, value) VALUES ('update_endpoint (of plain secret)', 'endpoint_id', $$endpoint('github')$$);
INSERT INTO refused (call, argument, value) VALUES
	('update_endpoint (of plain secret)', 'signature_schemes', $$'{github,v1}'$$), ('update_endpoint (of plain secret)', 'signature_schemes', $$'{rfc9421}'$$);
SELECT refusals('update_endpoint', 'update_endpoint (of plain secret)');
-- as the hint says
BEGIN;
SELECT webhooks.rotate_secret(endpoint('github'), secret => 'whsec_' || encode(repeat('x', 32)::bytea, 'base64')) IS NOT NULL;
SELECT webhooks.update_endpoint(endpoint('github'), signature_schemes => '{github,v1}');
ROLLBACK;

-- What is done to an endpoint.
INSERT INTO taken (call, argument, value)
SELECT f, 'endpoint_id', $$endpoint('active')$$ FROM unnest('{pause_endpoint,resume_endpoint,disable_endpoint,enable_endpoint,remove_endpoint,rotate_secret,ping_endpoint}'::text[]) f;
INSERT INTO taken (call, argument, value) VALUES ('public_key', 'endpoint_id', $$endpoint('v1a')$$);
INSERT INTO refused (call, argument, value) SELECT call, 'endpoint_id', v FROM taken, unnest(ARRAY['NULL', 'nobody()']) v
WHERE argument = 'endpoint_id' AND call NOT LIKE 'update%';
INSERT INTO refused (call, argument, value) VALUES
	('pause_endpoint', 'endpoint_id', $$endpoint('disabled')$$), ('resume_endpoint', 'endpoint_id', $$endpoint('disabled')$$), ('ping_endpoint', 'endpoint_id', $$endpoint('disabled')$$),
	('rotate_secret', 'endpoint_id', $$target()$$), ('public_key', 'endpoint_id', $$endpoint('active')$$), ('public_key', 'endpoint_id', 'target()'),
	('disable_endpoint', 'reason', 'NULL'), ('disable_endpoint', 'reason', $$''$$), ('disable_endpoint', 'reason', $$repeat('x', 10001)$$),
	('rotate_secret', 'overlap', 'NULL'), ('rotate_secret', 'overlap', $$'-1s'$$), ('rotate_secret', 'overlap', $$'367 days'$$), ('rotate_secret', 'overlap', $$'178000000 years'$$), ('rotate_secret', 'overlap', $$'3600000 months -108000000 days'$$), ('rotate_secret', 'overlap', $$'-3600000 months 108000000 days'$$),
	('rotate_secret', 'secret', $$''$$), ('rotate_secret', 'secret', $$'whsec_' || encode('short', 'base64')$$), ('rotate_secret', 'secret', $$'whsk_' || encode(repeat('x', 32)::bytea, 'base64')$$),
	('rotate_secret', 'secret', $$'plain and long'$$);
INSERT INTO taken (call, argument, value) VALUES ('rotate_secret (none)', 'endpoint_id', $$endpoint('none')$$);
INSERT INTO refused (call, argument, value) VALUES ('rotate_secret (none)', 'secret', $$'whsec_' || encode(repeat('x', 32)::bytea, 'base64')$$);
SELECT refusals('pause_endpoint', 'resume_endpoint', 'disable_endpoint', 'enable_endpoint', 'remove_endpoint', 'rotate_secret', 'rotate_secret (none)', 'public_key', 'ping_endpoint');

-- check_url answers instead; nothing is an error.
INSERT INTO takes_all VALUES ('check_url', 'url', 'tells what register_endpoint would refuse');
SELECT regexp_replace(value, '^(.{60}).*', '\1…'), tried(format('SELECT 1 / (NOT (webhooks.check_url(%s)).allowed)::int', value)) FROM options WHERE argument = 'url' UNION ALL
SELECT 'NULL', tried('SELECT 1 / (NOT (webhooks.check_url(NULL)).allowed)::int');

INSERT INTO taken (call, argument, value) VALUES
	('exponential_backoff', 'initial', $$'1s'$$), ('exponential_backoff', 'factor', '2'), ('exponential_backoff', 'maximum', $$'1h'$$), ('exponential_backoff', 'attempts', '5');
INSERT INTO refused (call, argument, value) VALUES
	('exponential_backoff', 'initial', 'NULL'), ('exponential_backoff', 'initial', $$'0'$$), ('exponential_backoff', 'initial', $$'-1s'$$), ('exponential_backoff', 'initial', $$'2h'$$), ('exponential_backoff', 'initial', $$'400 days'$$),
	('exponential_backoff', 'factor', 'NULL'), ('exponential_backoff', 'factor', '0.9'), ('exponential_backoff', 'factor', '-1'), ('exponential_backoff', 'factor', $$'NaN'$$), ('exponential_backoff', 'factor', $$'Infinity'$$),
	('exponential_backoff', 'factor', '1001'),
	('exponential_backoff', 'maximum', 'NULL'), ('exponential_backoff', 'maximum', $$'0'$$), ('exponential_backoff', 'maximum', $$'0.5s'$$), ('exponential_backoff', 'maximum', $$'367 days'$$),
	('exponential_backoff', 'attempts', 'NULL'), ('exponential_backoff', 'attempts', '0'), ('exponential_backoff', 'attempts', '-1'), ('exponential_backoff', 'attempts', '102');
SELECT refusals('exponential_backoff');

-- Another tenant's endpoint is unknown, and another tenant cannot be named.
INSERT INTO refused (call, argument, value) SELECT call || ' (as a)', 'endpoint_id', $$endpoint('other')$$ FROM taken WHERE argument = 'endpoint_id' AND call NOT LIKE '% (%';
INSERT INTO taken (call, argument, value) VALUES ('register_endpoint (as a)', 'url', $$'https://example.com/'$$);
INSERT INTO refused (call, argument, value) VALUES ('register_endpoint (as a)', 'tenant_id', $$'b'$$), ('register_endpoint (as a)', 'tenant_id', $$''$$);
SET webhooks.tenant_id = 'a';
SELECT refusals('register_endpoint (as a)');
RESET webhooks.tenant_id;
-- (whose id it is, the tenant's session cannot read)
UPDATE refused SET value = quote_literal(endpoint('other')) WHERE value = $$endpoint('other')$$;
SET webhooks.tenant_id = 'a';
SELECT call, tried(statement(call, argument, value), false) FROM refused WHERE argument = 'endpoint_id' AND call LIKE '% (as a)' ORDER BY n;
RESET webhooks.tenant_id;

SELECT what_is_missing('endpoints');
CALL forget_refusals();
DROP FUNCTION endpoint, target, nobody;
CALL leave_nothing();
