-- Pausing, resuming, disabling, enabling and removing an endpoint.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
CREATE FUNCTION stands() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(concat_ws(' ', e.description, e.state, e.disabled_reason,
		'[' || (SELECT string_agg(d.event_type || ' ' || d.state, ', ' ORDER BY d.delivery_id) FROM webhooks.deliveries d WHERE d.endpoint_id = e.endpoint_id) || ']'),
		'; ' ORDER BY e.endpoint_id)
	FROM webhooks.endpoints e
$$;
-- Delivered by hand: nothing of it gets past the address rule, which is what makes it end at once.
SELECT endpoint_id AS a FROM webhooks.register_endpoint('https://localhost:9/', description => 'A') \gset
SELECT endpoint_id AS b FROM webhooks.register_endpoint('https://localhost:9/', '{none}', description => 'B') \gset
SELECT updated_at AS registered_at FROM webhooks.endpoints WHERE endpoint_id = :'a' \gset

-- Paused: events go on queueing, none is sent.
SELECT count(webhooks.dispatch('one', '{}'));
SELECT stands();
SELECT webhooks.pause_endpoint(:'a');
SELECT count(webhooks.dispatch('two', '{}'));
SELECT stands();
CALL webhooks.deliver_due();
SELECT stands();
SELECT updated_at > :'registered_at' FROM webhooks.endpoints WHERE endpoint_id = :'a';

-- Pausing again changes nothing.
SELECT updated_at AS paused_at FROM webhooks.endpoints WHERE endpoint_id = :'a' \gset
SELECT webhooks.pause_endpoint(:'a');
SELECT updated_at = :'paused_at' FROM webhooks.endpoints WHERE endpoint_id = :'a';

-- Resumed: what queued meanwhile goes.
SELECT webhooks.resume_endpoint(:'a');
SELECT stands();
CALL webhooks.deliver_due();
SELECT stands();
SELECT webhooks.resume_endpoint(:'a');

-- Disabled: no new deliveries, those queued are held.
SELECT count(webhooks.dispatch('three', '{}'));
SELECT webhooks.disable_endpoint(:'a');
SELECT count(webhooks.dispatch('four', '{}'));
CALL webhooks.deliver_due();
SELECT stands();
-- it can be disabled for another reason, but neither paused nor resumed
SELECT webhooks.disable_endpoint(:'a', 'the customer asked');
SELECT tried(format('SELECT webhooks.pause_endpoint(%L)', :'a')), tried(format('SELECT webhooks.resume_endpoint(%L)', :'a'));
SELECT stands();

-- Enabled: those held go on, what was not queued is not made up for.
SELECT webhooks.enable_endpoint(:'a');
SELECT stands();
CALL webhooks.deliver_due();
SELECT count(webhooks.dispatch('five', '{}'));
SELECT stands();
SELECT webhooks.enable_endpoint(:'a');

-- A paused one can be disabled.
SELECT webhooks.pause_endpoint(:'a'), webhooks.disable_endpoint(:'a');
SELECT stands();
SELECT webhooks.enable_endpoint(:'a');

-- Removed: its queued deliveries are cancelled and say so, its other deliveries stay as they are, and so do other endpoints.
SELECT webhooks.dispatch('six', '{}', endpoint_ids => ARRAY[:'a', :'b']::uuid[]) AS six \gset
CREATE TEMPORARY TABLE before AS SELECT * FROM webhooks.queue WHERE endpoint_id = :'a';
SELECT webhooks.remove_endpoint(:'a');
SELECT stands();
SELECT count(*) FROM webhooks.queue WHERE endpoint_id = :'a';
SELECT count(*) FROM webhooks.endpoint_secrets WHERE endpoint_id = :'a';
SELECT event_type, state, attempts, url, tenant_id = '', next_attempt_at, completed_at IS NOT NULL
FROM webhooks.deliveries WHERE endpoint_id = :'a' ORDER BY delivery_id;
SELECT count(*), bool_and(a.outcome = 'cancelled' AND a.attempt = 0 AND a.event_id = b.event_id AND a.status_code IS NULL AND a.error_class IS NULL)
FROM before b JOIN webhooks.attempts a USING (delivery_id);
SELECT state FROM webhooks.dispatch_status(:'six') s WHERE s.endpoint_id = :'a';
SELECT state FROM webhooks.dispatch_status(:'six') s WHERE s.endpoint_id = :'b';
SELECT count(webhooks.dispatch('seven', '{}'));
CALL webhooks.deliver_due();
SELECT count(*) FROM webhooks.deliveries WHERE event_type = 'seven';

-- An endpoint with a failed attempt behind it, waiting for its retry, is cancelled with that many attempts.
ALTER SYSTEM SET webhooks.allowed_networks = '127.0.0.0/8';
SELECT pg_reload_conf();
\c -
SELECT endpoint_id AS c FROM webhooks.register_endpoint('https://127.0.0.1:9/', '{c}', description => 'C', retry_schedule => '{1 hour}') \gset
SELECT webhooks.dispatch('c', '{}') AS event \gset
CALL webhooks.deliver_due();
SELECT state, attempts, error_class, next_attempt_at > now() FROM webhooks.dispatch_status(:'event');
SELECT webhooks.pause_endpoint(:'c');
SELECT state, attempts FROM webhooks.dispatch_status(:'event');
SELECT webhooks.remove_endpoint(:'c');
SELECT state, attempts, error_class, next_attempt_at FROM webhooks.dispatch_status(:'event');
SELECT attempt, outcome, error_class FROM webhooks.attempts WHERE event_id = :'event' ORDER BY attempted_at;
ALTER SYSTEM RESET webhooks.allowed_networks;
SELECT pg_reload_conf();
\c -

-- No such endpoint, never or no longer; NULL.
SELECT f, tried(format('SELECT webhooks.%s(%L)', f, gen_random_uuid())), tried(format('SELECT webhooks.%s(%L)', f, :'a')), tried(format('SELECT webhooks.%s(NULL)', f))
FROM unnest('{pause_endpoint,resume_endpoint,disable_endpoint,enable_endpoint,remove_endpoint,rotate_secret}'::text[]) f;
SELECT tried(format('SELECT webhooks.disable_endpoint(%L, NULL)', :'b'));

-- Rolled back, all of it.
BEGIN;
SELECT webhooks.remove_endpoint(:'b');
SELECT state FROM webhooks.dispatch_status(:'six') s WHERE s.endpoint_id = :'b';
ROLLBACK;
SELECT stands();

CALL leave_nothing();
DROP FUNCTION stands();
