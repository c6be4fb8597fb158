-- Dead letters, and sending again: replay_delivery, replay_failed, discard_dead_letter, and what dispatch_status says meanwhile.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
-- Nothing listens there, and it may be connected to.
ALTER SYSTEM SET webhooks.allowed_networks = '127.0.0.0/8';
SELECT pg_reload_conf();
\c -
CREATE FUNCTION stands(event uuid) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(concat_ws(' ', e.description, s.state, s.attempts, s.last_status_code, s.error_class,
		CASE WHEN s.next_attempt_at > now() THEN 'later' WHEN s.next_attempt_at IS NOT NULL THEN 'due' END), ', ' ORDER BY s.endpoint_id)
	FROM webhooks.dispatch_status(event) s LEFT JOIN webhooks.endpoints e USING (endpoint_id)
$$;
SELECT endpoint_id AS once FROM webhooks.register_endpoint('https://127.0.0.1:9/once', '{*}', description => 'once', retry_schedule => '{}') \gset
SELECT endpoint_id AS twice FROM webhooks.register_endpoint('https://127.0.0.1:9/twice', '{*}', description => 'twice', retry_schedule => '{0}') \gset
SELECT endpoint_id AS later FROM webhooks.register_endpoint('https://127.0.0.1:9/later', '{*}', description => 'later', retry_schedule => '{1 hour}') \gset
SELECT endpoint_id AS blocked FROM webhooks.register_endpoint('https://[::ffff:127.0.0.1]:9/', '{blocked}', description => 'blocked', retry_schedule => '{1 hour}') \gset

-- As many attempts as the schedule has waits, and one; then a dead letter.
SELECT webhooks.dispatch('a', '{}') AS a \gset
SELECT stands(:'a');
CALL webhooks.deliver_due();
SELECT stands(:'a');
SELECT description, reason, attempts, last_status_code, error_class, last_error <> '', dead_at BETWEEN now() - interval '1 minute' AND now(),
	l.tenant_id = '', l.event_id = :'a'
FROM webhooks.dead_letters l JOIN webhooks.endpoints USING (endpoint_id) ORDER BY endpoint_id;
SELECT description, attempt, outcome, error_class, next_attempt_at > attempted_at AS again, duration_ms >= 0 AS took, remote_address
FROM webhooks.attempts JOIN webhooks.endpoints USING (endpoint_id) ORDER BY endpoint_id, attempt;
SELECT delivery_id AS d FROM webhooks.dead_letters WHERE endpoint_id = :'once' \gset
SELECT delivery_id AS waiting FROM webhooks.queue WHERE endpoint_id = :'later' \gset
-- next_attempt_at is what the queue says: an hour, and up to a quarter more
SELECT due_at = next_attempt_at, next_attempt_at - (attempted_at + duration_ms * interval '1 ms') BETWEEN interval '59 min 59 s' AND interval '75 min 1 s'
FROM webhooks.queue q JOIN webhooks.attempts USING (delivery_id);
-- it is not due, so it is not sent
CALL webhooks.deliver_due();

-- replay_delivery: the same delivery and event, counted anew, with the full schedule.
SELECT webhooks.replay_delivery(:'d') = :'d';
SELECT stands(:'a');
SELECT count(*) FROM webhooks.dead_letters WHERE delivery_id = :'d';
SELECT event_id = :'a', attempts, due_at <= clock_timestamp() FROM webhooks.queue WHERE delivery_id = :'d';
CALL webhooks.deliver_due();
SELECT stands(:'a');
SELECT attempt, outcome FROM webhooks.attempts WHERE delivery_id = :'d' ORDER BY attempted_at;
SELECT delivery_id AS d2 FROM webhooks.dead_letters WHERE endpoint_id = :'twice' \gset
SELECT webhooks.replay_delivery(:'d2') = :'d2';
CALL webhooks.deliver_due();
SELECT attempt, outcome FROM webhooks.attempts WHERE delivery_id = :'d2' ORDER BY attempted_at;
-- one that waits for its retry goes now
SELECT webhooks.replay_delivery(:'waiting') = :'waiting';
SELECT stands(:'a');
CALL webhooks.deliver_due();
SELECT stands(:'a');
SELECT attempt, outcome FROM webhooks.attempts WHERE delivery_id = :'waiting' ORDER BY attempted_at;
-- twice in a row is once
SELECT count(webhooks.replay_delivery(:'d')) FROM generate_series(1, 2);
CALL webhooks.deliver_due();

