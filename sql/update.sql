-- update_endpoint: every option, what NULL and reset mean, what it refuses, and what becomes of deliveries in order.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
CREATE FUNCTION tried_to_update(id uuid, arguments text) RETURNS text LANGUAGE sql AS $$
	SELECT tried(format('SELECT webhooks.update_endpoint(%L, %s)', id, arguments))
$$;
SELECT endpoint_id AS id FROM webhooks.register_endpoint('https://example.com/before') \gset
SELECT endpoint_id AS other FROM webhooks.register_endpoint('https://example.com/other', description => 'untouched') \gset
CREATE TEMPORARY TABLE registered AS SELECT * FROM webhooks.endpoints WHERE endpoint_id = :'id';

-- It has the arguments of register_endpoint in the same order, less tenant_id and secret.
SELECT (SELECT string_agg(name, ',' ORDER BY n) FROM pg_proc, unnest(proargnames) WITH ORDINALITY a(name, n)
	WHERE proname = 'register_endpoint' AND n <= pronargs AND name NOT IN ('tenant_id', 'secret')) || ',reset' =
	(SELECT string_agg(name, ',' ORDER BY n) FROM pg_proc, unnest(proargnames) WITH ORDINALITY a(name, n)
	WHERE proname = 'update_endpoint' AND n <= pronargs AND name <> 'endpoint_id');

-- Each can be changed, and what was not named stays.
SELECT webhooks.update_endpoint(:'id', 'https://example.com/after?x=1', '{order.*}', 'changed', headers => '{"X-A": "b"}',
	retry_schedule => '{1s,2s}', retry_on => '5xx', timeout => '2s', rate_limit => 5, max_in_flight => 7, ordering => 'key', metadata => '{"m": 1}');
\x on
SELECT tenant_id, url, event_types, state, description, headers, signature_schemes, payload_format, retry_schedule, retry_on, timeout, rate_limit,
	max_in_flight, ordering, metadata, updated_at > created_at AS updated
FROM webhooks.endpoints WHERE endpoint_id = :'id';
\x off
SELECT description, updated_at = created_at FROM webhooks.endpoints WHERE endpoint_id = :'other';
SELECT webhooks.update_endpoint(:'id', timeout => '3s');
SELECT url, timeout, rate_limit, ordering FROM webhooks.endpoints WHERE endpoint_id = :'id';

-- What changes nothing writes nothing: the row is the very same.
SELECT ctid AS place, updated_at AS updated FROM webhooks.endpoints WHERE endpoint_id = :'id' \gset
SELECT webhooks.update_endpoint(:'id');
SELECT webhooks.update_endpoint(:'id', timeout => '3000 ms', description => 'changed', headers => '{"X-A": "b"}', metadata => '{"m": 1}', reset => '{}');
SELECT ctid = :'place', updated_at = :'updated' FROM webhooks.endpoints WHERE endpoint_id = :'id';

-- Reset: back to what registering gives, one by one and all of them.
SELECT webhooks.update_endpoint(:'id', url => 'https://example.com/before', reset => '{timeout,rate_limit}');
SELECT url, timeout, rate_limit, max_in_flight FROM webhooks.endpoints WHERE endpoint_id = :'id';
SELECT webhooks.update_endpoint(:'id', reset => '{event_types,description,filter,headers,signature_schemes,payload_format,api_version,retry_schedule,retry_on,timeout,rate_limit,max_in_flight,ordering,client_certificate,client_key,metadata}');
SELECT to_jsonb(e) - 'updated_at' = to_jsonb(r) - 'updated_at' FROM webhooks.endpoints e, registered r WHERE e.endpoint_id = :'id';

-- What is refused, by the rules of register_endpoint; and nothing of the call is done.
SELECT ctid AS place FROM webhooks.endpoints WHERE endpoint_id = :'id' \gset
SELECT a, tried_to_update(:'id', a) FROM unnest(ARRAY[
	$$url => 'http://example.com/'$$, $$url => ''$$, $$event_types => '{}'$$, $$event_types => '{a*}'$$, $$headers => '[]'$$, $$headers => '{"Host": "x"}'$$,
	$$retry_schedule => '{-1s}'$$, $$retry_on => 'all'$$, $$timeout => '0'$$, $$rate_limit => 0$$, $$max_in_flight => 0$$, $$ordering => 'random'$$,
	$$metadata => '[]'$$, $$signature_schemes => '{}'$$, $$payload_format => 'xml'$$, $$description => 'given', timeout => '2 hours'$$
]) a;
SELECT a, tried_to_update(:'id', 'reset => ' || a) FROM unnest(ARRAY[
	$$'{url}'$$, $$'{tenant_id}'$$, $$'{secret}'$$, $$'{state}'$$, $$'{TIMEOUT}'$$, $$'{""}'$$, $$'{NULL}'$$, $$'{timeout,timeout}'$$, $$'{timeout}', timeout => '1s'$$
]) a;
SELECT ctid = :'place' FROM webhooks.endpoints WHERE endpoint_id = :'id';

