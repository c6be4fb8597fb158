-- What dispatch takes, what it writes, and what it refuses before anything is written.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
SELECT endpoint_id AS a FROM webhooks.register_endpoint('https://example.com/a', '{a}', description => 'a') \gset
SELECT endpoint_id AS b FROM webhooks.register_endpoint('https://example.com/b', '{a,b}', description => 'b') \gset
SELECT endpoint_id AS t FROM webhooks.register_endpoint('https://example.com/t', '{a}', 'acme', description => 't') \gset
CREATE FUNCTION receivers(event uuid) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(e.description, ' ' ORDER BY e.endpoint_id), 'none')
	FROM webhooks.queue q JOIN webhooks.endpoints e USING (endpoint_id) WHERE q.event_id = event
$$;

-- The event as stored, and its deliveries: due at once, none attempted.
SELECT webhooks.dispatch('a', '{"n": 1, "t": "ü"}') AS event \gset
SELECT :'event' ~ '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab]';
SELECT tenant_id = '', event_type, payload, occurred_at = created_at, created_at BETWEEN now() - interval '1 minute' AND now() + interval '1 second'
FROM webhooks.events WHERE event_id = :'event';
SELECT description, due_at = (SELECT created_at FROM webhooks.events WHERE event_id = :'event'), attempts
FROM webhooks.queue JOIN webhooks.endpoints USING (endpoint_id) WHERE event_id = :'event' ORDER BY endpoint_id;

-- A delivery's id has its event's time in front and is another for each endpoint.
SELECT count(DISTINCT delivery_id), bool_and(left(delivery_id::text, 18) = left(:'event', 18)), bool_or(delivery_id = :'event')
FROM webhooks.queue WHERE event_id = :'event';
SELECT bool_and(delivery_id BETWEEN low AND high), count(*) FROM webhooks.queue, webhooks.delivery_id_range(event_id) WHERE event_id = :'event';

-- Any JSON is a payload.
SELECT p, tried(format('SELECT webhooks.dispatch(''a'', %L)', p)) FROM unnest('{"null",1,true,"\"text\"","[]","{}","[1, {\"a\": null}]"}'::text[]) p;

-- Ids sort in the order of dispatch, also within a transaction.
CREATE TEMPORARY TABLE dispatched AS SELECT n, webhooks.dispatch('none', '{}') AS id FROM generate_series(1, 5000) n;
SELECT count(DISTINCT id), bool_and(ordered) FROM (SELECT id, id > lag(id) OVER (ORDER BY n) IS NOT FALSE AS ordered FROM dispatched) o;

-- An endpoint gets what its own tenant dispatches.
SELECT receivers(webhooks.dispatch('a', '{}')) AS none, receivers(webhooks.dispatch('a', '{}', '')) AS empty;
SELECT webhooks.dispatch('a', '{}', 'acme') AS event \gset
SELECT receivers(:'event'), tenant_id FROM webhooks.events WHERE event_id = :'event';
SELECT webhooks.dispatch('a', '{}', 'acme2') AS event \gset
SELECT receivers(:'event'), tenant_id FROM webhooks.events WHERE event_id = :'event';

-- endpoint_ids: just those, whatever they subscribed to, each once.
SELECT webhooks.dispatch('x', '{}', endpoint_ids => ARRAY[:'a']::uuid[]) AS event \gset
SELECT receivers(:'event');
SELECT webhooks.dispatch('a', '{}', endpoint_ids => ARRAY[:'b', :'a', :'b', :'a', :'a']::uuid[]) AS event \gset
SELECT receivers(:'event');
SELECT webhooks.dispatch('a', '{}', endpoint_ids => '{}') AS event \gset
SELECT receivers(:'event');
SELECT webhooks.dispatch('x', '{}', 'acme', ARRAY[:'t']::uuid[]) AS event \gset
SELECT receivers(:'event');
SELECT tried(format('SELECT webhooks.dispatch(''a'', ''{}'', endpoint_ids => ARRAY[%s]::uuid[])', ids)) FROM unnest(ARRAY[
	format('%L, NULL', :'a'), 'NULL', quote_literal(gen_random_uuid()), format('%L, %L', :'a', gen_random_uuid()), quote_literal(:'t')
]) ids;
SELECT tried(format('SELECT webhooks.dispatch(''a'', ''{}'', %L, ARRAY[%L]::uuid[])', 'acme', :'a'));

-- A disabled endpoint takes nothing new, not even by name; a paused one does.
SELECT webhooks.disable_endpoint(:'a'), webhooks.pause_endpoint(:'b');
SELECT webhooks.dispatch('a', '{}') AS event, webhooks.dispatch('a', '{}', endpoint_ids => ARRAY[:'a', :'b']::uuid[]) AS event2 \gset
SELECT receivers(:'event'), receivers(:'event2');
SELECT webhooks.enable_endpoint(:'a'), webhooks.resume_endpoint(:'b');