-- A replay that is rolled back leaves the dead letter.
BEGIN;
SELECT webhooks.replay_delivery(:'d') = :'d';
ROLLBACK;
SELECT stands(:'a');

-- replay_failed: the endpoint's dead letters of a time, bounds included.
SELECT webhooks.dispatch('b', '{}') AS b \gset
CALL webhooks.deliver_due();
SELECT count(*), count(DISTINCT dead_at) FROM webhooks.dead_letters WHERE endpoint_id = :'once';
SELECT dead_at AS dead_a FROM webhooks.dead_letters WHERE endpoint_id = :'once' AND event_id = :'a' \gset
SELECT dead_at AS dead_b FROM webhooks.dead_letters WHERE endpoint_id = :'once' AND event_id = :'b' \gset
SELECT webhooks.replay_failed(:'once', 'infinity', 'infinity'), webhooks.replay_failed(:'once', '-infinity', '2001-01-01'),
	webhooks.replay_failed(:'once', :'dead_b'::timestamptz + interval '1 us'), webhooks.replay_failed(:'later', '-infinity');
SELECT webhooks.replay_failed(:'once', :'dead_b');
SELECT stands(:'a'), stands(:'b');
SELECT webhooks.replay_failed(:'once', :'dead_a', :'dead_a');
SELECT webhooks.replay_failed(:'once', '-infinity');
SELECT stands(:'a'), stands(:'b');
CALL webhooks.deliver_due();
SELECT stands(:'a'), stands(:'b');
SELECT webhooks.replay_failed(:'once', '-infinity');
CALL webhooks.deliver_due();

-- A delivery to a paused endpoint is queued again, and held.
SELECT webhooks.pause_endpoint(:'once');
SELECT webhooks.replay_failed(:'once', '-infinity');
SELECT stands(:'a');
CALL webhooks.deliver_due();
SELECT webhooks.resume_endpoint(:'once');
CALL webhooks.deliver_due();
SELECT stands(:'a');

-- discard_dead_letter: it is gone, its attempts are not, and it can be sent again even so.
SELECT webhooks.discard_dead_letter(:'d');
SELECT count(*) FROM webhooks.dead_letters WHERE delivery_id = :'d';
SELECT stands(:'a');
SELECT webhooks.replay_failed(:'once', '-infinity');
SELECT tried(format('SELECT webhooks.discard_dead_letter(%L)', :'d'));
SELECT webhooks.replay_delivery(:'d') = :'d';
CALL webhooks.deliver_due();
SELECT stands(:'a');

