-- dispatch_to_urls: targets that nobody registered, and the keys they sign with.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
ALTER SYSTEM SET webhooks.allowed_networks = '127.0.0.0/8';
SELECT pg_reload_conf();
\c -
CREATE FUNCTION stands(event uuid) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT concat_ws(' ', s.url, s.state, s.attempts, s.error_class, CASE WHEN s.next_attempt_at > now() THEN 'later' END)
	FROM webhooks.dispatch_status(event) s ORDER BY s.url
$$;

-- Signing keys: the secret is shown once, generated or given; a key does not change.
SELECT webhooks.add_signing_key('k1') ~ '^whsec_[A-Za-z0-9+/]{43}=$';
SELECT webhooks.add_signing_key('k2', 'whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=');
SELECT webhooks.add_signing_key('k1', tenant_id => 'T') ~ '^whsec_';
SELECT tenant_id, key_id, secret ~ '^whsec_', encryption_key_id, retired_at FROM webhooks.signing_keys ORDER BY 1, 2;
SELECT c, tried('SELECT webhooks.' || c) FROM unnest(ARRAY[
	'add_signing_key(''k1'')', 'add_signing_key(NULL)', 'add_signing_key('''')', 'add_signing_key(''a b'')', 'add_signing_key(''ä'')',
	'add_signing_key(repeat(''x'', 65))', 'add_signing_key(''k3'', ''x'')', 'add_signing_key(''k3'', ''whsec_c2hvcnQ='')', 'add_signing_key(''k3'', tenant_id => repeat(''x'', 256))',
	'retire_signing_key(''none'')', 'retire_signing_key(NULL)', 'retire_signing_key(''k2'', ''T'')']) c;
DO $$ BEGIN PERFORM webhooks.add_signing_key('k1'); EXCEPTION WHEN duplicate_object THEN DECLARE h text; BEGIN GET STACKED DIAGNOSTICS h = PG_EXCEPTION_HINT; RAISE INFO '%', h; END; END $$;
SELECT webhooks.retire_signing_key('k2');
SELECT retired_at = now() FROM webhooks.signing_keys WHERE key_id = 'k2';
SELECT webhooks.retire_signing_key('k2');
SELECT retired_at < now() FROM webhooks.signing_keys WHERE key_id = 'k2';
SELECT tried($$SELECT webhooks.add_signing_key('k2')$$);
SET webhooks.tenant_id = 'T';
SELECT webhooks.add_signing_key('own') ~ '^whsec_';
SELECT tried($$SELECT webhooks.add_signing_key('own', tenant_id => 'U')$$), tried($$SELECT webhooks.retire_signing_key('k1', '')$$);
RESET webhooks.tenant_id;

-- What it refuses: nothing is written, and the message names which.
SELECT a, tried(format('SELECT webhooks.dispatch_to_urls(%s)', a)) FROM unnest(ARRAY[
	$$NULL, '{}', '{https://127.0.0.1:9/}'$$, $$'a b', '{}', '{https://127.0.0.1:9/}'$$, $$'a', NULL, '{https://127.0.0.1:9/}'$$,
	$$'a', '{}', NULL$$, $$'a', '{}', '{}'$$, $$'a', '{}', '{NULL}'$$, $$'a', '{}', array_fill('https://127.0.0.1:9/'::text, ARRAY[1001])$$,
	$$'a', '{}', '{https://127.0.0.1:9/,http://127.0.0.1:9/}'$$, $$'a', '{}', '{https://127.0.0.1:9/,https://127.0.0.1:9/b,https://u:p@127.0.0.1/}'$$, $$'a', '{}', '{https://10.0.0.1/}'$$, $$'a', '{}', '{nonsense}'$$,
	$$'a', '{}', '{https://127.0.0.1:9/}', retry_schedule => '{-1 s}'$$, $$'a', '{}', '{https://127.0.0.1:9/}', retry_schedule => '{NULL}'$$,
	$$'a', '{}', '{https://127.0.0.1:9/}', signing_key_id => 'none'$$, $$'a', '{}', '{https://127.0.0.1:9/}', signing_key_id => 'k2'$$, $$'a', '{}', '{https://127.0.0.1:9/}', signing_key_id => 'own'$$,
	$$'a', '{}', '{https://127.0.0.1:9/}', tenant_id => repeat('x', 256)$$, $$'a', '{}', '{https://127.0.0.1:9/}', headers => NULL$$,
	$$'a', '{}', '{https://127.0.0.1:9/}', headers => '[]'$$,
	$$'a', '{}', '{https://127.0.0.1:9/}', headers => '{"Host": "b"}'$$]) a;
SELECT (SELECT count(*) FROM webhooks.endpoints) + (SELECT count(*) FROM webhooks.events) + (SELECT count(*) FROM webhooks.queue);
SET webhooks.tenant_id = 'T';
SELECT tried($$SELECT webhooks.dispatch_to_urls('a', '{}', '{https://127.0.0.1:9/}', tenant_id => 'U')$$);
RESET webhooks.tenant_id;

-- A delivery for each target, once each; by default one attempt; failures are told for each. A row of endpoints stands for a target.
SELECT endpoint_id AS everything FROM webhooks.register_endpoint('https://127.0.0.1:9/registered') \gset
SELECT webhooks.dispatch_to_urls('a', '{}', '{https://127.0.0.1:9/one,https://localhost.invalid:9/two,https://127.0.0.1:9/one}') AS e \gset
SELECT stands(:'e');
SELECT url, event_types, state, headers, signature_schemes, payload_format, retry_schedule, ordering, metadata, signing_key_id, registered, created_at = updated_at, substr(endpoint_id::text, 15, 1)
FROM webhooks.endpoints WHERE NOT registered ORDER BY url;
CALL webhooks.deliver_due();
SELECT stands(:'e');
SELECT reason, attempts, error_class, last_error <> '' FROM webhooks.dead_letters WHERE event_id = :'e' ORDER BY 3;
-- what is dispatched does not go to them
SELECT webhooks.dispatch('a', '{}') AS d \gset
SELECT stands(:'d');
-- but can be sent there by name
SELECT count(webhooks.dispatch('a', '{}', endpoint_ids => ARRAY[endpoint_id])) FROM webhooks.endpoints WHERE url ~ 'one$';

-- The same target is the same row; another tenant, key or schedule makes another.
SELECT count(*) FROM webhooks.endpoints WHERE NOT registered;
SELECT count(webhooks.dispatch_to_urls('b', '{}', '{https://127.0.0.1:9/one,https://127.0.0.1:9/three}')) FROM generate_series(1, 3);
SELECT count(*) FROM webhooks.endpoints WHERE NOT registered;
SELECT webhooks.dispatch_to_urls('b', '{}', '{https://127.0.0.1:9/one}', retry_schedule => '{1 hour}') AS again \gset
SELECT count(webhooks.dispatch_to_urls('b', '{}', '{https://127.0.0.1:9/one}', retry_schedule => NULL));
SELECT count(webhooks.dispatch_to_urls('b', '{}', '{https://127.0.0.1:9/one}', signing_key_id => 'k1'));
SELECT count(webhooks.dispatch_to_urls('b', '{}', '{https://127.0.0.1:9/one}', signing_key_id => 'k1', tenant_id => 'T'));
SELECT count(webhooks.dispatch_to_urls('b', '{}', '{https://127.0.0.1:9/one}', tenant_id => 'T'));
SELECT tenant_id, signature_schemes, signing_key_id, retry_schedule FROM webhooks.endpoints WHERE url ~ 'one$' ORDER BY 1, 3, 4;
CALL webhooks.deliver_due();
SELECT stands(:'again');
-- in a transaction that is rolled back, nothing of it is left
BEGIN;
SELECT count(webhooks.dispatch_to_urls('b', '{}', '{https://127.0.0.1:9/back}'));
SELECT count(*) FROM webhooks.endpoints WHERE url ~ 'back$';
ROLLBACK;
SELECT count(*) FROM webhooks.endpoints WHERE url ~ 'back$';

-- What can be done to a target: pause, disable, remove; its options are said by each call.
SELECT endpoint_id AS one FROM webhooks.endpoints WHERE url ~ 'one$' AND tenant_id = '' AND signing_key_id IS NULL AND retry_schedule = '{}' \gset
SELECT tried(format('SELECT webhooks.rotate_secret(%L)', :'one'));
SELECT webhooks.pause_endpoint(:'one');
SELECT webhooks.dispatch_to_urls('c', '{}', '{https://127.0.0.1:9/one}') AS c \gset
SELECT stands(:'c');
SELECT webhooks.resume_endpoint(:'one');
SELECT webhooks.disable_endpoint(:'one');
SELECT webhooks.dispatch_to_urls('c', '{}', '{https://127.0.0.1:9/one,https://127.0.0.1:9/three}') AS c \gset
SELECT stands(:'c');
SELECT webhooks.remove_endpoint(:'one');
SELECT webhooks.dispatch_to_urls('c', '{}', '{https://127.0.0.1:9/one}') AS c \gset
SELECT endpoint_id = :'one' FROM webhooks.dispatch_status(:'c');

-- Those that nothing needs go after a day; those queued, with dead letters, or not active stay.
CALL webhooks.deliver_due();
SELECT count(webhooks.dispatch_to_urls('c', '{}', '{https://127.0.0.1:9/queued}'));
SELECT webhooks.dispatch_to_urls('c', '{}', '{https://127.0.0.1:9/held,https://127.0.0.1:9/free}') AS c \gset
SELECT count(webhooks.pause_endpoint(endpoint_id)) FROM webhooks.endpoints WHERE url ~ 'held$';
SELECT webhooks.cancel_event(:'c');
DELETE FROM webhooks.dead_letters WHERE endpoint_id IN (SELECT endpoint_id FROM webhooks.endpoints WHERE url ~ 'three$');
DO $$ BEGIN WHILE webhooks.maintain() IS NOT NULL LOOP END LOOP; END $$;
SELECT count(*) FROM webhooks.endpoints WHERE url ~ '(three|queued|held|free)$';
UPDATE webhooks.endpoints SET created_at = now() - interval '25 hours';
DO $$ BEGIN WHILE webhooks.maintain() IS NOT NULL LOOP END LOOP; END $$;
SELECT DISTINCT url COLLATE "C" FROM webhooks.endpoints ORDER BY 1;
-- its history is still told
SELECT stands(:'c');

-- Headers are the event's.
SELECT webhooks.dispatch_to_urls('h', '{}', '{https://127.0.0.1:9/held}', headers => '{"X-A": "b", "Authorization": "Bearer of nothing"}') AS h \gset
SELECT headers FROM webhooks.events WHERE event_id = :'h';
SELECT headers FROM webhooks.endpoints WHERE url ~ 'held$';

-- A role that may only dispatch to URLs needs nothing of the tables, and cannot read a key.
CREATE ROLE regress_webhooks_urls;
GRANT USAGE ON SCHEMA webhooks TO regress_webhooks_urls;
GRANT EXECUTE ON FUNCTION webhooks.dispatch_to_urls TO regress_webhooks_urls;
SET ROLE regress_webhooks_urls;
SELECT count(webhooks.dispatch_to_urls('c', '{}', '{https://127.0.0.1:9/role}', signing_key_id => 'k1'));
SELECT tried('SELECT secret FROM webhooks.signing_keys'), tried('SELECT webhooks.add_signing_key(''k'')'), tried('SELECT webhooks.remove_unused_targets()');
SELECT current_user;
RESET ROLE;
DROP OWNED BY regress_webhooks_urls;
DROP ROLE regress_webhooks_urls;
ALTER SYSTEM RESET webhooks.allowed_networks;
SELECT pg_reload_conf();

CALL leave_nothing();
DROP FUNCTION stands(uuid);
