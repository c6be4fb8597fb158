-- Watching tables: which tables, with which options, what is refused and why; and what goes on when a table changes.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
CREATE FUNCTION emitted() RETURNS TABLE (event_type text, payload jsonb) LANGUAGE sql AS $$
	WITH gone AS (DELETE FROM webhooks.events RETURNING *)
	SELECT event_type || coalesce(' in ' || ordering_key, ''), payload FROM gone ORDER BY event_id
$$;

-- What can be watched: tables, and nothing else.
CREATE TABLE plain (id int PRIMARY KEY, name text, tenant text);
CREATE TABLE keyless (a int);
CREATE VIEW seen AS SELECT * FROM plain;
CREATE MATERIALIZED VIEW kept AS SELECT * FROM plain;
CREATE TEMPORARY TABLE short_lived (a int);
CREATE SEQUENCE numbers;
CREATE TYPE pair AS (a int, b int);
CREATE FOREIGN DATA WRAPPER nowhere;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere;
CREATE FOREIGN TABLE far_away (a int) SERVER nowhere;
CREATE TABLE "MyTable" (id int PRIMARY KEY);
CREATE TABLE "with blanks" (id int PRIMARY KEY);
CREATE SCHEMA "Odd.Schema";
CREATE TABLE "Odd.Schema"."Odd ""Table""" ("Odd ""Column" int PRIMARY KEY, "select" text, "a,b" text);
SELECT r, tried(format('SELECT webhooks.watch(%L)', r)) FROM unnest(ARRAY['plain', 'seen', 'kept', 'short_lived', 'numbers', 'pair', 'far_away', 'plain_pkey', 'pg_class', 'webhooks.events', 'webhooks.queue', 'keyless', '"MyTable"', '"with blanks"']) r;
SELECT tried('SELECT webhooks.watch(NULL)');
SELECT tried('SELECT webhooks.watch(4000000000)');
SELECT tried('SELECT webhooks.watch(''none'')');
SELECT webhooks.watch('"with blanks"', 'with_blanks');
SELECT webhooks.watch('"Odd.Schema"."Odd ""Table"""', 'odd', include_columns => ARRAY['Odd "Column', 'select', 'a,b'], tenant_column => 'a,b', ordered => true);
INSERT INTO "Odd.Schema"."Odd ""Table""" VALUES (1, 's', 't');
SELECT * FROM emitted();

-- Arguments
SELECT a, tried(format('SELECT webhooks.watch(''plain'', %s)', a)) FROM unnest(ARRAY[
	'''''', '''a b''', '''a.''', '''webhooks''', '''webhooks.x''', 'repeat(''x'', 118)', 'repeat(''x'', 119)', '''a.b-c_d''',
	'events => NULL', 'events => ''{}''', 'events => ''{created,changed}''', 'events => ''{NULL}''', 'events => ''{truncated}''',
	'include_columns => ''{}''', 'include_columns => ''{id,nome}''', 'include_columns => ''{NULL}''', 'include_columns => ''{id,id}''', 'include_columns => ''{ctid}''', 'exclude_columns => ''{nome}''',
	'exclude_columns => ''{id,name,tenant}''', 'include_columns => ''{id}'', exclude_columns => ''{name}''', 'tenant_column => ''acount''', 'tenant_column => ''tenant''',
	'ordered => NULL', 'level => ''rows''', 'level => NULL']) a;
SELECT tried('SELECT webhooks.watch(''keyless'', ordered => true)');
CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE);
SELECT tried('SELECT webhooks.watch(''deferred'', ordered => true)');
DROP TABLE deferred;
-- what was refused has left what there was
SELECT relation, resource, events, level, tenant_column FROM webhooks.watched ORDER BY relation::text;

