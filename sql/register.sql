-- Every argument of register_endpoint: what it takes, how it refuses what it does not take, and that a refusal writes nothing.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
CREATE FUNCTION tried_to_register(arguments text) RETURNS text LANGUAGE sql AS $$
	SELECT tried('SELECT webhooks.register_endpoint(' || arguments || ')')
$$;

-- The defaults: an id of version 7, a secret of 32 bytes, and what is stored.
SELECT endpoint_id AS id, secret FROM webhooks.register_endpoint('https://example.com/hook') \gset
SELECT :'id' ~ '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab]', :'secret' ~ '^whsec_[A-Za-z0-9+/]{43}=$',
	length(decode(substr(:'secret', 7), 'base64'));
\x on
SELECT tenant_id, url, event_types, state, disabled_reason, description, filter, headers, signature_schemes, payload_format,
	api_version, retry_schedule, retry_on, timeout, rate_limit, max_in_flight, ordering, metadata,
	created_at = updated_at AS unchanged, created_at BETWEEN now() - interval '1 minute' AND now() AS now
FROM webhooks.endpoints WHERE endpoint_id = :'id';
\x off
SELECT secret = :'secret', expires_at IS NULL FROM webhooks.endpoint_secrets WHERE endpoint_id = :'id';

-- All that can be given is stored as given, and a given secret is handed back.
SELECT endpoint_id AS id2, secret AS secret2 FROM webhooks.register_endpoint(
	'https://example.com/hook?a=b', '{order.*,invoice.paid}', tenant_id => 'acme', description => 'the second',
	headers => '{"X-Api-Key": "k", "authorization": "Bearer t"}', secret => 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw',
	retry_schedule => '{5s,00:05,1 day}', retry_on => '429,5xx', timeout => '2500 ms', rate_limit => 2.5,
	max_in_flight => 3,
	metadata => '{"customer": 7}') \gset
SELECT :'secret2';
\x on
SELECT tenant_id, url, event_types, description, headers, retry_schedule, retry_on, timeout, rate_limit, max_in_flight, metadata
FROM webhooks.endpoints WHERE endpoint_id = :'id2';
\x off
SELECT kind, secret FROM webhooks.endpoint_secrets WHERE endpoint_id = :'id2' ORDER BY kind;

-- Ids and secrets are new each time, and ids sort by time.
SELECT count(DISTINCT r.endpoint_id), count(DISTINCT r.secret)
FROM generate_series(1, 10) i, webhooks.register_endpoint('https://example.com/' || i) r;
SELECT bool_and(ordered) FROM (
	SELECT endpoint_id > lag(endpoint_id) OVER (ORDER BY (regexp_match(url, '[0-9]+$'))[1]::integer) AS ordered
	FROM webhooks.endpoints WHERE url ~ '/[0-9]+$') o;

-- What was rolled back is not there.
BEGIN;
SELECT count(*) FROM webhooks.register_endpoint('https://example.com/rolled-back');
ROLLBACK;
SELECT count(*) FROM webhooks.endpoints WHERE url LIKE '%rolled-back';

-- From here on each call is one line; the refused ones must leave nothing behind.
SELECT count(*) AS endpoints_before FROM webhooks.endpoints \gset

-- url (more in url.sql)
SELECT a, tried_to_register(a) FROM unnest(ARRAY[
	$$NULL$$, $$''$$, $$'example.com'$$, $$'http://example.com/'$$, $$'https://u:p@example.com/'$$, $$'https://10.0.0.1/'$$
]) a;

-- event_types
SELECT a, tried_to_register($$'https://example.com/', $$ || a) FROM unnest(ARRAY[
	$$'{*}'$$, $$'{a,b.c,d.*}'$$, $$'{webhooks.*}'$$,
	$$NULL$$, $$'{}'$$, $$'{NULL}'$$, $$'{a,NULL}'$$, $$'{""}'$$, $$'{**}'$$, $$'{*.a}'$$, $$'{a.*.b}'$$, $$'{a*}'$$, $$'{a.b*}'$$,
	$$'{.a}'$$, $$'{a.}'$$, $$'{a..b}'$$, $$'{a b}'$$, $$'{a,b/c}'$$, $$ARRAY[E'a\nb']$$, $$'{é}'$$, $$'{.*}'$$, $$'{a.*.*}'$$
]) a;

