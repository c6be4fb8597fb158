-- What can be read: the columns of the contract, the states of deliveries, and the log of attempts.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
SET jit = off;

-- The contract's columns and their types. Others may stand beside them.
SELECT r.name, string_agg(c.name || ' ' || coalesce(format_type(a.atttypid, a.atttypmod), 'MISSING'), ', ' ORDER BY c.n)
FROM (VALUES
	(1, 'endpoints', 'endpoint_id,tenant_id,url,event_types,state,disabled_reason,created_at,updated_at,description,filter,headers,signature_schemes,payload_format,api_version,retry_schedule,retry_on,timeout,rate_limit,max_in_flight,ordering,metadata'),
	(2, 'events', 'event_id,tenant_id,event_type,payload,occurred_at,created_at'),
	(3, 'queue', 'delivery_id,event_id,endpoint_id,due_at,attempts'),
	(4, 'attempts', 'delivery_id,event_id,endpoint_id,tenant_id,attempt,attempted_at,duration_ms,outcome,status_code,error_class,error,response_headers,response_body,remote_address,next_attempt_at'),
	(5, 'dead_letters', 'delivery_id,event_id,endpoint_id,tenant_id,reason,attempts,last_status_code,error_class,last_error,dead_at'),
	(6, 'deliveries', 'delivery_id,event_id,endpoint_id,tenant_id,event_type,url,state,attempts,last_status_code,error_class,last_error,next_attempt_at,created_at,completed_at'),
	(7, 'delivery_log', 'delivery_id,event_id,endpoint_id,tenant_id,attempt,attempted_at,duration_ms,outcome,status_code,error_class,error,response_headers,response_body,remote_address,next_attempt_at,event_type,url'),
	(8, 'in_flight', 'delivery_id,endpoint_id,started_at,worker_pid'),
	(9, 'endpoint_breakers', 'endpoint_id,state,since,next_probe_at,worker_pid')
) r(n, name, columns) CROSS JOIN unnest(string_to_array(columns, ',')) WITH ORDINALITY c(name, n)
LEFT JOIN pg_attribute a ON a.attrelid = to_regclass('webhooks.' || r.name) AND a.attname = c.name AND NOT a.attisdropped
GROUP BY r.n, r.name ORDER BY r.n;

-- One delivery of each kind, written by hand, for no receiver answers here. Ids are made of the kind's number.
CREATE FUNCTION id(n integer) RETURNS uuid LANGUAGE sql AS $$ SELECT ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
SELECT endpoint_id AS active FROM webhooks.register_endpoint('https://example.com/active', '{none}') \gset
SELECT endpoint_id AS paused FROM webhooks.register_endpoint('https://example.com/paused', '{none}', 'acme') \gset
SELECT endpoint_id AS disabled FROM webhooks.register_endpoint('https://example.com/disabled', '{none}') \gset
SELECT webhooks.pause_endpoint(:'paused'), webhooks.disable_endpoint(:'disabled');
INSERT INTO webhooks.events SELECT id(n), CASE n WHEN 3 THEN 'acme' ELSE '' END, kind, '{}', '2026-01-01 00:00+00', '2026-01-01 00:00+00' FROM (VALUES
	(1, 'pending'), (2, 'retrying'), (3, 'paused'), (4, 'disabled'), (5, 'succeeded'), (6, 'succeeded.later'), (7, 'dead'), (8, 'cancelled'),
	(9, 'cancelled.answered'), (10, 'replayed'), (11, 'discarded'), (12, 'removed')) v(n, kind);
INSERT INTO webhooks.queue SELECT id(n), id(n), endpoint, '2999-01-01 00:00+00', attempts FROM (VALUES
	(1, :'active'::uuid, 0), (2, :'active', 2), (3, :'paused', 0), (4, :'disabled', 1), (10, :'active', 0)) v(n, endpoint, attempts);
