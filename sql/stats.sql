-- What monitoring reads: endpoint_stats, pg_stat_webhooks, health, metrics, report_html.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
\pset format aligned
\pset tuples_only off
\set VERBOSITY terse
\pset null '-'

SELECT endpoint_id AS busy FROM webhooks.register_endpoint('https://busy.example/hook?a=1&b=<2>', '{a.*}') \gset
SELECT endpoint_id AS quiet FROM webhooks.register_endpoint('https://quiet.example/hook', '{b.*}') \gset
SELECT endpoint_id AS other FROM webhooks.register_endpoint('https://other.example/hook', '{a.*}', tenant_id => 'acme') \gset

-- without a worker nothing is well, and it is said why
SELECT ok, reason, workers_running, workers_wanted, due, oldest_due IS NULL AS none_due, dead_letters FROM webhooks.health();

-- an attempt every second: 1 to 100 ms, the last ten failed in three ways
INSERT INTO webhooks.attempts (delivery_id, event_id, endpoint_id, tenant_id, url, attempt, attempted_at, duration_ms,
	outcome, status_code, error_class, error)
SELECT gen_random_uuid(), gen_random_uuid(), :'busy', '', 'https://busy.example/hook', 1,
	now() - interval '1 hour' + i * interval '1 second', i,
	CASE WHEN i <= 90 THEN 'succeeded' WHEN i <= 97 THEN 'retrying' ELSE 'dead_letter' END,
	CASE WHEN i <= 90 THEN 200 WHEN i <= 96 THEN 503 END,
	CASE WHEN i <= 90 THEN NULL WHEN i <= 96 THEN 'status' WHEN i = 97 THEN 'timeout' ELSE 'connect' END,
	CASE WHEN i > 90 THEN 'it said <no> & left "' || i || '"' END
FROM generate_series(1, 100) i;
-- what was cancelled was no request, and what is older than the period does not count
INSERT INTO webhooks.attempts (delivery_id, event_id, endpoint_id, tenant_id, url, attempt, attempted_at, duration_ms, outcome)
VALUES (gen_random_uuid(), gen_random_uuid(), :'busy', '', 'https://busy.example/hook', 0, now(), NULL, 'cancelled'),
	(gen_random_uuid(), gen_random_uuid(), :'busy', '', 'https://busy.example/hook', 1, now() - interval '2 days', 5000, 'succeeded');

SELECT url, total, succeeded, failed, success_rate, avg_ms, p50_ms, p95_ms, p99_ms, errors FROM webhooks.endpoint_stats();
SELECT url, total, success_rate, errors FROM webhooks.endpoint_stats(:'quiet');
SELECT url, total, avg_ms FROM webhooks.endpoint_stats(:'busy', '3 days');

-- what failed though its status was 200 is counted by its class
BEGIN;
INSERT INTO webhooks.attempts (delivery_id, event_id, endpoint_id, tenant_id, url, attempt, attempted_at, duration_ms, outcome, status_code, error_class)
SELECT gen_random_uuid(), gen_random_uuid(), :'other', 'acme', 'https://other.example/hook', 1, now(), 1, outcome, status, class
FROM (VALUES ('succeeded', 200, NULL), ('retrying', 200, 'timeout'), ('retrying', 200, 'protocol'), ('dead_letter', 206, 'protocol'), ('retrying', 503, 'protocol'), ('retrying', 302, 'redirect')) v(outcome, status, class);
SELECT url, total, failed, errors FROM webhooks.endpoint_stats(:'other');
ROLLBACK;

-- bad input
SELECT * FROM webhooks.endpoint_stats('00000000-0000-0000-0000-000000000000');
SELECT * FROM webhooks.endpoint_stats(period => '0');
SELECT * FROM webhooks.endpoint_stats(period => NULL);

-- what is due and dead is counted; what is held or not yet due is not
INSERT INTO webhooks.queue (delivery_id, event_id, endpoint_id, due_at)
SELECT gen_random_uuid(), gen_random_uuid(), e, now() + t
FROM unnest(ARRAY[:'busy', :'quiet', :'other']::uuid[]) e, unnest('{-10 minutes, -1 minute, 1 hour}'::interval[]) t;
SELECT webhooks.pause_endpoint(:'quiet');
INSERT INTO webhooks.dead_letters (delivery_id, event_id, endpoint_id, tenant_id, reason, attempts, dead_at)
VALUES (gen_random_uuid(), gen_random_uuid(), :'busy', '', 'exhausted', 9, '2026-01-02 03:04:05+00'),
	(gen_random_uuid(), gen_random_uuid(), :'other', 'acme', 'gone', 1, '2026-01-03 03:04:05+00');
SELECT ok, due, oldest_due BETWEEN '10 minutes' AND '1 hour' AS right_age, dead_letters FROM webhooks.health();
SELECT regexp_replace(reason, 'up to .*', 'up to …') FROM webhooks.health();
SET webhooks.tenant_id = 'acme';
SELECT due, dead_letters FROM webhooks.health();
RESET webhooks.tenant_id;

SELECT name, labels, value FROM webhooks.metrics() WHERE name <> 'webhooks_oldest_due_seconds' ORDER BY name, labels;
SELECT value BETWEEN 600 AND 3600 AS right_age FROM webhooks.metrics() WHERE name = 'webhooks_oldest_due_seconds';
SELECT count(*) FROM webhooks.pg_stat_webhooks;