-- replay_event: whatever became of its deliveries, each once; or of the one to an endpoint.
SELECT stands(:'b');
SELECT webhooks.replay_event(:'b');
SELECT stands(:'b');
SELECT count(*) FROM webhooks.dead_letters WHERE event_id = :'b';
SELECT webhooks.replay_event(:'b');
SELECT stands(:'b');
CALL webhooks.deliver_due();
SELECT stands(:'b');
SELECT description, attempt, outcome FROM webhooks.attempts a JOIN webhooks.endpoints USING (endpoint_id) WHERE event_id = :'b' ORDER BY endpoint_id, attempted_at;
SELECT webhooks.replay_event(:'b', :'later');
SELECT stands(:'b');
BEGIN;
SELECT webhooks.replay_event(:'b', endpoint_id => :'once');
ROLLBACK;
SELECT stands(:'b');
-- one that it was never sent to is not one of its deliveries
SELECT webhooks.replay_event(:'b', :'blocked');
-- cancelled ones too; a disabled endpoint's is held; that to a removed one is left out, unless it is asked for
SELECT endpoint_id AS gone FROM webhooks.register_endpoint('https://127.0.0.1:9/gone', '{g}', description => 'gone') \gset
SELECT webhooks.dispatch('g', '{}') AS g \gset
SELECT webhooks.cancel_event(:'g');
SELECT stands(:'g');
SELECT webhooks.disable_endpoint(:'once');
SELECT webhooks.remove_endpoint(:'gone');
SELECT webhooks.replay_event(:'g');
SELECT stands(:'g');
SELECT tried(format('SELECT webhooks.replay_event(%L, %L)', :'g', :'gone'));
SELECT webhooks.enable_endpoint(:'once');
-- an ordered endpoint's go back to their places
SELECT endpoint_id AS keyed FROM webhooks.register_endpoint('https://127.0.0.1:9/keyed', '{keyed}', description => 'keyed', ordering => 'key', retry_schedule => '{}') \gset
SELECT webhooks.dispatch('keyed', '{}', ordering_key => 'k') AS k \gset
SELECT lane AS k_lane FROM webhooks.queue WHERE endpoint_id = :'keyed' \gset
CALL webhooks.deliver_due();
SELECT webhooks.replay_event(:'k', :'keyed');
SELECT lane = :'k_lane' FROM webhooks.queue WHERE endpoint_id = :'keyed';
CALL webhooks.deliver_due();
SELECT webhooks.replay_failed(:'keyed', '-infinity');
SELECT lane = :'k_lane' FROM webhooks.queue WHERE endpoint_id = :'keyed';
CALL webhooks.deliver_due();
-- of its own tenant's alone
SET webhooks.tenant_id = 'other';
SELECT tried(format('SELECT webhooks.replay_event(%L)', :'b'));
RESET webhooks.tenant_id;

-- One whose endpoint may not be connected to is not tried again, whatever the schedule.
ALTER SYSTEM RESET webhooks.allowed_networks;
SELECT pg_reload_conf();
\c -
SELECT webhooks.dispatch('blocked', '{}', endpoint_ids => ARRAY[:'blocked']::uuid[]) AS c \gset
CALL webhooks.deliver_due();
SELECT stands(:'c');
SELECT reason, attempts, error_class FROM webhooks.dead_letters WHERE event_id = :'c';
SELECT state, error_class FROM webhooks.deliveries WHERE event_id = :'c';

-- An event that went to nobody has no deliveries.
SELECT webhooks.dispatch('nobody', '{}', 'nobody') AS nobody \gset
SELECT count(*) FROM webhooks.dispatch_status(:'nobody');

-- What does not exist, and NULL.
SELECT c, tried(format('SELECT webhooks.' || c, gen_random_uuid())) FROM unnest(ARRAY[
	'dispatch_status(%L)', 'replay_delivery(%L)', 'replay_event(%L)', 'replay_failed(%L, ''-infinity'')', 'discard_dead_letter(%L)',
	'dispatch_status(NULL)', 'replay_delivery(NULL)', 'replay_event(NULL)', 'replay_failed(NULL, ''-infinity'')', 'discard_dead_letter(NULL)'
]) c;
SELECT tried(format('SELECT webhooks.replay_failed(%L, NULL)', :'once')), tried(format('SELECT webhooks.replay_failed(%L, ''-infinity'', NULL)', :'once'));
SELECT webhooks.remove_endpoint(:'once');
SELECT tried(format('SELECT webhooks.replay_delivery(%L)', :'d')), tried(format('SELECT webhooks.replay_failed(%L, ''-infinity'')', :'once'));