-- It is the owner's to do, and the watcher's right, not that of whoever changes the table.
CREATE ROLE regress_webhooks_owner;
CREATE ROLE regress_webhooks_other;
GRANT USAGE ON SCHEMA webhooks TO regress_webhooks_owner, regress_webhooks_other;
GRANT EXECUTE ON FUNCTION webhooks.watch, webhooks.unwatch, webhooks.emit_change TO regress_webhooks_owner, regress_webhooks_other;
CREATE TABLE owned (id int PRIMARY KEY, note text);
ALTER TABLE owned OWNER TO regress_webhooks_owner;
GRANT ALL ON owned TO regress_webhooks_other;
SET ROLE regress_webhooks_other;
SELECT tried('SELECT webhooks.watch(''owned'')'), tried('SELECT webhooks.unwatch(''owned'')');
SET ROLE regress_webhooks_owner;
SELECT webhooks.watch('owned');
RESET ROLE;
REVOKE ALL ON SCHEMA webhooks FROM regress_webhooks_other;
REVOKE EXECUTE ON FUNCTION webhooks.watch, webhooks.unwatch, webhooks.emit_change FROM regress_webhooks_other;
SET ROLE regress_webhooks_other;
INSERT INTO owned VALUES (1, 'by another');
SELECT tried('SELECT webhooks.dispatch(''a'', ''{}'')');
RESET ROLE;
SELECT * FROM emitted();
SELECT webhooks.unwatch('owned');

-- Triggers made by hand: options, checked when they fire.
CREATE TABLE byhand (id int PRIMARY KEY, kind text, n int, secret text, "Mixed" int);
CREATE FUNCTION with_arguments(arguments text, statement text DEFAULT 'INSERT INTO byhand VALUES (1)', timing text DEFAULT 'AFTER INSERT OR UPDATE OR DELETE', level text DEFAULT 'FOR EACH ROW') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	said text;
BEGIN
	EXECUTE format('CREATE TRIGGER by_hand %s ON byhand %s EXECUTE FUNCTION webhooks.emit_change(%s)', timing, level, arguments);
	said := tried(statement);
	DROP TRIGGER by_hand ON byhand;
	DELETE FROM byhand;
	RETURN said;
END
$$;
SELECT a, with_arguments(a) FROM unnest(ARRAY[
	'', '''a b''', '''x''', '''x'', ''y''', '''x'', ''''', '''x'', ''color=red''', '''x'', ''include=''', '''x'', ''include=a b''', '''x'', ''include=nome''', '''x'', ''include=ID, "Mixed"''', '''x'', ''include=Mixed''',
	'''x'', ''include=id'', ''include=n''', '''x'', ''include=id'', ''exclude=n''', '''x'', ''tenant_column=id,n''', '''x'', ''tenant_column=x''', '''x'', ''ordering_columns=kind,id''', '''x'', ''ordering_column=id''',
	'''x'', ''ordering_columns=primary key''', '''x'', ''ordering_columns=id'', ''ordering_column=n''', '''x'', ''when_changed=nothing''', '''x'', ''idempotency_column=kind''', '''x'', ''idempotency_column=x''', '''x'', ''Include=id''']) a;
SELECT * FROM emitted();
SELECT t, l, with_arguments('''x''', s, t, l) FROM (VALUES
	('BEFORE INSERT', 'FOR EACH ROW', 'INSERT INTO byhand VALUES (1)'), ('BEFORE INSERT', 'FOR EACH STATEMENT', 'INSERT INTO byhand VALUES (1)'),
	('AFTER INSERT', 'FOR EACH STATEMENT', 'INSERT INTO byhand VALUES (1)'), ('AFTER UPDATE', 'FOR EACH STATEMENT', 'UPDATE byhand SET n = 1'),
	('AFTER UPDATE', 'REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT', 'UPDATE byhand SET n = 1'), ('AFTER UPDATE', 'REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT', 'UPDATE byhand SET n = 1'),
	('AFTER DELETE', 'FOR EACH STATEMENT', 'DELETE FROM byhand'), ('BEFORE TRUNCATE', 'FOR EACH STATEMENT', 'TRUNCATE byhand'), ('AFTER TRUNCATE', 'FOR EACH STATEMENT', 'TRUNCATE byhand')) v(t, l, s);