INSERT INTO webhooks.attempts (delivery_id, event_id, endpoint_id, tenant_id, url, attempt, attempted_at, duration_ms, outcome, status_code, error_class, error, response_headers, response_body, next_attempt_at)
SELECT id(n), id(n), CASE n WHEN 4 THEN :'disabled' WHEN 12 THEN id(12) ELSE :'active' END::uuid, '', CASE n WHEN 12 THEN 'https://example.com/removed' ELSE 'https://example.com/then' END, attempt,
	timestamptz '2026-01-01 00:00+00' + second * interval '1 second', duration, outcome, status, class, error, CASE WHEN status IS NOT NULL THEN '{"server": "x"}'::jsonb END, CASE WHEN status IS NOT NULL THEN 'body' END,
	CASE outcome WHEN 'retrying' THEN timestamptz '2026-01-01 00:00+00' + (second + 60) * interval '1 second' END
FROM (VALUES
	(2, 1, 1, 10, 'retrying', 500, 'status', 'first'), (2, 2, 61, 20, 'retrying', NULL, 'timeout', 'second'),
	(4, 1, 2, 10, 'retrying', 503, 'status', 'busy'),
	(5, 1, 3, 10, 'succeeded', 204, NULL, NULL),
	(6, 1, 4, 10, 'retrying', 500, 'status', 'first'), (6, 2, 64, 30, 'succeeded', 200, NULL, NULL),
	(7, 1, 5, 10, 'dead_letter', 404, 'status', 'not found'),
	(8, 0, 6, NULL, 'cancelled', NULL, NULL, NULL),
	-- cancelled at second 8, while the request begun at 7 was under way; the answer came at 9
	(9, 1, 7, 2000, 'succeeded', 200, NULL, NULL), (9, 0, 8, NULL, 'cancelled', NULL, NULL, NULL),
	(10, 1, 10, 10, 'dead_letter', 404, 'status', 'not found'),
	(11, 1, 11, 10, 'dead_letter', 400, 'status', 'bad'),
	(12, 0, 12, NULL, 'cancelled', NULL, NULL, NULL)
) v(n, attempt, second, duration, outcome, status, class, error);
INSERT INTO webhooks.dead_letters VALUES (id(7), id(7), :'active', '', 'permanent', 1, 404, 'status', 'not found', '2026-01-01 00:00:05.01+00');
-- one whose event is past retention, one whose endpoint and event are
INSERT INTO webhooks.attempts (delivery_id, event_id, endpoint_id, tenant_id, url, attempt, attempted_at, duration_ms, outcome, status_code)
VALUES (id(13), id(13), :'active', '', 'https://example.com/then', 1, '2025-01-01 00:00+00', 1, 'succeeded', 200),
	(id(14), id(14), id(14), 'older', 'https://example.com/gone', 3, '2024-01-01 00:00+00', 1, 'succeeded', 200);

\pset format aligned
\pset tuples_only off
SET timezone = 'UTC';
SET datestyle = 'ISO';
SELECT event_type, state, attempts, last_status_code AS status, error_class, last_error, replace(url, 'https://example.com', '') AS url, tenant_id AS tenant,
	to_char(next_attempt_at, 'YYYY') AS next, to_char(created_at, 'YYYY') AS created, to_char(completed_at, 'YYYY-MM-DD HH24:MI:SS.MS') AS completed_at
FROM webhooks.deliveries ORDER BY delivery_id;
SELECT delivery_id = id(10) AS ok, state, attempts FROM webhooks.dispatch_status(id(10));
SELECT attempted_at, event_type, replace(url, 'https://example.com', '') AS url, attempt, outcome, status_code AS status, error_class, error, duration_ms AS ms, next_attempt_at, response_body AS body, tenant_id AS tenant
FROM webhooks.delivery_log ORDER BY attempted_at DESC;
SELECT count(*) AS in_flight FROM webhooks.in_flight;

-- One row a delivery.
SELECT count(*) = count(DISTINCT delivery_id) AS one_each, count(*) FROM webhooks.deliveries;

CALL leave_nothing();
DROP FUNCTION id(integer);