-- tenant_id
SELECT left(a, 40), tried_to_register($$'https://example.com/', tenant_id => $$ || a) FROM unnest(ARRAY[
	$$NULL$$, $$''$$, $$'acme'$$, $$'Über GmbH'$$, $$repeat('x', 255)$$, $$repeat('x', 256)$$, $$repeat('é', 128)$$
]) a;

-- headers (more in headers.sql)
SELECT left(a, 60), tried_to_register($$'https://example.com/', headers => $$ || a) FROM unnest(ARRAY[
	$$'{}'$$, $$'{"X-A": ""}'$$, $$'{"X-A": "tab\there"}'$$, $$'{"X-A": "é"}'$$, $$'{"!#$%&''*+-.^_`|~0a": "token"}'$$,
	$$jsonb_build_object('X-A', repeat('v', 4096))$$,
	$$NULL$$, $$'[]'$$, $$'"X-A: b"'$$, $$'null'$$, $$'{"X-A": 1}'$$, $$'{"X-A": null}'$$, $$'{"X-A": ["b"]}'$$, $$'{"X-A": {"b": "c"}}'$$,
	$$'{"": "empty"}'$$, $$'{"X A": "blank"}'$$, $$'{"X:A": "colon"}'$$, $$'{"X-\u00e9": "not ASCII"}'$$, $$'{"X\r\nA": "name"}'$$,
	$$'{"X-A": "b\r\nX-Evil: c"}'$$, $$'{"X-A": "b\rc"}'$$, $$'{"X-A": "b\nc"}'$$, $$'{"X-A": "b\u0001c"}'$$, $$'{"X-A": "b\u007fc"}'$$,
	$$'{"X-A": "b\u0000c"}'$$,
	$$jsonb_build_object('X-A', repeat('v', 4097))$$, $$jsonb_build_object(repeat('n', 257), 'v')$$,
	$$(SELECT jsonb_object_agg('X-' || i, '') FROM generate_series(1, 64) i)$$,
	$$(SELECT jsonb_object_agg('X-' || i, '') FROM generate_series(1, 65) i)$$
]) a;
-- headers that are the sender's own, in any case
SELECT string_agg(h || ' ' || left(tried_to_register(format($$'https://example.com/', headers => '{"%s": "x"}'$$, h)), 5), ', ' ORDER BY h)
FROM unnest('{Host,content-length,Content-Type,TRANSFER-ENCODING,Connection,Keep-Alive,TE,Trailer,Upgrade,Proxy-Authorization,
	Proxy-Connection,Expect,Cookie,User-Agent,webhook-id,Webhook-Timestamp,WEBHOOK-SIGNATURE,webhook-anything}'::text[]) h;

-- secret
SELECT left(a, 60), tried_to_register($$'https://example.com/', secret => $$ || a) FROM unnest(ARRAY[
	$$NULL$$, $$'whsec_' || encode(repeat('k', 24)::bytea, 'base64')$$, $$'whsec_' || translate(encode(repeat('k', 64)::bytea, 'base64'), E'\n', '')$$,
	$$'whsec_' || rtrim(encode(repeat('k', 25)::bytea, 'base64'), '=')$$,
	$$''$$, $$'whsec_'$$, $$'secret'$$, $$encode(repeat('k', 32)::bytea, 'base64')$$, $$'WHSEC_' || encode(repeat('k', 24)::bytea, 'base64')$$,
	$$'whsec_' || encode(repeat('k', 23)::bytea, 'base64')$$, $$'whsec_' || translate(encode(repeat('k', 65)::bytea, 'base64'), E'\n', '')$$,
	$$'whsec_' || repeat('!', 32)$$, $$'whsec_ ' || encode(repeat('k', 24)::bytea, 'base64')$$, $$'whsec_' || encode(repeat('k', 24)::bytea, 'base64') || E'\n'$$,
	$$'whsec_' || repeat('A', 33)$$, $$'whsec_' || repeat('A', 34) || 'B='$$, $$'whsec_' || repeat('A', 35) || '=='$$,
	$$'whsk_' || encode(repeat('k', 32)::bytea, 'base64')$$
]) a;