SELECT tried('SELECT webhooks.emit_change()');
SELECT * FROM emitted();
-- a condition, and columns of which one must have changed
CREATE TRIGGER paid AFTER UPDATE ON byhand FOR EACH ROW WHEN (OLD.kind IS DISTINCT FROM 'paid' AND NEW.kind = 'paid') EXECUTE FUNCTION webhooks.emit_change('invoice', 'exclude=secret', 'ordering_columns=kind,id');
CREATE TRIGGER noticed AFTER UPDATE ON byhand FOR EACH ROW EXECUTE FUNCTION webhooks.emit_change('notice', 'include=id,n', 'when_changed=secret,"Mixed"');
INSERT INTO byhand VALUES (1, 'new', 1, 'hush', 1), (2, 'a:b\', 1, 'hush', 1), (3, NULL, 1, repeat('x', 10), 1);
UPDATE byhand SET kind = 'paid' WHERE id = 1;
UPDATE byhand SET kind = 'paid' WHERE id = 1;
UPDATE byhand SET n = 2 WHERE id = 1;
UPDATE byhand SET secret = 'known' WHERE id = 1;
UPDATE byhand SET secret = 'known to all', n = 3 WHERE id = 1;
UPDATE byhand SET "Mixed" = 2, n = 4 WHERE id = 1;
SELECT * FROM emitted();
DROP TRIGGER paid ON byhand;
DROP TRIGGER noticed ON byhand;
-- a constraint trigger that waits for the commit
CREATE CONSTRAINT TRIGGER late AFTER INSERT OR UPDATE OR DELETE ON byhand DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION webhooks.emit_change('late');
BEGIN;
UPDATE byhand SET n = 10, secret = repeat('y', 20) WHERE id = 3;
DELETE FROM byhand WHERE id = 3;
SELECT * FROM emitted();
COMMIT;
SELECT * FROM emitted();
DROP TRIGGER late ON byhand;
-- orders: values are kept apart, what depends on the session's settings does not count, what is long becomes a digest
CREATE TABLE keys (a text, d date, primary key (a, d));
SELECT webhooks.watch('keys', 'k', ordered => true);
INSERT INTO keys VALUES ('a:b', '2024-01-31'), ('a\', '2024-01-31'), (repeat('x', 600), '2024-01-31'), (repeat('x', 601), '2024-01-31');
SET datestyle = 'German';
DELETE FROM keys WHERE a IN ('a:b', repeat('x', 600));
RESET datestyle;
SELECT left(event_type, 60), count(*), max(length(event_type)) FROM emitted() GROUP BY event_type, 1 ORDER BY 1, 2, 3;

-- Columns that the options name and the table no longer has: refused, as what was kept back might be sent.
SELECT webhooks.watch('byhand', exclude_columns => '{secret}');
ALTER TABLE byhand RENAME secret TO hidden;
SELECT tried('UPDATE byhand SET n = 20');
SELECT webhooks.watch('byhand', exclude_columns => '{hidden}');
UPDATE byhand SET n = 21 WHERE id = 1;
ALTER TABLE byhand DROP COLUMN hidden;
SELECT tried('UPDATE byhand SET n = 22');
SELECT webhooks.watch('byhand', ordered => true);
ALTER TABLE byhand RENAME id TO number;
UPDATE byhand SET n = 23 WHERE number = 1;
ALTER TABLE byhand DROP CONSTRAINT byhand_pkey;
SELECT tried('UPDATE byhand SET n = 24');
ALTER TABLE byhand ADD PRIMARY KEY (number, n);
UPDATE byhand SET kind = 'composite' WHERE number = 1;
SELECT * FROM emitted();
-- a table of another name goes on with the resource that it had
ALTER TABLE byhand RENAME TO renamed;
UPDATE renamed SET kind = 'renamed' WHERE number = 1;
SELECT * FROM emitted();

-- Partitions: each row's event, whichever it is in, also in partitions that come later. A move between them is the one's end and the other's beginning for a row trigger.
CREATE TABLE parts (id int, region text, n int, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE parts_eu PARTITION OF parts FOR VALUES IN ('eu');
SELECT webhooks.watch('parts', 'part', ordered => true);
CREATE TABLE parts_us (n int, junk int, region text NOT NULL, id int NOT NULL);
ALTER TABLE parts_us DROP COLUMN junk;
INSERT INTO parts_us VALUES (7, 'us', 7);
ALTER TABLE parts ATTACH PARTITION parts_us FOR VALUES IN ('us');
INSERT INTO parts VALUES (1, 'eu', 1), (2, 'us', 2);
UPDATE parts SET n = n * 10;
UPDATE parts_us SET n = 0 WHERE id = 7;
UPDATE parts SET region = 'us' WHERE id = 1;
DELETE FROM parts WHERE id = 2;
SELECT * FROM emitted();
SELECT relation, resource FROM webhooks.watched WHERE resource = 'part';
-- of a statement that names the parent, a statement trigger sees all rows, a move as an update
SELECT webhooks.watch('parts', 'part', '{created,updated,deleted,truncated}', level => 'statement');
INSERT INTO parts VALUES (3, 'eu', 3);
UPDATE parts SET region = CASE region WHEN 'us' THEN 'eu' ELSE 'us' END, n = n + 1;
DELETE FROM parts_us;
DELETE FROM parts WHERE id = 1;
SELECT * FROM emitted();
-- when a trigger leaves one out on its way, all are told as deleted and created
CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN CASE WHEN NEW.n < 100 THEN NEW END; END$$;
CREATE TRIGGER leave_out BEFORE INSERT ON parts_us FOR EACH ROW EXECUTE FUNCTION leave_out();
INSERT INTO parts SELECT i, 'eu', CASE WHEN i % 2 = 0 THEN 200 ELSE i END FROM generate_series(10, 13) i;
DELETE FROM webhooks.events;
UPDATE parts SET region = 'us' WHERE id >= 10;
TRUNCATE parts;
SELECT * FROM emitted();
SELECT webhooks.unwatch('parts');
SELECT count(*) FROM pg_trigger WHERE tgfoid = 'webhooks.emit_change'::regproc AND tgrelid IN ('parts'::regclass, 'parts_us'::regclass, 'parts_eu'::regclass);
-- inheritance: triggers are each table's own
CREATE TABLE base (id int PRIMARY KEY, n int);
CREATE TABLE derived (extra int) INHERITS (base);
SELECT webhooks.watch('base');
INSERT INTO base VALUES (1, 1);
INSERT INTO derived VALUES (2, 2);
UPDATE base SET n = 3;
SELECT * FROM emitted();
SELECT webhooks.watch('base', level => 'statement');
UPDATE base SET n = 4;
SELECT * FROM emitted() ORDER BY payload;

-- session_replication_role: as with any trigger, replica keeps it from firing unless it is enabled for that.
SET session_replication_role = replica;
UPDATE base SET n = 5;
SELECT * FROM emitted();
ALTER TABLE base ENABLE ALWAYS TRIGGER webhooks_updated;
UPDATE ONLY base SET n = 6;
RESET session_replication_role;
SELECT * FROM emitted();
ALTER TABLE base DISABLE TRIGGER webhooks_created;
SELECT resource, events, level, enabled FROM webhooks.watched WHERE relation = 'base'::regclass;

-- What watched says.
SELECT webhooks.watch('plain', 'plain', '{created,truncated}', exclude_columns => '{name}', tenant_column => 'tenant');
CREATE TRIGGER also AFTER UPDATE ON plain FOR EACH ROW EXECUTE FUNCTION webhooks.emit_change('also', 'include=id, "name"', 'ordering_column=ID', 'when_changed=name');
SELECT * FROM webhooks.watched ORDER BY relation::text, resource;
DROP TABLE plain CASCADE;
SELECT count(*) FROM webhooks.watched WHERE resource IN ('plain', 'also');
-- the extension does not go while a table needs it
SELECT left(tried('DROP EXTENSION webhooks'), 70);

-- A backfill sends what there is, to one endpoint.
CREATE TABLE stock (id int PRIMARY KEY, owner text, secret text, big text);
ALTER TABLE stock ALTER big SET STORAGE EXTERNAL;
INSERT INTO stock SELECT i, CASE WHEN i % 3 = 0 THEN 'a' ELSE 'b' END, 'hush', CASE WHEN i = 6 THEN repeat('x', 50000) END FROM generate_series(1, 20) i;
SELECT endpoint_id AS a FROM webhooks.register_endpoint('https://example.com/a', '{none}', 'a', ordering => 'key') \gset
SELECT endpoint_id AS gone FROM webhooks.register_endpoint('https://example.com/b', '{none}', 'b') \gset
CALL webhooks.backfill('stock', :'a');
SELECT webhooks.watch('stock', 'item', tenant_column => 'owner', exclude_columns => '{secret}', ordered => true);
SELECT webhooks.disable_endpoint(:'gone');
CALL webhooks.backfill('stock', :'gone');
CALL webhooks.backfill('stock', '00000000-0000-0000-0000-000000000000');
CALL webhooks.backfill('stock', :'a', 'other');
CALL webhooks.backfill(NULL, :'a');
CALL webhooks.backfill('stock', NULL);
CALL webhooks.backfill('stock', :'a', batch_size => 0);
CALL webhooks.backfill('stock', :'a', batch_size => 151);
CALL webhooks.backfill('keyless', :'a');
BEGIN;
CALL webhooks.backfill('stock', :'a');
ROLLBACK;
SET default_transaction_isolation = 'repeatable read';
CALL webhooks.backfill('stock', :'a');
RESET default_transaction_isolation;
CALL webhooks.backfill('stock', :'a', batch_size => 2);
SELECT tenant_id, event_type, ordering_key, payload #- '{object,big}', length(payload #>> '{object,big}'), q.endpoint_id = :'a', q.lane IS NOT NULL FROM webhooks.events LEFT JOIN webhooks.queue q USING (event_id) ORDER BY event_id;
SELECT relation, resource, last_key, sent, finished_at IS NOT NULL FROM webhooks.backfills;
TRUNCATE webhooks.events, webhooks.queue;
-- one that was left goes on after the last key
UPDATE webhooks.backfills SET finished_at = NULL, last_key = '{12}', sent = 4;
CALL webhooks.backfill('stock', :'a');
SELECT ordering_key FROM webhooks.events ORDER BY event_id;
SELECT last_key, sent, finished_at IS NOT NULL FROM webhooks.backfills;
TRUNCATE webhooks.events, webhooks.queue;
-- a session confined to a tenant, and row-level security: what the caller may see
SET webhooks.tenant_id = 'b';
SELECT regexp_replace(tried(format('CALL webhooks.backfill(''stock'', %L)', :'a')), '[0-9a-f-]{36}', '<id>');
RESET webhooks.tenant_id;
GRANT USAGE ON SCHEMA webhooks TO regress_webhooks_other;
GRANT EXECUTE ON PROCEDURE webhooks.backfill TO regress_webhooks_other;
SET ROLE regress_webhooks_other;
CALL webhooks.backfill('stock', :'a');
RESET ROLE;
GRANT SELECT (id, owner, big) ON stock TO regress_webhooks_other;
ALTER TABLE stock ENABLE ROW LEVEL SECURITY;
CREATE POLICY few ON stock TO regress_webhooks_other USING (id < 10);
SET ROLE regress_webhooks_other;
CALL webhooks.backfill('stock', :'a');
RESET ROLE;
SELECT ordering_key FROM webhooks.events ORDER BY event_id;

CALL leave_nothing();
DROP FOREIGN TABLE far_away;
DROP TABLE keyless, "MyTable", "with blanks", "Odd.Schema"."Odd ""Table""", owned, renamed, keys, parts, derived, base, stock, short_lived;
DROP SCHEMA "Odd.Schema";
DROP SERVER nowhere;
DROP FOREIGN DATA WRAPPER nowhere;
DROP SEQUENCE numbers;
DROP TYPE pair;
DROP OWNED BY regress_webhooks_owner, regress_webhooks_other;
DROP ROLE regress_webhooks_owner, regress_webhooks_other;
DROP FUNCTION emitted(), with_arguments(text, text, text, text), leave_out();
