-- sign and verify: every scheme, what alters a message, and what is malformed in the call itself.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
\set secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw
\set other whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
\set private 'whsk_n4Ni+HpISpVObnQMW0wOhCKROaIKqKtW/2ZYb2p9KcU='
\set public 'whpk_JrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs='
\set at '2021-02-25 15:02:10+00'

-- What the specifications, and the libraries, have.
SELECT webhooks.sign(:'secret', 'msg_p5jXN8AQM9LWM0D4loKWxJek', :'at', '{"test": 2432232314}');
SELECT webhooks.sign(:'secret', 'msg_p5jXN8AQM9LWM0D4loKWxJek', :'at', '{"test": 2432232314}'::bytea);
SELECT webhooks.sign(:'private', 'msg_p5jXN8AQM9LWM0D4loKWxJek', :'at', '{"test": 2432232314}', 'v1a');
SELECT webhooks.sign(:'secret', NULL, :'at', '{"test": 2432232314}', 'stripe');
SELECT webhooks.sign('It''s a Secret to Everybody', NULL, NULL, 'Hello, World!', 'github');
SELECT webhooks.sign('secret', NULL, :'at', '{"test": 2432232314}', 'x-webhook');
SELECT webhooks.sign(:'secret', 'msg_1', :'at', '{"hello": "world"}', 'rfc9421');
SELECT webhooks.sign(:'private', 'msg_1', :'at', '{"hello": "world"}', 'rfc9421');
SELECT webhooks.verify(:'secret', '{"webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp": "1614265330",
	"webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}', '{"test": 2432232314}', '100 years');

-- The headers of a message signed now; text beyond ASCII is signed as UTF-8.
\set body '{"ä": "€"}'
CREATE FUNCTION headers(secret text, scheme text DEFAULT 'v1', prefix text DEFAULT 'webhook-', at timestamptz DEFAULT statement_timestamp())
RETURNS jsonb LANGUAGE sql AS $$
	SELECT CASE scheme
		WHEN 'stripe' THEN jsonb_build_object('Stripe-Signature', s)
		WHEN 'github' THEN jsonb_build_object('X-Hub-Signature-256', s)
		WHEN 'x-webhook' THEN jsonb_build_object('X-Webhook-Timestamp', t, 'X-Webhook-Signature', s)
		WHEN 'rfc9421' THEN (SELECT jsonb_object_agg(split_part(line, ': ', 1), split_part(line, ': ', 2)) FROM regexp_split_to_table(s, E'\n') line)
			|| jsonb_build_object('webhook-id', 'msg_1', 'webhook-timestamp', t)
		ELSE jsonb_build_object(prefix || 'id', 'msg_1', prefix || 'timestamp', t, prefix || 'signature', s)
	END
	FROM (SELECT webhooks.sign(secret, 'msg_1', at, '{"ä": "€"}', scheme) AS s, floor(EXTRACT(epoch FROM at))::bigint::text AS t) m
$$;
CREATE TABLE keys (scheme text, secret text, verifier text);
INSERT INTO keys VALUES ('v1', :'secret', :'secret'), ('v1a', :'private', :'private'), ('v1a', :'private', :'public'), ('stripe', :'secret', :'secret'),
	('github', 'mysecret', 'mysecret'), ('x-webhook', 'mysecret', 'mysecret'), ('rfc9421', :'secret', :'secret'), ('rfc9421', :'private', :'public');

-- Each verifies, as text and as bytes; with a byte more, or another secret, none does.
SELECT scheme, webhooks.verify(verifier, headers(secret, scheme), :'body', scheme => scheme),
	webhooks.verify(verifier, headers(secret, scheme), convert_to(:'body', 'UTF8'), scheme => scheme),
	webhooks.verify(verifier, headers(secret, scheme), :'body' || ' ', scheme => scheme),
	webhooks.verify(CASE WHEN verifier = :'public' THEN 'whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=' WHEN verifier = :'private' THEN 'whsk_' || encode(repeat('x', 32)::bytea, 'base64')
		ELSE :'other' END, headers(secret, scheme), :'body', scheme => scheme)
FROM keys ORDER BY ctid;

-- A time within the tolerance, both ways; github has none.
SELECT scheme, webhooks.verify(verifier, headers(secret, scheme, at => statement_timestamp() - '4 minutes 50 seconds'::interval), :'body', scheme => scheme) AS old,
	webhooks.verify(verifier, headers(secret, scheme, at => statement_timestamp() - '5 minutes 10 seconds'::interval), :'body', scheme => scheme) AS too_old,
	webhooks.verify(verifier, headers(secret, scheme, at => statement_timestamp() + '4 minutes 50 seconds'::interval), :'body', scheme => scheme) AS ahead,
	webhooks.verify(verifier, headers(secret, scheme, at => statement_timestamp() + '5 minutes 10 seconds'::interval), :'body', scheme => scheme) AS too_far_ahead,
	webhooks.verify(verifier, headers(secret, scheme, at => statement_timestamp() - '10 days'::interval), :'body', '11 days', scheme) AS tolerated
FROM keys ORDER BY ctid;
-- Milliseconds are a time, too.
SELECT webhooks.verify(:'secret', jsonb_build_object('X-Webhook-Timestamp', t, 'X-Webhook-Signature', 'v1=' || encode(hmac, 'hex')), '{}', '100 years', 'x-webhook')
FROM (SELECT '1614265330123' AS t, '\x4d3b9f672b44f7229ef56e4dc0cad2008d31296596545587b012b4d140e5c0eb'::bytea AS hmac) m;

-- Several secrets, of which one is it.
SELECT webhooks.verify(ARRAY[:'other', :'secret'], headers(:'secret'), :'body'), webhooks.verify(ARRAY[:'other', :'secret'], headers(:'secret'), convert_to(:'body', 'UTF8')),
	webhooks.verify(ARRAY[:'other'], headers(:'secret'), :'body');

-- Headers as frameworks have them.
SELECT 'svix', webhooks.verify(:'secret', headers(:'secret', prefix => 'svix-'), :'body')
UNION ALL SELECT 'any prefix', webhooks.verify(:'secret', headers(:'secret', prefix => 'X-Acme-'), :'body')
UNION ALL SELECT 'capitals', webhooks.verify(:'secret', headers(:'secret', prefix => 'WEBHOOK-'), :'body')
UNION ALL SELECT 'prefixes mixed', webhooks.verify(:'secret', headers(:'secret') - 'webhook-id' || '{"svix-id": "msg_1"}', :'body')
UNION ALL SELECT 'arrays', webhooks.verify(:'secret', (SELECT jsonb_object_agg(key, ARRAY[value]) FROM jsonb_each(headers(:'secret'))), :'body')
UNION ALL SELECT 'an array of two', webhooks.verify(:'secret', headers(:'secret') || jsonb_build_object('webhook-signature', ARRAY['v1,AAAA', headers(:'secret') ->> 'webhook-signature']), :'body')
UNION ALL SELECT 'joined', webhooks.verify(:'secret', headers(:'secret') || jsonb_build_object('webhook-signature', 'v1,AAAA, ' || (headers(:'secret') ->> 'webhook-signature')), :'body')
UNION ALL SELECT 'a number', webhooks.verify(:'secret', headers(:'secret') || jsonb_build_object('webhook-timestamp', (headers(:'secret') ->> 'webhook-timestamp')::bigint), :'body')
UNION ALL SELECT 'twice, in two cases', webhooks.verify(:'secret', headers(:'secret') || '{"Webhook-Id": "msg_2"}', :'body')
UNION ALL SELECT 'other headers', webhooks.verify(:'secret', headers(:'secret') || '{"a": {"webhook-id": "x"}, "b": null, "c": [], "d": [[1]], "e": true}', :'body')
UNION ALL SELECT 'an object', webhooks.verify(:'secret', headers(:'secret') || '{"webhook-id": {"a": "msg_1"}}', :'body')
UNION ALL SELECT 'one missing', webhooks.verify(:'secret', headers(:'secret') - 'webhook-timestamp', :'body')
UNION ALL SELECT 'all missing', webhooks.verify(:'secret', '{}', :'body')
UNION ALL SELECT 'stripe''s two', webhooks.verify(:'secret', jsonb_build_object('stripe-signature', replace(headers(:'secret', 'stripe') ->> 'Stripe-Signature', ',v1=', ',v1=00,v1=')), :'body', scheme => 'stripe')
UNION ALL SELECT 'another scheme''s', webhooks.verify(:'secret', headers(:'secret', 'stripe'), :'body', scheme => 'x-webhook');

-- HTTP signatures cover what the request's pseudo-headers tell: the vector of RFC 9421, B.2.5 has no digest, and so does not do.
SELECT webhooks.verify('whsec_uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==',
	'{"@target-uri": "https://example.com/foo", "date": "Tue, 20 Apr 2021 02:07:55 GMT", "content-type": "application/json",
	"Signature-Input": "sig-b25=(\"date\" \"@authority\" \"content-type\");created=1618884473;keyid=\"test-shared-secret\"",
	"Signature": "sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:"}', '{"hello": "world"}', '100 years', 'rfc9421');

-- Bad calls: each says what is wrong, and no secret.
\set VERBOSITY terse
SELECT webhooks.verify('whsec_c2VjcmV0', '{}', '');
SELECT webhooks.verify('secret', '{}', '');
SELECT webhooks.verify('whsec_***', '{}', '');
SELECT webhooks.verify(NULL::text, '{}', '');
SELECT webhooks.verify(NULL::text[], '{}', '');
SELECT webhooks.verify('{}'::text[], '{}', '');
SELECT webhooks.verify(ARRAY[:'secret', NULL], '{}', '');
SELECT webhooks.verify(:'secret', '[]', '');
SELECT webhooks.verify(:'secret', '"a"', '');
SELECT webhooks.verify(:'secret', NULL, '');
SELECT webhooks.verify(:'secret', '{}', NULL::text);
SELECT webhooks.verify(:'secret', '{}', NULL::bytea);
SELECT webhooks.verify(:'secret', '{}', '', '-1 second');
SELECT webhooks.verify(:'secret', '{}', '', NULL);
SELECT webhooks.verify(:'secret', '{}', '', scheme => 'v2');
SELECT webhooks.verify(:'secret', '{}', '', scheme => 'none');
SELECT webhooks.verify(:'secret', '{}', '', scheme => NULL);
SELECT webhooks.verify(:'secret', '{}', '', scheme => 'v1a');
SELECT webhooks.verify('whpk_AAAA', '{}', '', scheme => 'v1a');
SELECT webhooks.verify('whsk_AAA', '{}', '', scheme => 'rfc9421');
SELECT webhooks.verify('plain', '{}', '', scheme => 'rfc9421');
SELECT webhooks.verify(:'private', '{}', '', scheme => 'github');
SELECT webhooks.verify('', '{}', '', scheme => 'github');
SELECT webhooks.verify(repeat('x', 257), '{}', '', scheme => 'github');
SELECT webhooks.sign(:'public', 'msg_1', :'at', '', 'v1a');
SELECT webhooks.sign(:'secret', NULL, :'at', '');
SELECT webhooks.sign(:'secret', '', :'at', '');
SELECT webhooks.sign(:'secret', 'a.b', :'at', '');
SELECT webhooks.sign(:'secret', E'a\nb', :'at', '', 'rfc9421');
SELECT webhooks.sign(:'secret', 'msg_1', NULL, '');
SELECT webhooks.sign(:'secret', 'msg_1', 'infinity', '');
SELECT webhooks.sign(:'secret', 'msg_1', '1969-12-31 23:59:59.999999+00', '');
SELECT webhooks.sign(:'secret', 'msg_1', '10000-01-01 00:00:00+00', '', 'stripe');
SELECT webhooks.sign(:'secret', 'msg_1', '294276-12-31 00:00:00+00', '', 'stripe');
SELECT split_part(webhooks.sign(:'secret', 'msg_1', t, '', 'stripe'), ',', 1) FROM unnest('{1970-01-01 00:00:00+00,9999-12-31 23:59:59.999999+00}'::timestamptz[]) t;
SELECT webhooks.sign('secret', NULL, '294276-12-31 00:00:00+00', '', 'github') IS NOT NULL;
SELECT webhooks.sign(:'secret', 'msg_1', :'at', NULL::text);
SELECT webhooks.sign(:'secret', 'msg_1', :'at', '', 'none');

SELECT DISTINCT proname, provolatile FROM pg_proc WHERE pronamespace = 'webhooks'::regnamespace AND proname IN ('sign', 'verify') ORDER BY 1;
DROP FUNCTION headers(text, text, text, timestamptz);
DROP TABLE keys;