-- what a receiver or an endpoint's own options hold back is remarked on, and no fault of this side
TRUNCATE webhooks.queue;
SELECT endpoint_id AS paced FROM webhooks.register_endpoint('https://paced.example/hook', '{c.*}', rate_limit => 0.1) \gset
SELECT endpoint_id AS ordered FROM webhooks.register_endpoint('https://ordered.example/hook', '{d.*}', ordering => 'endpoint') \gset
SELECT endpoint_id AS keyed FROM webhooks.register_endpoint('https://keyed.example/hook', '{e.*}', ordering => 'key') \gset
CREATE FUNCTION said() RETURNS text LANGUAGE sql AS $$
	SELECT regexp_replace(replace(string_agg(coalesce(e.description, w.word), ' ' ORDER BY w.n), 'webhooks.enabled is off; ', ''), 'up to [^;]* because', 'up to … because', 'g')
	FROM webhooks.health() h, regexp_split_to_table(h.reason, ' ') WITH ORDINALITY w(word, n)
	LEFT JOIN webhooks.endpoints e ON e.endpoint_id::text = w.word
$$;
UPDATE webhooks.endpoints SET description = split_part(url, '/', 3);
INSERT INTO webhooks.queue (delivery_id, event_id, endpoint_id, due_at, attempts, lane)
SELECT ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, gen_random_uuid(), e, now() + due, attempts, lane FROM (VALUES
	(1, :'paced'::uuid, interval '-10 minutes', 0, NULL), (2, :'paced', '-9 minutes', 0, NULL),
	(3, :'ordered', '1 hour', 2, 0), (4, :'ordered', '-8 minutes', 0, 0), (5, :'ordered', '-7 minutes', 0, 0),
	(6, :'keyed', '1 hour', 1, -5), (7, :'keyed', '-6 minutes', 0, -5), (8, :'keyed', '1 hour', 3, 7), (9, :'keyed', '-6 minutes', 0, 7)) v(n, e, due, attempts, lane);
SELECT said(), due FROM webhooks.health();
-- nor while that one is being tried
UPDATE webhooks.queue SET due_at = now() WHERE attempts > 0;
SELECT said(), due FROM webhooks.health();
-- what has its turn, or none to wait for, is late like any other
INSERT INTO webhooks.queue (delivery_id, event_id, endpoint_id, due_at, lane) VALUES (:'keyed', gen_random_uuid(), :'keyed', now() - interval '20 minutes', 6);
SELECT said() ~ '^deliveries have been due';
UPDATE webhooks.queue SET lane = NULL WHERE delivery_id = :'keyed';
SELECT said() ~ '^deliveries have been due';
DELETE FROM webhooks.queue WHERE delivery_id = :'keyed';
UPDATE webhooks.queue SET due_at = now() - interval '6 minutes' WHERE attempts = 2;
SELECT said() ~ '^deliveries have been due';
DELETE FROM webhooks.queue WHERE endpoint_id = :'ordered';
SELECT said();
-- of many the longest waiting are named, and a tenant's session is told of none but its own
INSERT INTO webhooks.queue (delivery_id, event_id, endpoint_id, due_at)
SELECT gen_random_uuid(), gen_random_uuid(), (webhooks.register_endpoint('https://many' || i || '.example/hook', '{f.*}', description => 'many' || i, rate_limit => 1)).endpoint_id,
	now() - i * interval '1 hour' FROM generate_series(1, 4) i;
SELECT said();
SET webhooks.tenant_id = 'acme';
SELECT said();
RESET webhooks.tenant_id;
DROP FUNCTION said();

-- the page is well-formed, and shows nothing that a receiver or a tenant wrote as markup
SELECT xmlparse(DOCUMENT regexp_replace(replace(page, '<!DOCTYPE html>', ''), '<meta[^>]*>', '', 'g')) IS NOT NULL AS well_formed,
	page LIKE '%it said &lt;no&gt; &amp; left &quot;100&quot;%' AS escaped,
	page NOT LIKE '%<no>%' AND page NOT LIKE '%<2>%' AS nothing_raw,
	page LIKE '%Needs attention%' AS state
FROM webhooks.report_html() page;

-- it shows the endpoints with most failures, whose they are and their state, and says how many it leaves out
SELECT webhooks.disable_endpoint(:'other', 'too <slow>');
INSERT INTO webhooks.attempts (delivery_id, event_id, endpoint_id, tenant_id, url, attempt, attempted_at, duration_ms, outcome)
SELECT gen_random_uuid(), gen_random_uuid(), endpoint_id, tenant_id, url, 1, now(), 1, 'retrying' FROM webhooks.endpoints WHERE endpoint_id IN (:'other', :'quiet');
SELECT regexp_replace(substring(page, '<tr><td>https://(?:(?!</tr>).)*' || host || '(?:(?!</tr>).)*</tr>'), '</?t[dr]>', ' ', 'g')
FROM webhooks.report_html() page, unnest('{busy,other,quiet}'::text[]) host;
SELECT page !~ 'and -?[0-9]+ more<' FROM webhooks.report_html() page;
INSERT INTO webhooks.attempts (delivery_id, event_id, endpoint_id, tenant_id, url, attempt, attempted_at, duration_ms, outcome)
SELECT gen_random_uuid(), gen_random_uuid(), (webhooks.register_endpoint('https://many' || i || '.example/hook', '{f.*}')).endpoint_id, '', 'https://many.example/hook', 1, now(), 1, 'succeeded'
FROM generate_series(1, 50) i;
SELECT substring(page, 'and [0-9]+ more<'), regexp_count(page, '<tr><td>https://') FROM webhooks.report_html() page;

-- one secret is
DELETE FROM webhooks.endpoint_secrets WHERE endpoint_id <> :'busy';
SELECT substring(reason, '[^; ][^;]*unencrypted') FROM webhooks.health();

SELECT count(webhooks.remove_endpoint(endpoint_id)) FROM webhooks.endpoints;
CALL leave_nothing();
