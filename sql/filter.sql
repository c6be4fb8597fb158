-- Filters: which jsonpaths are taken, whom they let through, and that none fails a dispatch.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
CREATE FUNCTION receivers(event uuid) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(e.description, ' ' ORDER BY e.endpoint_id), 'none')
	FROM webhooks.queue q JOIN webhooks.endpoints e USING (endpoint_id) WHERE q.event_id = event
$$;

-- What is a filter: a predicate, or a path with a condition, which asks whether there is such a thing.
SELECT f, tried(format('SELECT webhooks.register_endpoint(''https://example.com/'', ''{never}'', filter => %L)', f)) FROM unnest(ARRAY[
	'$.amount > 100', '$.a == 1 && $.b == "x" || !($.c == 2)', 'exists($.a)', '$.name starts with "a"', '$.name like_regex "^a"',
	'($.a > 1) is unknown', 'strict $.a > 1', '$.items[*] ? (@.price > 5)', '$.items[*] ? (@.price > 5).name', '$ ? (@.a == 1)',
	'$', '$.active', '$.items[*].price', '$.a + 1', '1', 'true', '"text"', 'null', '($.a > 1).type()', '$.a > $limit', '$.a ? (@ > $limit)', '$.a[$i] == 1'
]) f;

-- One that could exhaust the stack, or run for minutes, is refused. In a pattern without special characters, and after a
-- backslash that stands for itself, a digit refers to nothing.
SELECT n, tried(format('SELECT webhooks.register_endpoint(''https://example.com/'', ''{never}'', filter => %L)', f)) FROM (VALUES
	('996 steps', '$.a' || repeat('[0]', 996) || ' > 0'), ('997 steps', '$.a' || repeat('[0]', 997) || ' > 0'), ('5000 steps', '$.a' || repeat('[0]', 5000) || ' > 0'),
	('998 negations', repeat('!(', 998) || '1 == 1' || repeat(')', 998)), ('999 negations', repeat('!(', 999) || '1 == 1' || repeat(')', 999)),
	('a list', '$.a == 0' || repeat(' || $.a == 1', 990)), ('a long list', '$.a == 0' || repeat(' || $.a == 1', 1000)),
	('nested subscripts', '$.a' || repeat('[$.a', 500) || repeat(']', 500) || ' > 0'), ('nested conditions', '$' || repeat(' ? (exists(@', 500) || repeat('))', 500))
) v(n, f);
SELECT f, tried(format('SELECT webhooks.register_endpoint(''https://example.com/'', ''{never}'', filter => %L)', f)) FROM unnest(ARRAY[
	'$.a like_regex "^(.+)(.+)(.+)(.+)\\1\\2\\3\\4$"', '$.a ? (exists(@[*] ? (@.b like_regex "(.)\\1" flag "i")))', '$.a like_regex "(?b)\\(.\\)\\1"',
	'$.a like_regex "(.)\\1" flag "q"', '$.a like_regex "(.)\\\\1"', '$.a like_regex "***=(.)\\1"', '$.a like_regex "(.)[\\d1]"'
]) f;

-- Whom they let through
CREATE TEMPORARY TABLE filters (n integer GENERATED ALWAYS AS IDENTITY, filter jsonpath);
INSERT INTO filters (filter) SELECT f::jsonpath FROM unnest(ARRAY[
	'$.amount > 100', 'strict $.amount > 100', '$.items[*] ? (@.price > 5)', 'exists($.items[*] ? (@.price > 5))', '$.items[*].price > 5',
	'$.amount / $.zero > 1', '$.at.datetime() > "2026-01-01".datetime()', '$.at.datetime("bad#template") > "2026-01-01".datetime()',
	'$.name like_regex "^a.*z$"', '$.** == 7', '!($.amount > 100)', '($.missing > 1) is unknown', '$ == 5', '$.a.b.c == null', '$.amount.keyvalue().value > 1'
]) f;
SELECT count(webhooks.register_endpoint('https://example.com/' || n, '{f}', description => n::text, filter => filter)) FROM filters;
SELECT count(webhooks.register_endpoint('https://example.com/all', '{f}', description => 'all'));
SELECT p, receivers(webhooks.dispatch('f', p::jsonb)) FROM unnest(ARRAY[
	'{}', '{"amount": 101}', '{"amount": 100}', '{"amount": "101"}', '{"amount": null}', '{"amount": [1, 200]}', '{"amount": 500, "zero": 0}',
	'{"items": [{"price": 1}, {"price": 6}]}', '{"items": [{"price": 1}]}', '{"items": {"price": 9}}', '{"items": "x"}',
	'{"at": "2026-06-01"}', '{"at": "2025-06-01"}', '{"at": "2026-06-01T00:00:00+00"}', '{"at": 7}', '{"at": "junk"}',
	'{"name": "abcz"}', '{"name": "xz"}', '{"deep": {"er": [1, [7]]}}', '5', 'null', '"text"', '[]', '{"a": {"b": {"c": null}}}'
]) p;

