-- expires_at: what is not done by then ends as a dead letter, sent or not, whatever holds it.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
-- Nothing listens there, and it may be connected to.
ALTER SYSTEM SET webhooks.allowed_networks = '127.0.0.0/8';
SELECT pg_reload_conf();
\c -
CREATE FUNCTION stands(event uuid) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(concat_ws(' ', e.description, s.state, s.attempts, l.reason, s.error_class,
		CASE WHEN s.next_attempt_at > now() THEN 'later' WHEN s.next_attempt_at IS NOT NULL THEN 'due' END), ', ' ORDER BY s.endpoint_id)
	FROM webhooks.dispatch_status(event) s LEFT JOIN webhooks.endpoints e USING (endpoint_id) LEFT JOIN webhooks.dead_letters l USING (delivery_id)
$$;
-- As if the time had passed.
CREATE FUNCTION time_passes(event uuid) RETURNS bigint LANGUAGE sql AS $$
	WITH u AS (UPDATE webhooks.queue SET expires_at = now() - interval '1 second' WHERE event_id = event RETURNING 1) SELECT count(*) FROM u
$$;
SELECT endpoint_id AS ep FROM webhooks.register_endpoint('https://127.0.0.1:9/ep', '{a}', description => 'ep', retry_schedule => '{1 hour}') \gset
SELECT endpoint_id AS lane FROM webhooks.register_endpoint('https://127.0.0.1:9/lane', '{lane}', description => 'lane', retry_schedule => '{1 hour}', ordering => 'endpoint') \gset

-- What it refuses.
SELECT e, tried(format('SELECT webhooks.dispatch(''a'', ''{}'', expires_at => %s)', e)) FROM unnest(ARRAY[
	'clock_timestamp()', 'now() - interval ''1 second''', '''infinity''', '''-infinity''',
	'now() + interval ''1 hour'', deliver_at => now() + interval ''1 hour''', 'now() + interval ''1 hour'', deliver_at => now() + interval ''2 hours''']) e;
SELECT count(*) FROM webhooks.events;
SELECT count(*) FROM webhooks.queue;

-- It stands in the queue, and nowhere when there is none.
SELECT webhooks.dispatch('a', '{}', deliver_at => now() + interval '1 hour', expires_at => now() + interval '2 hours') AS e \gset
SELECT expires_at - due_at BETWEEN interval '59 minutes' AND interval '61 minutes' FROM webhooks.queue WHERE event_id = :'e';
SELECT webhooks.dispatch('a', '{}') AS never \gset
SELECT expires_at FROM webhooks.queue WHERE event_id = :'never';

-- Due and expired: given up unsent. Not yet expired: sent as any other; a retry that would come later is due when it expires.
SELECT webhooks.dispatch('a', '{}', expires_at => now() + interval '1 hour') AS expired \gset
SELECT time_passes(:'expired');
SELECT webhooks.dispatch('a', '{}', expires_at => now() + interval '10 minutes') AS soon \gset
CALL webhooks.deliver_due();
SELECT stands(:'never');
SELECT stands(:'expired');
SELECT count(*) FROM webhooks.attempts WHERE event_id = :'expired';
SELECT reason, attempts, last_status_code, error_class, last_error, tenant_id = '', dead_at > now() - interval '1 minute' FROM webhooks.dead_letters WHERE event_id = :'expired';
SELECT stands(:'soon');
SELECT q.due_at = q.expires_at, a.next_attempt_at = q.expires_at FROM webhooks.queue q JOIN webhooks.attempts a USING (delivery_id) WHERE q.event_id = :'soon';
-- the last attempt's error is the dead letter's
SELECT time_passes(:'soon');
CALL webhooks.deliver_due();
SELECT stands(:'soon');
SELECT reason, attempts, error_class, last_error <> '' FROM webhooks.dead_letters WHERE event_id = :'soon';
SELECT attempt, outcome FROM webhooks.attempts WHERE event_id = :'soon';

-- What is not due, or held, expires too.
SELECT stands(:'e');
SELECT time_passes(:'e');
CALL webhooks.deliver_due();
SELECT stands(:'e');
SELECT webhooks.pause_endpoint(:'ep');
SELECT webhooks.dispatch('a', '{}', expires_at => now() + interval '1 hour') AS paused \gset
SELECT stands(:'paused');
CALL webhooks.deliver_due();
SELECT time_passes(:'paused');
CALL webhooks.deliver_due();
SELECT stands(:'paused');
SELECT webhooks.resume_endpoint(:'ep');
SELECT webhooks.dispatch('a', '{}', expires_at => now() + interval '1 hour') AS disabled \gset
SELECT webhooks.disable_endpoint(:'ep');
SELECT time_passes(:'disabled');
CALL webhooks.deliver_due();
SELECT stands(:'disabled');
SELECT webhooks.enable_endpoint(:'ep');

-- In a lane: an expired one lets the next go, whether it waited for its retry or many of them were never sent.
SELECT webhooks.dispatch('lane', '{}', expires_at => now() + interval '1 hour') AS head \gset
SELECT webhooks.dispatch('lane', '{}') AS next \gset
CALL webhooks.deliver_due();
SELECT stands(:'head'), stands(:'next');
SELECT time_passes(:'head');
CALL webhooks.deliver_due();
SELECT stands(:'head'), stands(:'next');
SELECT webhooks.remove_endpoint(:'lane');
SELECT endpoint_id AS lane FROM webhooks.register_endpoint('https://127.0.0.1:9/lane', '{lane}', description => 'lane', retry_schedule => '{1 hour}', ordering => 'endpoint') \gset
SELECT count(time_passes(webhooks.dispatch('lane', '{}', expires_at => now() + interval '1 hour'))) FROM generate_series(1, 3000);
UPDATE webhooks.queue SET expires_at = now() - interval '1 second' WHERE endpoint_id = :'lane';
SELECT webhooks.dispatch('lane', '{}') AS last \gset
CALL webhooks.deliver_due();
SELECT stands(:'last');
SELECT reason, count(*) FROM webhooks.dead_letters WHERE endpoint_id = :'lane' GROUP BY reason;

-- A replay does not expire.
SELECT webhooks.dispatch('a', '{}', expires_at => now() + interval '1 hour') AS again \gset
SELECT time_passes(:'again');
CALL webhooks.deliver_due();
SELECT stands(:'again');
SELECT count(webhooks.replay_delivery(delivery_id)) FROM webhooks.dead_letters WHERE event_id = :'again';
SELECT expires_at, coalesce_key FROM webhooks.queue WHERE event_id = :'again';
CALL webhooks.deliver_due();
SELECT stands(:'again');
-- nor does one that was waiting
SELECT webhooks.dispatch('a', '{}', expires_at => now() + interval '1 hour', coalesce_key => 'k') AS waiting \gset
SELECT count(webhooks.replay_delivery(delivery_id)) FROM webhooks.queue WHERE event_id = :'waiting';
SELECT expires_at, coalesce_key FROM webhooks.queue WHERE event_id = :'waiting';
ALTER SYSTEM RESET webhooks.allowed_networks;
SELECT pg_reload_conf();

CALL leave_nothing();
DROP FUNCTION time_passes(uuid);
DROP FUNCTION stands(uuid);
