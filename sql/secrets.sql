-- Secrets encrypted at rest: what is stored, what a key that cannot be had means, and a change of keys.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
-- what is stored of an endpoint's secrets: none shows the secret itself
CREATE FUNCTION stored(ep uuid) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(concat_ws(' ', kind, coalesce(encryption_key_id, 'as it is'), length(secret),
		CASE WHEN secret ~ '^[A-Za-z0-9+/]+=*$' AND encryption_key_id IS NOT NULL THEN 'version ' || get_byte(decode(secret, 'base64'), 0) END), ', ' ORDER BY created_at, kind)
	FROM webhooks.endpoint_secrets WHERE endpoint_id = ep
$$;

-- No key: as they are. And there is nothing to encrypt with.
SELECT current_setting('webhooks.secret_key_file') = '', current_setting('webhooks.secret_key_command') = '', webhooks.secrets_encrypted(), webhooks.unencrypted_secrets();
SELECT endpoint_id AS a, secret AS a_secret FROM webhooks.register_endpoint('https://example.com/a', headers => '{"Authorization": "Bearer top secret"}') \gset
SELECT stored(:'a'), webhooks.unencrypted_secrets();
SELECT substring(reason FROM '\d+ secrets are stored unencrypted') FROM webhooks.health();
SELECT tried('SELECT webhooks.reencrypt_secrets()');

-- A key, from a command: what is new is encrypted; what was there is not, until it is asked for.
ALTER SYSTEM SET webhooks.secret_key_command = 'echo "# two keys"; echo "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="';
SELECT pg_reload_conf();
\c -
SELECT endpoint_id AS b, secret AS b_secret FROM webhooks.register_endpoint('https://example.com/b', headers => '{"Authorization": "Bearer top secret"}') \gset
SELECT stored(:'a');
SELECT stored(:'b');
SELECT webhooks.secrets_encrypted(), webhooks.unencrypted_secrets();
SELECT count(*) FROM webhooks.endpoint_secrets WHERE endpoint_id = :'b' AND (position(secret IN :'b_secret') > 0 OR position(substr(:'b_secret', 7) IN secret) > 0 OR secret ~ 'secret');
SELECT length(webhooks.rotate_secret(:'b')), stored(:'b');
SELECT webhooks.reencrypt_secrets(), webhooks.reencrypt_secrets();
SELECT stored(:'a');
SELECT webhooks.secrets_encrypted(), webhooks.unencrypted_secrets();

-- Rolled back, nothing has changed.
UPDATE webhooks.endpoint_secrets SET encryption_key_id = NULL, secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw' WHERE endpoint_id = :'a' AND kind = 'signing';
BEGIN;
SELECT webhooks.reencrypt_secrets();
SELECT stored(:'a');
ROLLBACK;
SELECT stored(:'a');
SELECT webhooks.reencrypt_secrets();

