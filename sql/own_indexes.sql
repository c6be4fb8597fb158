-- Whoever runs the database may give the extension's tables indexes and checks of their own: rows that are written below the executor keep them.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
\set VERBOSITY terse
SELECT 1 AS ok FROM webhooks.register_endpoint('https://example.com/a', '{a.*}');

-- how many rows each index finds: all that there are
CREATE FUNCTION found(condition text) RETURNS bigint LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
	plan text;
	rows bigint;
BEGIN
	EXECUTE 'EXPLAIN (FORMAT json) SELECT * FROM webhooks.queue WHERE ' || condition INTO plan;
	IF plan !~ 'own_idx' THEN
		RAISE EXCEPTION 'no index of our own is used: %', plan;
	END IF;
	EXECUTE 'SELECT count(*) FROM webhooks.queue WHERE ' || condition INTO rows;
	RETURN rows;
END $$;

SELECT count(webhooks.dispatch('a.b', '{}')) FROM generate_series(1, 3);

-- one more B-tree of columns, also within the transaction that dispatches
BEGIN;
SELECT count(webhooks.dispatch('a.b', '{}')) FROM generate_series(1, 3);
CREATE INDEX own_idx ON webhooks.queue (attempts);
SELECT count(webhooks.dispatch('a.b', '{}')) FROM generate_series(1, 100);
SELECT found('attempts = 0');
COMMIT;
SELECT count(webhooks.dispatch('a.b', '{}', coalesce_key => n::text)) FROM generate_series(1, 100) n;
SELECT found('attempts = 0');
DROP INDEX webhooks.own_idx;

-- kinds that want the executor
CREATE INDEX own_idx ON webhooks.queue ((attempts + 1));
SELECT count(webhooks.dispatch('a.b', '{}')) FROM generate_series(1, 100);
SELECT found('attempts + 1 = 1');
DROP INDEX webhooks.own_idx;
CREATE INDEX own_idx ON webhooks.queue USING hash (attempts);
SELECT webhooks.dispatch('a.b', '{}') IS NOT NULL AS dispatched;
SELECT found('attempts = 0');
DROP INDEX webhooks.own_idx;
CREATE INDEX own_idx ON webhooks.queue (attempts) WHERE coalesce_key < '5';
SELECT count(webhooks.dispatch('a.b', '{}', coalesce_key => '3-' || n)) FROM generate_series(1, 10) n;
SELECT found($$coalesce_key < '5' AND attempts = 0$$), count(*) FROM webhooks.queue WHERE coalesce_key < '5';
DROP INDEX webhooks.own_idx;

-- one over rows in which a column is not NULL
CREATE INDEX own_idx ON webhooks.queue (attempts) WHERE coalesce_key IS NOT NULL;
SELECT count(webhooks.dispatch('a.b', '{}', coalesce_key => CASE n % 2 WHEN 0 THEN 'half-' || n END)) FROM generate_series(1, 100) n;
SELECT found('attempts = 0 AND coalesce_key IS NOT NULL'), count(*) FROM webhooks.queue WHERE coalesce_key IS NOT NULL;
DROP INDEX webhooks.own_idx;

-- and they find what they must not allow
CREATE UNIQUE INDEX own_idx ON webhooks.queue (coalesce_key);
SELECT 1 AS ok FROM webhooks.register_endpoint('https://example.com/b', '{a.*}');
SELECT webhooks.dispatch('a.b', '{}', coalesce_key => 'twice');
DROP INDEX webhooks.own_idx;
ALTER TABLE webhooks.queue ADD CONSTRAINT own_check CHECK (coalesce_key <> 'unwanted');
SELECT webhooks.dispatch('a.b', '{}', coalesce_key => 'unwanted');
ALTER TABLE webhooks.queue DROP CONSTRAINT own_check;
ALTER TABLE webhooks.queue ALTER coalesce_key SET NOT NULL;
DELETE FROM webhooks.queue;
ALTER TABLE webhooks.queue ALTER coalesce_key SET NOT NULL;
SELECT webhooks.dispatch('a.b', '{}');
SELECT webhooks.dispatch('a.b', '{}', coalesce_key => 'wanted') IS NOT NULL AS dispatched;


ALTER TABLE webhooks.queue ALTER coalesce_key DROP NOT NULL;
DROP FUNCTION found;
CALL leave_nothing();