-- retry_schedule
SELECT a, tried_to_register($$'https://example.com/', retry_schedule => $$ || a) FROM unnest(ARRAY[
	$$NULL$$, $$'{}'$$, $$'{0}'$$, $$'{1s,366 days}'$$, $$array_fill(interval '1s', '{100}')$$,
	$$'{-1s}'$$, $$'{1s,-1s}'$$, $$'{366 days 1s}'$$, $$'{1 day,NULL}'$$, $$'{1 day -25 hours}'$$, $$array_fill(interval '1s', '{101}')$$
]) a;

-- retry_on
SELECT a, tried_to_register($$'https://example.com/', retry_on => $$ || a) FROM unnest(ARRAY[
	$$NULL$$, $$''$$, $$'*'$$, $$'5xx'$$, $$'408, 425 ,429,5xx'$$, $$'100,999'$$,
	$$'99'$$, $$'1000'$$, $$'5x'$$, $$'5XX'$$, $$'0xx'$$, $$'5x0'$$, $$'429,'$$, $$',429'$$, $$'429;503'$$, $$'429 503'$$, $$'*,429'$$, $$'-429'$$, $$'all'$$
]) a;

-- timeout
SELECT a, tried_to_register($$'https://example.com/', timeout => $$ || a) FROM unnest(ARRAY[
	$$NULL$$, $$'1 ms'$$, $$'15s'$$, $$'1 hour'$$,
	$$'0'$$, $$'-1s'$$, $$'1 us'$$, $$'1 hour 1 ms'$$, $$'1 day -24 hours'$$, $$'100000 years'$$
]) a;

-- max_in_flight
SELECT a, tried_to_register($$'https://example.com/', max_in_flight => $$ || a) FROM unnest(ARRAY[
	$$NULL$$, $$1$$, $$2048$$, $$0$$, $$-1$$, $$2049$$
]) a;

-- rate_limit
SELECT a, tried_to_register($$'https://example.com/', rate_limit => $$ || a) FROM unnest(ARRAY[
	$$NULL$$, $$20$$, $$0.5$$, $$1000000$$, $$1.4e-45$$,
	$$0$$, $$-1$$, $$1000001$$, $$'NaN'$$, $$'Infinity'$$, $$'-Infinity'$$
]) a;

-- metadata
SELECT a, tried_to_register($$'https://example.com/', metadata => $$ || a) FROM unnest(ARRAY[
	$$'{}'$$, $$'{"a": [1, null]}'$$, $$NULL$$, $$'null'$$, $$'[]'$$, $$'"a"'$$
]) a;

-- options of the contract that are not there yet: the default passes, any other value says so
SELECT a, tried_to_register($$'https://example.com/', $$ || a) FROM unnest(ARRAY[
	$$filter => NULL$$, $$filter => '$.amount > 100'$$,
	$$signature_schemes => '{v1}'$$, $$signature_schemes => '{v1a}'$$, $$signature_schemes => '{v1,stripe}'$$, $$signature_schemes => '{}'$$,
	$$signature_schemes => NULL$$, $$signature_schemes => '{NULL}'$$,
	$$payload_format => 'standard'$$, $$payload_format => 'raw'$$, $$payload_format => NULL$$,
	$$api_version => NULL$$, $$api_version => '2026-01-01'$$,
	$$ordering => 'none'$$, $$ordering => 'endpoint'$$, $$ordering => 'key'$$, $$ordering => 'random'$$, $$ordering => NULL$$,
	$$client_certificate => NULL, client_key => NULL$$, $$client_certificate => 'x'$$, $$client_key => 'x'$$
]) a;

-- Each "ok" made one endpoint with one signing secret, and nothing else made any.
SELECT count(*) - :endpoints_before, count(*) = (SELECT count(*) FROM webhooks.endpoint_secrets WHERE kind = 'signing'),
	count(*) = (SELECT count(*) FROM webhooks.endpoints JOIN webhooks.endpoint_secrets USING (endpoint_id) WHERE kind = 'signing')
FROM webhooks.endpoints;

CALL leave_nothing();
DROP FUNCTION tried_to_register(text);