-- The same secret is not stored the same twice; one moved to another row does not open, and stays.
SELECT count(webhooks.register_endpoint('https://example.com/same/' || i, secret => 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw')) FROM generate_series(1, 3) i;
SELECT count(DISTINCT secret) FROM webhooks.endpoint_secrets JOIN webhooks.endpoints USING (endpoint_id) WHERE url ~ 'same';
SELECT endpoint_id AS thief FROM webhooks.register_endpoint('https://example.com/thief') \gset
UPDATE webhooks.endpoint_secrets SET secret = (SELECT secret FROM webhooks.endpoint_secrets WHERE endpoint_id = :'b' AND kind = 'signing' AND expires_at IS NULL) WHERE endpoint_id = :'thief';

-- So are a source's, the older ones of an overlap, too.
SELECT webhooks.add_source('shop', 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw');
SELECT webhooks.rotate_source_secret('shop', 'whsec_bmV4dCBzZWNyZXQgbmV4dCBzZWNyZXQgbmV4dCA=');
SELECT encryption_key_id, secret ~ 'whsec_', expires_at IS NULL FROM webhooks.source_secrets ORDER BY 3;

-- another tenant's of the same name does not open, nor one whose tenant and name make the same words
CREATE FUNCTION received(source text, tenant text) RETURNS text LANGUAGE sql AS $$
	SELECT tried(format('SELECT webhooks.receive(%L, %L, ''{}''::text, tenant_id => %L)', source, jsonb_build_object('webhook-id', 'm', 'webhook-timestamp', t,
		'webhook-signature', webhooks.sign('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'm', to_timestamp(t), '{}'::text)), tenant), false)
	FROM (SELECT floor(EXTRACT(epoch FROM now()))::bigint AS t) n
$$;
BEGIN;
SELECT count(webhooks.add_source(s, 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', tenant_id => t)) FROM (VALUES ('b c', 'a'), ('c', 'a b'), ('b c', 'z')) v(s, t);
SELECT received('b c', 'a'), received('c', 'a b'), received('b c', 'z');
UPDATE webhooks.source_secrets SET secret = (SELECT secret FROM webhooks.source_secrets WHERE tenant_id = 'a') WHERE source IN ('b c', 'c');
SELECT received('b c', 'a'), received('c', 'a b'), received('b c', 'z');
ROLLBACK;

-- Another key comes first: the old one still opens. An event's Authorization value is sealed, too.
INSERT INTO webhooks.event_secrets VALUES ('01900000-0000-7000-8000-000000000001', 'Bearer top secret');
SELECT count(webhooks.dispatch('a', '{}', headers => '{"Authorization": "Bearer top secret"}'));
SELECT encryption_key_id, secret ~ 'Bearer' FROM webhooks.event_secrets ORDER BY event_id;
ALTER SYSTEM SET webhooks.secret_key_command = 'echo "k2://////////////////////////////////////////8="; echo "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="';
SELECT pg_reload_conf();
\c -
SELECT webhooks.secrets_encrypted(), webhooks.unencrypted_secrets();
-- of events' secrets health says nothing: there may be many
SELECT substring(reason FROM '\d+ secrets are stored unencrypted') FROM webhooks.health();
SELECT count(*) AS secrets, count(*) FILTER (WHERE encryption_key_id = 'k1') AS with_the_old_key FROM webhooks.endpoint_secrets;
SELECT webhooks.reencrypt_secrets();
SELECT encryption_key_id, count(*) FROM webhooks.endpoint_secrets GROUP BY 1 ORDER BY 1;
SELECT encryption_key_id, secret ~ 'Bearer' FROM webhooks.event_secrets ORDER BY event_id;
SELECT webhooks.unencrypted_secrets();
SELECT webhooks.remove_endpoint(:'thief');

-- The old key goes, and all that is left opens.
ALTER SYSTEM SET webhooks.secret_key_command = 'echo "k3:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="; echo "k2://////////////////////////////////////////8="';
SELECT pg_reload_conf();
\c -
SELECT webhooks.reencrypt_secrets() = (SELECT count(*) FROM webhooks.endpoint_secrets) + (SELECT count(*) FROM webhooks.source_secrets) + 2;
SELECT encryption_key_id FROM webhooks.source_secrets;
SELECT is_new FROM (SELECT floor(EXTRACT(epoch FROM now()))::bigint AS t) n, unnest('{whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw,whsec_bmV4dCBzZWNyZXQgbmV4dCBzZWNyZXQgbmV4dCA=}'::text[]) s,
	webhooks.receive('shop', jsonb_build_object('webhook-id', left(s, 10), 'webhook-timestamp', t, 'webhook-signature', webhooks.sign(s, left(s, 10), to_timestamp(t), '{}'::text)), '{}'::text);

-- A tenant's session cannot touch what is everybody's.
SET webhooks.tenant_id = 'acme';
SELECT f, tried(format('SELECT webhooks.%s()', f)) FROM unnest('{reencrypt_secrets,unencrypted_secrets}'::text[]) f;
RESET webhooks.tenant_id;

-- A key that cannot be had: nothing is registered or rotated, and nothing half.
CREATE FUNCTION failing() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT tried(s) FROM unnest(ARRAY[
		'SELECT webhooks.register_endpoint(''https://example.com/failing'')',
		'SELECT webhooks.rotate_secret(endpoint_id) FROM webhooks.endpoints WHERE url = ''https://example.com/a''',
		'SELECT webhooks.reencrypt_secrets()']) s
$$;
ALTER SYSTEM SET webhooks.secret_key_command = 'echo "password is swordfish" >&2; exit 3';
SELECT pg_reload_conf();
\c -
SELECT failing();
SELECT webhooks.secrets_encrypted();
ALTER SYSTEM SET webhooks.secret_key_command = 'echo "k4:swordfish"';
SELECT pg_reload_conf();
\c -
SELECT failing();
ALTER SYSTEM SET webhooks.secret_key_command = 'head -c 70000 /dev/zero';
SELECT pg_reload_conf();
\c -
SELECT failing();
ALTER SYSTEM SET webhooks.secret_key_file = '/nonexistent/swordfish';
SELECT pg_reload_conf();
\c -
SELECT failing();
ALTER SYSTEM RESET webhooks.secret_key_command;
SELECT pg_reload_conf();
\c -
SELECT failing();
-- whoever is no superuser is not told where the key is
CREATE ROLE regress_webhooks_manager;
GRANT USAGE ON SCHEMA webhooks TO regress_webhooks_manager;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA webhooks TO regress_webhooks_manager;
SET SESSION AUTHORIZATION regress_webhooks_manager;
\set VERBOSITY sqlstate
SHOW webhooks.secret_key_file;
\set VERBOSITY default
SELECT webhooks.register_endpoint('https://example.com/failing');
RESET SESSION AUTHORIZATION;
DROP OWNED BY regress_webhooks_manager;
DROP ROLE regress_webhooks_manager;
SELECT count(*) FROM webhooks.endpoints WHERE url ~ 'failing';

ALTER SYSTEM RESET webhooks.secret_key_file;
SELECT pg_reload_conf();
\c -
CALL leave_nothing();
DROP FUNCTION failing();
DROP FUNCTION stored(uuid), received(text, text);