-- deliver_at puts the deliveries off; a time that is over means now. occurred_at is kept as given.
SELECT webhooks.dispatch('b', '{}', deliver_at => '2999-01-01 00:00+00') AS event \gset
SELECT due_at = '2999-01-01 00:00+00' FROM webhooks.queue WHERE event_id = :'event';
SELECT webhooks.dispatch('b', '{}', deliver_at => '2001-01-01 00:00+00') AS event \gset
SELECT due_at = created_at FROM webhooks.queue JOIN webhooks.events USING (event_id) WHERE event_id = :'event';
SELECT webhooks.dispatch('b', '{}', occurred_at => '2001-02-03 04:05:06.789012+00') AS event \gset
SELECT occurred_at = '2001-02-03 04:05:06.789012+00', created_at > now() - interval '1 minute', due_at = created_at
FROM webhooks.queue JOIN webhooks.events USING (event_id) WHERE event_id = :'event';

-- What is refused, and writes nothing.
SELECT count(*) AS events_before FROM webhooks.events \gset
SELECT count(*) AS queued_before FROM webhooks.queue \gset
SELECT c, tried('SELECT webhooks.dispatch(' || c || ')') FROM unnest(ARRAY[
	$$NULL, '{}'$$, $$'a', NULL$$, $$'a b', '{}'$$, $$'a.*', '{}'$$, $$'a', '{}', repeat('x', 256)$$,
	$$'a', '{}', deliver_at => 'infinity'$$, $$'a', '{}', deliver_at => '-infinity'$$, $$'a', '{}', occurred_at => 'infinity'$$,
	$$'a', '{}', idempotency_key => ''$$, $$'a', '{}', idempotency_key => repeat('x', 256)$$, $$'a', '{}', ordering_key => ''$$, $$'a', '{}', ordering_key => repeat('x', 513)$$,
	$$'a', '{}', coalesce_key => ''$$, $$'a', '{}', coalesce_key => repeat('x', 256)$$, $$'a', '{}', expires_at => 'infinity'$$, $$'a', '{}', expires_at => '2020-01-01'$$,
	$$'a', '{}', expires_at => '2999-01-01', deliver_at => '2999-01-01'$$, $$'a', '{}', headers => '[]'$$, $$'webhooks.a', '{}'$$
]) c;

-- The size that counts is the text that is sent, not what is stored: 256 kB of it, quotes and escapes included.
SELECT n, tried(format('SELECT webhooks.dispatch(''a'', to_jsonb(repeat(''x'', %s)))', n)) FROM unnest('{262143,10000000}'::integer[]) n;
SELECT tried('SELECT webhooks.dispatch(''a'', ''[1e100000, 1e100000, 1e100000]'')');
SELECT tried('SELECT webhooks.dispatch(''a'', to_jsonb(repeat(E''\t'', 131072)))');
-- Nor is more of it made than it takes to know: the last one would be two gigabytes.
SELECT n, tried(format('SELECT webhooks.dispatch(''a'', (''['' || repeat(''1e99999,'', %s) || ''0]'')::jsonb)', n)) FROM unnest('{3,20000}'::integer[]) n;
SELECT count(*) - :events_before FROM webhooks.events;
SELECT count(*) - :queued_before FROM webhooks.queue;
SELECT n, tried(format('SELECT webhooks.dispatch(''a'', to_jsonb(repeat(''x'', %s)))', n)) FROM unnest('{262142}'::integer[]) n;

-- Lanes: what dispatch writes is what webhooks.lane says, which a replay uses.
SELECT count(webhooks.register_endpoint('https://example.com/' || o, '{lane}', description => o, ordering => o))
FROM unnest('{none,endpoint,key}'::text[]) o;
SELECT count(webhooks.dispatch('lane', '{}', ordering_key => k)) FROM unnest('{NULL,a,schlüssel}'::text[]) k;
SELECT e.ordering, ev.ordering_key, q.lane IS NULL AS unordered, q.lane IS NOT DISTINCT FROM webhooks.lane(e.ordering, ev.ordering_key) AS same
FROM webhooks.queue q JOIN webhooks.events ev USING (event_id) JOIN webhooks.endpoints e USING (endpoint_id)
WHERE ev.event_type = 'lane' AND e.event_types = '{lane}' ORDER BY 1, 2;

-- store_unmatched: whether an event that nobody takes is kept. Its id is handed out all the same.
SELECT webhooks.dispatch('nobody', '{}') AS event \gset
SELECT count(*) FROM webhooks.events WHERE event_id = :'event';
ALTER SYSTEM SET webhooks.store_unmatched = off;
ALTER SYSTEM SET webhooks.max_payload_size = '10 B';
SELECT pg_reload_conf();
\c -
SELECT webhooks.dispatch('nobody', '{}') AS event, webhooks.dispatch('b', '{}') AS event2 \gset
SELECT :'event' ~ '^[0-9a-f]{8}-[0-9a-f]{4}-7', count(*) FROM webhooks.events WHERE event_id = :'event';
SELECT count(*), receivers(:'event2') FROM webhooks.events WHERE event_id = :'event2';
SELECT p, tried(format('SELECT webhooks.dispatch(''b'', %L)', p)) FROM unnest('{"\"12345678\"","\"123456789\""}'::text[]) p;
-- what was queued under a larger limit is not lost to a smaller one
SELECT count(*) > 0 FROM webhooks.queue JOIN webhooks.events USING (event_id) WHERE length(payload::text) > 10;
ALTER SYSTEM RESET webhooks.store_unmatched;
ALTER SYSTEM RESET webhooks.max_payload_size;
SELECT pg_reload_conf();

CALL leave_nothing();
DROP FUNCTION receivers(uuid);
