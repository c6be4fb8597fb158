-- Partitions by day: made ahead, the default emptied into them, dropped after retention, and what is still needed kept.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
-- All that is left to do, a partition a call.
CREATE FUNCTION keep_house() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	done text;
	said text[];
BEGIN
	LOOP
		done := webhooks.maintain();
		EXIT WHEN done IS NULL;
		-- today is D+0
		said := said || regexp_replace(done, '_\d{8}$', CASE WHEN done ~ '_20000' THEN '_' || right(done, 8)
			ELSE format('_D+%s', to_date(right(done, 8), 'YYYYMMDD') - (now() AT TIME ZONE 'UTC')::date) END);
	END LOOP;
	RETURN array_to_string(said, E'\n');
END
$$;
CREATE FUNCTION partitions(parent regclass) RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM pg_inherits WHERE inhparent = parent $$;
DO $$
DECLARE
	part regclass;
BEGIN
	FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhparent IN ('webhooks.events'::regclass, 'webhooks.attempts'::regclass) AND inhrelid::regclass::text !~ '_default$' LOOP
		EXECUTE format('DROP TABLE %s', part);
	END LOOP;
END
$$;

-- With no endpoint there is nothing to make room for.
SELECT webhooks.maintain();
SELECT partitions('webhooks.events'), partitions('webhooks.attempts');

-- What found no partition stands in the default ones.
SELECT endpoint_id AS ep FROM webhooks.register_endpoint('https://localhost:9/', retry_schedule => '{}') \gset
SELECT webhooks.dispatch('first', '{"n": 1}') AS event \gset
INSERT INTO webhooks.attempts (delivery_id, event_id, endpoint_id, tenant_id, url, attempt, attempted_at, outcome)
	SELECT delivery_id, event_id, endpoint_id, '', 'https://localhost:9/', 1, now(), 'retrying' FROM webhooks.queue;
SELECT tableoid::regclass, payload FROM webhooks.events;
SELECT tableoid::regclass FROM webhooks.attempts;

-- Without its default partition events takes no event that has no other: that is said, and how to mend it.
ALTER TABLE webhooks.events DETACH PARTITION webhooks.events_default;
SELECT tried('SELECT webhooks.dispatch(''a'', ''{}'')');
ALTER TABLE webhooks.events ATTACH PARTITION webhooks.events_default DEFAULT;

-- Today's and seven days more, one a call; the rows move, the ids and all.
SELECT keep_house();
SELECT webhooks.maintain();
SELECT partitions('webhooks.events'), partitions('webhooks.attempts');
SELECT tableoid::regclass::text = to_char(now() AT TIME ZONE 'UTC', '"webhooks.events_"YYYYMMDD'), event_id = :'event', event_type, payload FROM webhooks.events;
SELECT tableoid::regclass::text = to_char(now() AT TIME ZONE 'UTC', '"webhooks.attempts_"YYYYMMDD'), event_id = :'event', outcome FROM webhooks.attempts;
SELECT count(*) FROM webhooks.events_default;
SELECT count(*) FROM webhooks.attempts_default;
-- what comes now goes there straight away, from a session that knew the old ones, too
SELECT webhooks.dispatch('second', '{}') AS event2 \gset
SELECT tableoid::regclass::text = to_char(now() AT TIME ZONE 'UTC', '"webhooks.events_"YYYYMMDD') FROM webhooks.events WHERE event_id = :'event2';
SELECT webhooks.delivery_id_range(:'event') IS NOT NULL, count(*) FROM webhooks.dispatch_status(:'event');

