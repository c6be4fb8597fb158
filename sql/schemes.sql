-- Signature schemes of endpoints: which go together, and what secret each has.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
\set VERBOSITY terse
\set secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw
\set private 'whsk_n4Ni+HpISpVObnQMW0wOhCKROaIKqKtW/2ZYb2p9KcU='
CREATE FUNCTION register(schemes text[], secret text DEFAULT NULL) RETURNS SETOF record LANGUAGE sql AS $$
	SELECT * FROM webhooks.register_endpoint('https://example.com/', signature_schemes => schemes, secret => secret) $$;
-- The kinds of secrets that an endpoint has, the current ones first.
CREATE FUNCTION kinds(id uuid) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(split_part(secret, '_', 1) || '_' || CASE WHEN expires_at IS NULL THEN '' ELSE ' (old)' END, ', ' ORDER BY expires_at DESC NULLS FIRST, secret)
	FROM webhooks.endpoint_secrets WHERE endpoint_id = id $$;

-- Each kind of scheme gets its secret; what is told is the shared one where there is one.
SELECT s, left(secret, 5), kinds(endpoint_id) FROM unnest(ARRAY['{v1}', '{v1a}', '{stripe}', '{github}', '{x-webhook}', '{rfc9421}', '{none}', '{v1,v1a}', '{v1a,rfc9421}', '{stripe,v1a}',
	'{v1,v1a,stripe,github,x-webhook,rfc9421}']) s, register(s::text[]) r(endpoint_id uuid, secret text);
-- A given one is of a kind that a scheme takes; the other kind is made.
SELECT s, g, left(secret, 5), secret = g, kinds(endpoint_id) FROM (VALUES ('{v1}', :'secret'), ('{v1a}', :'private'), ('{rfc9421}', :'private'), ('{rfc9421}', :'secret'), ('{v1,v1a}', :'secret'), ('{v1,v1a}', :'private'),
	('{github}', 'mysecret'), ('{stripe,x-webhook}', 'whsec_as.stripe.has.it'), ('{v1,stripe}', :'secret')) v(s, g), register(s::text[], g) r(endpoint_id uuid, secret text);
-- A generated pair is one.
SELECT length(decode(substr(secret, 6), 'base64')), webhooks.public_key(endpoint_id) = 'whpk_' || encode(substr(decode(substr(secret, 6), 'base64'), 33), 'base64') FROM register('{v1a}') r(endpoint_id uuid, secret text);

SELECT register('{}');
SELECT register(NULL);
SELECT register('{NULL}');
SELECT register('{v2}');
SELECT register('{V1}');
SELECT register('{v1,v1}');
SELECT register('{none,v1}');
SELECT register('{none}', :'secret');
SELECT register('{v1}', 'mysecret');
SELECT register('{rfc9421}', 'mysecret');
SELECT register('{stripe,rfc9421}', 'mysecret');
SELECT register('{v1}', :'private');
SELECT register('{github}', :'private');
SELECT register('{v1a}', :'secret');
SELECT register('{v1a}', 'whpk_JrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=');
SELECT register('{v1a}', 'whsk_AAAA');
SELECT register('{v1a}', 'whsk_n4Ni+HpISpVObnQMW0wOhCKROaIKqKtW/2ZYb2p9KcUmtAuPk//z2JcRL368WCsjLb1yUX0IL+g8+zDdzkPRug==');
SELECT register('{github}', '1234567');
SELECT register('{github}', repeat('x', 257));

-- A new secret is judged by the endpoint's schemes.
SELECT endpoint_id AS both FROM register('{v1,v1a}') r(endpoint_id uuid, secret text) \gset
SELECT endpoint_id AS plain FROM register('{github}') r(endpoint_id uuid, secret text) \gset
SELECT webhooks.public_key(:'both') AS before \gset
SELECT left(webhooks.rotate_secret(:'both'), 6), kinds(:'both');
SELECT kinds(:'both'), webhooks.public_key(:'both') = :'before';
SELECT left(webhooks.rotate_secret(:'both', secret => :'private'), 6);
SELECT webhooks.public_key(:'both');
SELECT webhooks.rotate_secret(:'plain', secret => 'another secret');
SELECT webhooks.rotate_secret(:'plain', secret => :'private');
SELECT webhooks.rotate_secret(:'both', secret => 'mysecret');

BEGIN READ ONLY;
SELECT webhooks.public_key(:'both') LIKE 'whpk\_%';
COMMIT;
BEGIN;
SELECT count(webhooks.public_key(:'both'));
SELECT mode FROM pg_locks WHERE relation = 'webhooks.endpoints'::regclass AND pid = pg_backend_pid() AND mode <> 'AccessShareLock';
COMMIT;
SELECT webhooks.public_key(NULL);
SELECT webhooks.public_key('00000000-0000-0000-0000-000000000000');
DO $$ BEGIN PERFORM webhooks.public_key(endpoint_id) FROM register('{v1}') r(endpoint_id uuid, secret text);
EXCEPTION WHEN OTHERS THEN RAISE NOTICE '% %', SQLSTATE, regexp_replace(SQLERRM, '[0-9a-f-]{36}', '<id>'); END $$;
SET webhooks.tenant_id = 'acme';
DO $$ BEGIN PERFORM webhooks.public_key(endpoint_id) FROM webhooks.endpoints WHERE signature_schemes = '{v1a}' AND tenant_id = '';
EXCEPTION WHEN OTHERS THEN RAISE NOTICE '% %', SQLSTATE, regexp_replace(SQLERRM, '[0-9a-f-]{36}', '<id>'); END $$;
RESET webhooks.tenant_id;

CALL leave_nothing();
DROP FUNCTION register(text[], text);
DROP FUNCTION kinds(uuid);
