-- Backfills of tables of all kinds: partitioned, with children, with keys of several columns and of any type, with several watches.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
-- The snapshots since it was last asked, in their order; they are gone then.
CREATE FUNCTION sent() RETURNS TABLE (event_type text, ordering_key text, object jsonb) LANGUAGE sql AS $$
	WITH gone AS (DELETE FROM webhooks.events RETURNING *)
	SELECT event_type, ordering_key, payload -> 'object' FROM gone WHERE event_type ~ 'snapshot' ORDER BY event_id
$$;
SELECT endpoint_id AS ep FROM webhooks.register_endpoint('https://example.com/', '{none}') \gset

-- A key of several columns, whatever the session's settings: each row once, in the key's order, which is not the columns'; also when it goes on after a key.
CREATE TABLE keys (n int, d date, t text, iv interval, b bytea, f float8, PRIMARY KEY (t, d, iv, b, f));
INSERT INTO keys (t, d, iv, b, f, n) VALUES ('b', '2024-01-31', '1 day', '\x00', 0.1, 1), ('a', '2024-12-01', '1 day', '\x00', 0.1, 2), ('a', '2024-01-31', '2 days', '\x00', 0.1, 3),
	('a', '2024-01-31', '1 day', '\xff', 0.1, 4), ('a', '2024-01-31', '1 day', '\x00', 0.30000000000000004, 5), ('a', '2024-01-31', '1 day', '\x00', 0.3, 6), ('', '-infinity', '-1 mon', '', 'NaN', 7), ('a,"{}\b', 'infinity', '0', '\x5c', '-Infinity', 8);
SELECT webhooks.watch('keys', ordered => true);
CREATE TABLE seen AS SELECT NULL::int AS size, NULL::text AS rows WITH NO DATA;
CALL webhooks.backfill('keys', :'ep', batch_size => 1);
INSERT INTO seen SELECT 1, string_agg(object ->> 'n', ',') FROM sent();
SET datestyle = 'German';
SET intervalstyle = 'iso_8601';
SET bytea_output = 'escape';
SET extra_float_digits = 0;
CALL webhooks.backfill('keys', :'ep', batch_size => 3);
INSERT INTO seen SELECT 3, string_agg(object ->> 'n', ',') FROM sent();
RESET ALL;
CALL webhooks.backfill('keys', :'ep');
INSERT INTO seen SELECT 100, string_agg(object ->> 'n', ',') FROM sent();
SELECT s.size, s.rows = (SELECT string_agg(n::text, ',' ORDER BY t, d, iv, b, f) FROM keys) FROM seen s ORDER BY size;
SELECT last_key, sent FROM webhooks.backfills WHERE relation = 'keys'::regclass;
-- one that was left begins with the row after its last
UPDATE webhooks.backfills SET finished_at = NULL, last_key = '{a,2024-01-31,"1 day","\\x00",0.3}', sent = 0 WHERE relation = 'keys'::regclass;
CALL webhooks.backfill('keys', :'ep', batch_size => 2);
SELECT string_agg(object ->> 'n', ',') FROM sent();
-- an empty table is soon through
CREATE TABLE nothing (id int PRIMARY KEY);
SELECT webhooks.watch('nothing');
CALL webhooks.backfill('nothing', :'ep');
SELECT last_key, sent, finished_at IS NOT NULL FROM webhooks.backfills WHERE relation = 'nothing'::regclass;

-- A partitioned table: the rows of all its partitions, as the parent's columns are; a table with children: its own alone.
CREATE TABLE parts (id int PRIMARY KEY, gone int, n int, twice int GENERATED ALWAYS AS (n * 2) STORED) PARTITION BY RANGE (id);
ALTER TABLE parts DROP COLUMN gone;
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE TABLE parts_2 (n int, id int NOT NULL, twice int GENERATED ALWAYS AS (n * 2) STORED);
INSERT INTO parts_2 (id, n) VALUES (11, 11), (12, 12);
ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES FROM (10) TO (20);
INSERT INTO parts (id, n) VALUES (1, 1), (2, 2), (13, 13);
SELECT webhooks.watch('parts', 'part', exclude_columns => '{id}', ordered => true);
CALL webhooks.backfill('parts', :'ep', batch_size => 2);
SELECT * FROM sent();
CREATE TABLE base (id int PRIMARY KEY, n int);
CREATE TABLE derived (PRIMARY KEY (id)) INHERITS (base);
INSERT INTO base VALUES (1, 1);
INSERT INTO derived VALUES (2, 2);
SELECT webhooks.watch(t) FROM unnest('{base,derived}'::regclass[]) t;
CALL webhooks.backfill('base', :'ep');
CALL webhooks.backfill('derived', :'ep');
SELECT * FROM sent();

-- A table with several watches: the resource must be named, and has its options, and its own place.
CREATE TABLE several (id int PRIMARY KEY, a int, b int);
INSERT INTO several VALUES (1, 1, 1), (2, 2, 2);
SELECT webhooks.watch('several', 'one', exclude_columns => '{b}');
CREATE TRIGGER two AFTER UPDATE ON several FOR EACH ROW EXECUTE FUNCTION webhooks.emit_change('two', 'include=b', 'ordering_columns=a,id', 'when_changed=b', 'idempotency_column=b');
CALL webhooks.backfill('several', :'ep');
CALL webhooks.backfill('several', :'ep', 'two');
CALL webhooks.backfill('several', :'ep', 'one');
SELECT * FROM sent();
-- called again when it is finished, it begins again; idempotency_column is no matter of a snapshot
CALL webhooks.backfill('several', :'ep', 'two');
SELECT * FROM sent();
SELECT resource, last_key, sent FROM webhooks.backfills WHERE relation = 'several'::regclass ORDER BY resource;
-- columns may change between two backfills, and between the parts of one
ALTER TABLE several RENAME b TO c;
CALL webhooks.backfill('several', :'ep', 'two');
UPDATE webhooks.backfills SET finished_at = NULL, last_key = '{1}' WHERE relation = 'several'::regclass AND resource = 'one';
SELECT webhooks.watch('several', 'one', exclude_columns => '{c}');
ALTER TABLE several DROP COLUMN a, ADD COLUMN d text DEFAULT 'new';
CALL webhooks.backfill('several', :'ep', 'one');
SELECT * FROM sent();

-- A row too large for an event ends it, and says so; what went before is sent, and it goes on when that is mended.
CREATE TABLE large (id int PRIMARY KEY, t text);
ALTER TABLE large ALTER t SET STORAGE EXTERNAL;
INSERT INTO large SELECT i, CASE i WHEN 5 THEN repeat('x', 300000) ELSE 'small' END FROM generate_series(1, 6) i;
SELECT webhooks.watch('large');
CALL webhooks.backfill('large', :'ep', batch_size => 2);
SELECT object FROM sent();
SELECT last_key, sent, finished_at FROM webhooks.backfills WHERE relation = 'large'::regclass;
ALTER TABLE large DISABLE TRIGGER USER;
UPDATE large SET t = 'small now' WHERE id = 5;
ALTER TABLE large ENABLE TRIGGER USER;
CALL webhooks.backfill('large', :'ep', batch_size => 2);
SELECT object FROM sent();
SELECT last_key, sent, finished_at IS NOT NULL FROM webhooks.backfills WHERE relation = 'large'::regclass;

CALL leave_nothing();
DROP TABLE keys, seen, nothing, parts, base, derived, several, large;
DROP FUNCTION sent();