-- No such endpoint; another tenant's; NULL.
SELECT tried_to_update(gen_random_uuid(), 'timeout => ''1s'''), tried('SELECT webhooks.update_endpoint(NULL)');
SET webhooks.tenant_id = 'acme';
SELECT tried_to_update(:'id', 'timeout => ''1s''');
RESET webhooks.tenant_id;

-- A target of dispatch_to_urls is not registered.
UPDATE webhooks.endpoints SET registered = false WHERE endpoint_id = :'other';
SELECT tried_to_update(:'other', 'timeout => ''1s''');

-- Rolled back.
BEGIN;
SELECT webhooks.update_endpoint(:'id', timeout => '1s');
ROLLBACK;
SELECT timeout FROM webhooks.endpoints WHERE endpoint_id = :'id';

-- A new ordering holds for what is queued: its lanes are those of the ordering.
SELECT count(webhooks.dispatch('e', '{}', endpoint_ids => ARRAY[:'id']::uuid[], ordering_key => k)) FROM unnest('{a,b,a,NULL}'::text[]) k;
CREATE FUNCTION lanes(id uuid) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(coalesce(dense::text, '-'), ' ' ORDER BY delivery_id)
	FROM (SELECT q.delivery_id, CASE WHEN lane IS NOT NULL THEN dense_rank() OVER (ORDER BY lane = webhooks.lane('key', 'b'), lane) END AS dense
		FROM webhooks.queue q WHERE endpoint_id = id) q
$$;
SELECT lanes(:'id');
SELECT webhooks.update_endpoint(:'id', ordering => 'key');
SELECT lanes(:'id'), bool_and(lane IS NOT DISTINCT FROM webhooks.lane('key', ordering_key)) FROM webhooks.queue q JOIN webhooks.events USING (event_id);
SELECT webhooks.update_endpoint(:'id', ordering => 'endpoint');
SELECT lanes(:'id'), array_agg(DISTINCT lane) FROM webhooks.queue;
SELECT webhooks.update_endpoint(:'id', reset => '{ordering}');
SELECT lanes(:'id');

-- exponential_backoff: so many attempts, one wait fewer, none longer than the maximum.
SELECT webhooks.exponential_backoff('5s', 2, '1 minute', 7);
SELECT webhooks.exponential_backoff('1s', 1, '1s', 4), webhooks.exponential_backoff('1s', 2, '1h', 1), webhooks.exponential_backoff('100 ms', 1.5, '1 day', 4);
SELECT cardinality(s), s[100] FROM webhooks.exponential_backoff('1 ms', 1000, '366 days', 101) s;
SELECT webhooks.update_endpoint(:'id', retry_schedule => webhooks.exponential_backoff('1s', 3, '1 day', 4));
SELECT retry_schedule FROM webhooks.endpoints WHERE endpoint_id = :'id';
SELECT provolatile, proparallel FROM pg_proc WHERE proname = 'exponential_backoff';
SELECT a, tried('SELECT webhooks.exponential_backoff(' || a || ')') FROM unnest(ARRAY[
	$$NULL, 2, '1h', 3$$, $$'0', 2, '1h', 3$$, $$'-1s', 2, '1h', 3$$, $$'367 days', 2, '400 days', 3$$,
	$$'1s', NULL, '1h', 3$$, $$'1s', 0.5, '1h', 3$$, $$'1s', 'NaN', '1h', 3$$, $$'1s', 1001, '1h', 3$$, $$'1s', 'Infinity', '1h', 3$$,
	$$'1s', 2, NULL, 3$$, $$'2s', 2, '1s', 3$$, $$'1s', 2, '367 days', 3$$,
	$$'1s', 2, '1h', NULL$$, $$'1s', 2, '1h', 0$$, $$'1s', 2, '1h', 102$$
]) a;

CALL leave_nothing();
DROP FUNCTION lanes(uuid);
DROP FUNCTION tried_to_update(uuid, text);