-- Each has what it needs: a primary key on the events, an index on the attempts; the parents have none, for pg_dump's sake.
SELECT inhparent::regclass, count(*), count(*) FILTER (WHERE indisprimary), string_agg(DISTINCT regexp_replace(pg_get_indexdef(indexrelid), '^.* USING ', ''), '; ')
FROM pg_inherits LEFT JOIN pg_index ON indrelid = inhrelid
WHERE inhparent IN ('webhooks.events'::regclass, 'webhooks.attempts'::regclass) GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM pg_index WHERE indrelid IN ('webhooks.events'::regclass, 'webhooks.attempts'::regclass);
-- they are no members of the extension, so that a dump has them, and belong to its owner alone
SELECT bool_or(EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = inhrelid AND deptype = 'e')), bool_and(relowner = (SELECT relowner FROM pg_class WHERE oid = 'webhooks.events'::regclass)),
	bool_or(has_table_privilege('public', inhrelid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE'))
FROM pg_inherits JOIN pg_class ON oid = inhrelid
WHERE inhparent IN ('webhooks.events'::regclass, 'webhooks.attempts'::regclass) AND inhrelid::regclass::text ~ '_\d{8}$';
-- a day's ids and times, whatever the session's time zone
SELECT webhooks.event_id_floor('1970-01-01 00:00+00'), webhooks.event_id_floor('2000-01-01 00:00:00.001+00');
SELECT :'event' BETWEEN webhooks.event_id_floor(now() - interval '1 minute')::text AND webhooks.event_id_floor(now() + interval '1 minute')::text;
SET timezone = 'Pacific/Kiritimati';
SELECT webhooks.make_partition('webhooks.events', '2000-01-02'), webhooks.make_partition('webhooks.attempts', '2000-01-02');
SET timezone = 'Pacific/Pago_Pago';
SELECT webhooks.make_partition('webhooks.events', '2000-01-03'), webhooks.make_partition('webhooks.attempts', '2000-01-03');
RESET timezone;
SELECT relname, pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname ~ '^events_2000010[23]$' ORDER BY relname;
SET timezone = 'UTC';
SELECT relname, pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname ~ '^attempts_2000010[23]$' ORDER BY relname;
RESET timezone;

-- Old events and attempts: one delivery still queued, one dead, one over. No function dates anything back, so the tables are written.
INSERT INTO webhooks.events SELECT webhooks.event_id_floor(at), '', kind, '{}', at, at
FROM (VALUES ('over', timestamptz '2000-01-02 01:00+00'), ('queued', '2000-01-02 02:00+00'), ('dead', '2000-01-02 03:00+00'), ('late', '2000-01-03 01:00+00'), ('loose', '2000-01-04 01:00+00'), ('loose.queued', '2000-01-04 02:00+00')) v(kind, at);
INSERT INTO webhooks.event_secrets SELECT event_id, 'of ' || event_type FROM webhooks.events;
INSERT INTO webhooks.attempts (delivery_id, event_id, endpoint_id, tenant_id, url, attempt, attempted_at, outcome)
	SELECT event_id, event_id, :'ep', '', 'https://localhost:9/', 1, created_at, 'retrying' FROM webhooks.events WHERE created_at < '2001-01-01';
INSERT INTO webhooks.queue SELECT event_id, event_id, :'ep', '2999-01-01' FROM webhooks.events WHERE created_at < '2001-01-01' AND event_type ~ 'queued';
INSERT INTO webhooks.dead_letters SELECT event_id, event_id, :'ep', '', 'exhausted', 1, NULL, NULL, NULL, now() FROM webhooks.events WHERE event_type = 'dead';
INSERT INTO webhooks.dead_letters SELECT event_id, event_id, :'ep', '', 'exhausted', 1, NULL, NULL, NULL, now() - interval '91 days' FROM webhooks.events WHERE event_type = 'late';
SELECT tableoid::regclass, event_type FROM webhooks.events WHERE created_at < '2001-01-01' ORDER BY event_id;
SELECT tableoid::regclass, count(*) FROM webhooks.attempts WHERE attempted_at < '2001-01-01' GROUP BY 1 ORDER BY 1;
SELECT keep_house();
SELECT partitions('webhooks.events'), partitions('webhooks.attempts');
SELECT tableoid::regclass, event_type FROM webhooks.events WHERE created_at < '2001-01-01' ORDER BY event_id;
-- an event's secret goes after it, and stays with it
SELECT secret FROM webhooks.event_secrets ORDER BY event_id;
SELECT count(*) FROM webhooks.attempts WHERE attempted_at < '2001-01-01';
SELECT count(*) FROM webhooks.dead_letters;
-- ("late" went with its dead letter, which was itself too old.) The others go as soon as nothing needs them.
DELETE FROM webhooks.queue WHERE due_at = '2999-01-01';
SELECT webhooks.discard_dead_letter(delivery_id) FROM webhooks.dead_letters;
SELECT keep_house();
SELECT count(*) FROM webhooks.events_default;
-- what is within retention is all there
SELECT event_type FROM webhooks.events ORDER BY event_id;
SELECT secret FROM webhooks.event_secrets ORDER BY event_id;

-- However much is past its time, each call removes but so much: deliveries wait meanwhile.
INSERT INTO webhooks.event_secrets SELECT webhooks.event_id_floor('2000-01-02 00:00+00'::timestamptz + i * interval '1 second'), 'left' FROM generate_series(1, 2001) i;
INSERT INTO webhooks.dead_letters SELECT gen_random_uuid(), gen_random_uuid(), :'ep', '', 'exhausted', 1, NULL, NULL, NULL, '2000-01-02' FROM generate_series(1, 2001);
INSERT INTO webhooks.idempotency_keys SELECT '', i, gen_random_uuid(), '2000-01-02' FROM generate_series(1, 2001) i;
INSERT INTO webhooks.inbox_messages SELECT '', 'left', i, '2000-01-02' FROM generate_series(1, 2001) i;
CREATE FUNCTION left_over() RETURNS text LANGUAGE sql VOLATILE RETURN concat_ws(' ',
	(SELECT count(*) FROM webhooks.dead_letters WHERE dead_at < '2001-01-01'), (SELECT count(*) FROM webhooks.idempotency_keys),
	(SELECT count(*) FROM webhooks.inbox_messages), (SELECT count(*) FROM webhooks.event_secrets WHERE secret = 'left'));
SELECT webhooks.maintain();
SELECT left_over();
SELECT webhooks.maintain();
SELECT left_over();
SELECT webhooks.maintain();
SELECT left_over();
SELECT webhooks.maintain();
SELECT left_over();
SELECT webhooks.maintain();
SELECT left_over();
DROP FUNCTION left_over();

-- Retention is a setting.
ALTER SYSTEM SET webhooks.retention = '99 years';
ALTER SYSTEM SET webhooks.dead_letter_retention = '1 day';
SELECT pg_reload_conf();
\c -
SELECT webhooks.make_partition('webhooks.attempts', '2000-01-02');
INSERT INTO webhooks.attempts (delivery_id, event_id, endpoint_id, tenant_id, url, attempt, attempted_at, outcome)
	SELECT gen_random_uuid(), gen_random_uuid(), :'ep', '', 'https://localhost:9/', 1, at, 'retrying' FROM (VALUES (timestamptz '2000-01-02 01:00+00'), ('2000-01-05 01:00+00')) v(at);
INSERT INTO webhooks.dead_letters SELECT gen_random_uuid(), gen_random_uuid(), :'ep', '', 'exhausted', 1, NULL, NULL, NULL, now() - age FROM unnest('{1 hour,25 hours}'::interval[]) age;
INSERT INTO webhooks.events SELECT webhooks.event_id_floor(at), '', 'kept', '{}', at, at FROM (VALUES (timestamptz '2000-01-05 01:00+00')) v(at);
INSERT INTO webhooks.event_secrets SELECT event_id, 'kept' FROM webhooks.events WHERE event_type = 'kept';
SHOW webhooks.retention;
SELECT keep_house();
SELECT count(*) FROM webhooks.attempts WHERE attempted_at < '2001-01-01';
-- no id is older than 1970, however far retention reaches
SELECT webhooks.event_id_floor('1900-01-01 00:00+00');
SELECT tableoid::regclass, event_type FROM webhooks.events WHERE event_type = 'kept';
SELECT count(*) FROM webhooks.event_secrets WHERE secret = 'kept';
SELECT now() - dead_at < interval '2 hours' FROM webhooks.dead_letters;
ALTER SYSTEM RESET webhooks.retention;
ALTER SYSTEM RESET webhooks.dead_letter_retention;
SELECT pg_reload_conf();
\c -
SELECT keep_house();
SELECT count(*) FROM webhooks.attempts WHERE attempted_at < '2001-01-01';


CALL leave_nothing();
DROP FUNCTION partitions(regclass);
DROP FUNCTION keep_house();