-- one as deeply nested as can be, which no filter may choke on
SELECT receivers(webhooks.dispatch('f', (repeat('[', 5000) || '7' || repeat(']', 5000))::jsonb)) LIKE '%all';

-- as deep a filter as can be, on what it finds and what it does not; and a number that rounding makes too large
SELECT count(webhooks.register_endpoint('https://example.com/' || n, '{d}', description => n, filter => f::jsonpath)) FROM (VALUES
	('deep', '$.a' || repeat('[0]', 996) || ' > 0'), ('nested', '$.a' || repeat('[$.a', 300) || repeat(']', 300) || ' == 0'),
	('ceiling', '$.a.ceiling() > 1'), ('floor', '$.a.floor() < 1')) v(n, f);
SELECT n, receivers(webhooks.dispatch('d', jsonb_build_object('a', a))) FROM (VALUES
	('a number', '7'::jsonb), ('none', 'null'), ('zero', '0'), ('nines', (repeat('9', 131072) || '.9')::jsonb), ('negative nines', ('-' || repeat('9', 131072) || '.9')::jsonb)) v(n, a);
-- what there is no room for is a no
SET max_stack_depth = '300kB';
SELECT receivers(webhooks.dispatch('d', '{"a": 7}')), receivers(webhooks.dispatch('d', '{"a": 0}'));
RESET max_stack_depth;

-- An event that no filter lets through is kept, and has no deliveries.
SELECT count(webhooks.register_endpoint('https://example.com/never', '{g}', description => 'g', filter => '$.a == 1'));
SELECT webhooks.dispatch('g', '{"a": 2}') AS event \gset
SELECT count(*), (SELECT count(*) FROM webhooks.dispatch_status(:'event')) FROM webhooks.events WHERE event_id = :'event';

-- endpoint_ids names exactly who gets an event: neither event types nor filters count.
SELECT receivers(webhooks.dispatch('h', '{"a": 2}', endpoint_ids => array_agg(endpoint_id))) FROM webhooks.endpoints WHERE description IN ('g', 'all');

-- A filter that is changed counts at once, one that is taken away no more.
UPDATE webhooks.endpoints SET filter = '$.a == 2' WHERE description = 'g';
SELECT receivers(webhooks.dispatch('g', '{"a": 2}')), receivers(webhooks.dispatch('g', '{"a": 1}'));
UPDATE webhooks.endpoints SET filter = NULL WHERE description = 'g';
SELECT receivers(webhooks.dispatch('g', '{"a": 2}')), receivers(webhooks.dispatch('g', '{"a": 1}'));
UPDATE webhooks.endpoints SET filter = '$.a == 2' WHERE description = 'g';

-- A raw event is asked as what its body says in JSON, if its content type says JSON.
SELECT b, t, receivers(webhooks.dispatch_raw('g', convert_to(b, 'UTF8'), t)) FROM (VALUES
	('{"a": 2}', 'application/json'), (' {"a" : 2.0 } ', 'application/vnd.acme+json; v=1'), ('{"a": 2}', 'text/plain'),
	('{"a": 1}', 'application/json'), ('{"a": 2', 'application/json'), ('', 'application/json'), ('{"a": "\u0000"}', 'application/json')
) v(b, t);
SELECT receivers(webhooks.dispatch_raw('g', '\x7b2261223a32ff7d')), receivers(webhooks.dispatch_raw('g', '\x7b2261223a327d00')),
	receivers(webhooks.dispatch_raw('g', '\x7b2261223a327d'));

-- What an evaluation is undone with is nothing but itself.
BEGIN;
SELECT webhooks.dispatch('f', '{"at": "2026-06-01T00:00:00+00"}') AS event \gset
COMMIT;
SELECT receivers(:'event');

-- A cancelled evaluation is not a filter's answer.
SELECT count(webhooks.register_endpoint('https://example.com/slow', '{slow}',
	filter => 'exists($[*] ? (exists($[*] ? ($[*] == "y")))) || exists($.** ? (@ == "y"))'));
\set VERBOSITY terse
SET statement_timeout = '100ms';
SELECT webhooks.dispatch('slow', jsonb_agg(n)) FROM generate_series(1, 1000) n;
RESET statement_timeout;

CALL leave_nothing();
DROP TABLE filters;
DROP FUNCTION receivers(uuid);