-- deliver_due: its bounds, and where it cannot run.
SELECT count(webhooks.dispatch('many', '{}', endpoint_ids => ARRAY[:'blocked']::uuid[])) FROM generate_series(1, 5);
CALL webhooks.deliver_due(max_deliveries => 2);
CALL webhooks.deliver_due(time_limit => '1 minute');
CALL webhooks.deliver_due();
CALL webhooks.deliver_due(0);
CALL webhooks.deliver_due(NULL);
CALL webhooks.deliver_due(time_limit => '-1 minute');
CALL webhooks.deliver_due(time_limit => '-1 ms');
CALL webhooks.deliver_due(time_limit => NULL);
BEGIN;
CALL webhooks.deliver_due();
ROLLBACK;
CREATE FUNCTION in_function() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	counts bigint;
BEGIN
	CALL webhooks.deliver_due(10, '1 minute', counts, counts, counts, counts);
END
$$;
SELECT tried('SELECT in_function()');
DROP FUNCTION in_function();
-- a procedure may, as long as no block of it catches exceptions
SELECT count(webhooks.dispatch('x', '{}', endpoint_ids => ARRAY[:'blocked']::uuid[]));
CREATE PROCEDURE in_procedure(catch boolean) LANGUAGE plpgsql AS $$
DECLARE
	attempted bigint;
	succeeded bigint;
	retried bigint;
	dead_lettered bigint;
BEGIN
	IF catch THEN
		BEGIN
			CALL webhooks.deliver_due(10, '1 minute', attempted, succeeded, retried, dead_lettered);
		EXCEPTION WHEN OTHERS THEN
			RAISE NOTICE '% %', SQLSTATE, SQLERRM;
		END;
	ELSE
		CALL webhooks.deliver_due(10, '1 minute', attempted, succeeded, retried, dead_lettered);
	END IF;
	RAISE NOTICE 'attempted %', attempted;
END
$$;
CALL in_procedure(true);
CALL in_procedure(false);
DROP PROCEDURE in_procedure(boolean);

-- wait_until_idle: what is due and not sent keeps it waiting, what is held or not yet due does not. What its own
-- transaction dispatched is not waited for in vain.
BEGIN;
SELECT count(webhooks.dispatch('own', '{}'));
SELECT webhooks.wait_until_idle('10 seconds');
ROLLBACK;
SELECT webhooks.wait_until_idle('10 seconds');
SELECT count(webhooks.dispatch('x', '{}', endpoint_ids => ARRAY[:'blocked']::uuid[], deliver_at => now() + interval '1 day'));
SELECT webhooks.wait_until_idle('10 seconds');
SELECT count(webhooks.dispatch('x', '{}', endpoint_ids => ARRAY[:'blocked']::uuid[]));
SELECT webhooks.wait_until_idle('50 ms'), webhooks.wait_until_idle('0');
SELECT webhooks.pause_endpoint(:'blocked');
SELECT webhooks.wait_until_idle('10 seconds');
SELECT webhooks.resume_endpoint(:'blocked');
CALL webhooks.deliver_due();
SELECT webhooks.wait_until_idle('10 seconds');
SELECT tried('SELECT webhooks.wait_until_idle(' || t || ')') FROM unnest(ARRAY['NULL', '''-1s''']) t;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT tried('SELECT webhooks.wait_until_idle()');
ROLLBACK;

-- A dead letter whose event is not there yet, as in a dump being restored, is queued all the same: it must not be lost.
INSERT INTO webhooks.dead_letters (delivery_id, event_id, endpoint_id, tenant_id, reason, attempts, dead_at)
SELECT gen_random_uuid(), gen_random_uuid(), :'blocked', '', 'exhausted', 1, '2000-01-01';
SELECT webhooks.replay_failed(:'blocked', '1999-01-01', '2001-01-01');
SELECT (SELECT count(*) FROM webhooks.dead_letters WHERE dead_at = '2000-01-01') AS dead,
	(SELECT count(*) FROM webhooks.queue q WHERE NOT EXISTS (SELECT FROM webhooks.events e WHERE e.event_id = q.event_id)) AS queued;

CALL leave_nothing();
DROP FUNCTION stands(uuid);
