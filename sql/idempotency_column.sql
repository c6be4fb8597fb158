-- Events from tables, told once for a value of idempotency_column.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
CREATE FUNCTION emitted() RETURNS TABLE (event_type text, object jsonb) LANGUAGE sql AS $$
	WITH gone AS (DELETE FROM webhooks.events RETURNING *)
	SELECT event_type || CASE WHEN tenant_id <> '' THEN ' of ' || tenant_id ELSE '' END, payload -> 'object' FROM gone ORDER BY event_id
$$;
-- Makes the trigger anew, for rows or for statements.
CREATE PROCEDURE watch_by(relation regclass, level text, VARIADIC options text[]) LANGUAGE plpgsql AS $$
DECLARE
	operation record;
BEGIN
	FOR operation IN SELECT * FROM (VALUES ('INSERT', 'NEW TABLE AS n'), ('UPDATE', 'OLD TABLE AS o NEW TABLE AS n'), ('DELETE', 'OLD TABLE AS o')) v(name, tables) LOOP
		EXECUTE format('DROP TRIGGER IF EXISTS %I ON %s', lower(operation.name), relation);
		EXECUTE format('CREATE TRIGGER %I AFTER %s ON %s %s FOR EACH %s EXECUTE FUNCTION webhooks.emit_change(%s)', lower(operation.name), operation.name, relation,
			CASE level WHEN 'statement' THEN 'REFERENCING ' || operation.tables END, level, (SELECT string_agg(quote_literal(o), ', ' ORDER BY n) FROM unnest(options) WITH ORDINALITY u(o, n)));
	END LOOP;
END
$$;
SET client_min_messages = warning;

-- The same value twice is one event: of one statement, of one transaction, of two; the first row's. What has NULL is told each time.
CREATE TABLE imports (id int PRIMARY KEY, key text, n int);
CALL watch_by('imports', 'row', 'import', 'idempotency_column=key');
INSERT INTO imports VALUES (1, 'a', 1), (2, 'a', 2), (3, 'b', 3), (4, NULL, 4), (5, NULL, 5);
BEGIN;
INSERT INTO imports VALUES (6, 'b', 6), (7, 'c', 7);
INSERT INTO imports VALUES (8, 'c', 8), (9, NULL, 9);
COMMIT;
INSERT INTO imports VALUES (10, 'a', 10), (11, 'd', 11);
SELECT * FROM emitted();
-- so it is for a whole statement's rows, which knows what was told before, too
CALL watch_by('imports', 'statement', 'import', 'idempotency_column=key');
INSERT INTO imports SELECT 100 + i, CASE WHEN i % 4 > 0 THEN 'k' || i % 4 END, i FROM generate_series(1, 12) i;
INSERT INTO imports VALUES (200, 'k1', 1), (201, 'a', 2), (202, 'e', 3);
SELECT * FROM emitted();
SELECT tenant_id, idempotency_key FROM webhooks.idempotency_keys ORDER BY 2;

-- A value is free again when its event was rolled back, with a savepoint or altogether.
BEGIN;
INSERT INTO imports VALUES (300, 'lost', 1);
ROLLBACK;
BEGIN;
SAVEPOINT s;
INSERT INTO imports VALUES (301, 'lost', 2);
ROLLBACK TO s;
INSERT INTO imports VALUES (302, 'lost', 3), (303, 'lost', 4);
COMMIT;
DO $$
BEGIN
	INSERT INTO imports VALUES (304, 'failed', 5), (1, 'failed', 6);
EXCEPTION WHEN unique_violation THEN
	INSERT INTO imports VALUES (305, 'failed', 7);
END
$$;
SELECT * FROM emitted();

-- A row that is created, updated and deleted is three events, though its value is one; a second update with that value is none, and with another it is.
CREATE FUNCTION row_life(level text) RETURNS TABLE (event_type text, object jsonb) LANGUAGE plpgsql AS $$
BEGIN
	DELETE FROM imports;
	PERFORM emitted();
	TRUNCATE webhooks.idempotency_keys;
	CALL watch_by('imports', level, 'import', 'idempotency_column=key');
	INSERT INTO imports VALUES (1, 'v1', 1);
	UPDATE imports SET n = 2;
	UPDATE imports SET n = 3;
	UPDATE imports SET n = 4, key = 'v2';
	UPDATE imports SET n = 5, key = NULL;
	UPDATE imports SET n = 6;
	UPDATE imports SET key = 'v1';
	DELETE FROM imports;
	INSERT INTO imports VALUES (1, 'v1', 7);
	DELETE FROM imports;
	RETURN QUERY SELECT * FROM emitted();
END
$$;
SELECT * FROM row_life('row');
SELECT * FROM row_life('statement');

-- Other tenants' and other resources' values are others; a row that changes hands is gone for one and new for the other.
CREATE TABLE shared (id int PRIMARY KEY, owner text, key int);
CALL watch_by('shared', 'row', 'shared', 'tenant_column=owner', 'idempotency_column=key');
CREATE TRIGGER also AFTER INSERT ON shared FOR EACH ROW EXECUTE FUNCTION webhooks.emit_change('also', 'tenant_column=owner', 'idempotency_column=key', 'include=id');
INSERT INTO shared VALUES (1, 'x', 7), (2, 'y', 7), (3, 'x', 7);
UPDATE shared SET owner = 'y' WHERE id = 1;
UPDATE shared SET owner = 'x' WHERE id = 1;
UPDATE shared SET owner = 'z' WHERE id = 1;
SELECT * FROM emitted();

-- Columns of any type, whatever the session's settings: what the type takes for different is different.
CREATE TYPE step AS ENUM ('one', 'two');
CREATE TABLE typed (id int PRIMARY KEY, i int, u uuid, t timestamptz, c char(4), e step, b bytea, iv interval, a int[]);
CREATE FUNCTION told(col name) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	told text;
BEGIN
	CALL watch_by('typed', 'row', 'typed', 'idempotency_column=' || col, 'include=id');
	DELETE FROM typed;
	PERFORM emitted();
	SET LOCAL timezone = 'UTC';
	SET LOCAL datestyle = 'ISO';
	SET LOCAL intervalstyle = 'postgres';
	SET LOCAL bytea_output = 'hex';
	INSERT INTO typed VALUES (1, 1, '6ba7b810-9dad-11d1-80b4-00c04fd430c8', '2024-01-31 12:00+00', 'a', 'one', '\x01', '1 day', '{1}');
	SET LOCAL timezone = 'Asia/Tokyo';
	SET LOCAL datestyle = 'German';
	SET LOCAL intervalstyle = 'iso_8601';
	SET LOCAL bytea_output = 'escape';
	INSERT INTO typed VALUES (2, 1, '6BA7B810-9DAD-11D1-80B4-00C04FD430C8', '31.01.2024 21:00', 'a  ', 'one', '\x01', '1 day', '{1}');
	INSERT INTO typed VALUES (3, 2, '6ba7b810-9dad-11d1-80b4-00c04fd430c9', '31.01.2024 21:01', 'b', 'two', '\x02', '2 day', '{1,2}');
	RETURN (SELECT string_agg(object ->> 'id', ',') FROM emitted());
END
$$;
SELECT attname, told(attname) FROM pg_attribute WHERE attrelid = 'typed'::regclass AND attnum > 1 ORDER BY attnum;
-- a long one stands there as its digest, and long ones differ
INSERT INTO imports VALUES (1, repeat('x', 100000), 1), (2, repeat('x', 100000), 2), (3, repeat('x', 100001), 3), (4, repeat('y', 240), 4), (5, repeat('y', 240), 5), (6, repeat('y', 241), 6);
SELECT event_type, object ->> 'id' FROM emitted();
SELECT max(length(idempotency_key)) <= 255 FROM webhooks.idempotency_keys;

-- What nobody takes is not told, and uses up no value.
ALTER SYSTEM SET webhooks.store_unmatched = off;
SELECT pg_reload_conf();
\c -
INSERT INTO imports VALUES (10, 'unheard', 10);
SELECT endpoint_id FROM webhooks.register_endpoint('https://example.com/', '{import.*}') \gset
INSERT INTO imports VALUES (11, 'unheard', 11), (12, 'unheard', 12);
SELECT * FROM emitted();
SELECT webhooks.remove_endpoint(:'endpoint_id');
ALTER SYSTEM RESET webhooks.store_unmatched;
SELECT pg_reload_conf();
\c -

SET client_min_messages = warning;
-- Each value is told once of a statement of very many rows, however often they repeat; and a validator sees each event, whose refusal undoes the statement.
CREATE TABLE many (id int PRIMARY KEY, n int, key int);
INSERT INTO many SELECT i, 0, i % 1000 FROM generate_series(1, 5000) i;
CALL watch_by('many', 'statement', 'many', 'idempotency_column=key');
UPDATE many SET n = 1;
SELECT event_type, count(*), count(DISTINCT object -> 'key') FROM emitted() GROUP BY 1;
UPDATE many SET n = 2;
UPDATE many SET n = 3, key = key + 1000 WHERE id <= 2000;
SELECT event_type, count(*), min((object -> 'key')::int) FROM emitted() GROUP BY 1;
CREATE FUNCTION not_negative(event_type text, payload jsonb) RETURNS boolean LANGUAGE sql AS $$SELECT (payload #>> '{object,n}')::int >= 0$$;
SELECT webhooks.register_event_type('many.updated', validator => 'not_negative(text, jsonb)');
CALL watch_by('many', 'statement', 'many');
UPDATE many SET n = n + 1;
SELECT event_type, count(*) FROM emitted() GROUP BY 1;
UPDATE many SET n = CASE id WHEN 4000 THEN -1 ELSE 9 END;
SELECT count(*) FROM emitted();
SELECT count(*) FROM many WHERE n IN (-1, 9);

CALL leave_nothing();
DROP TABLE imports, shared, typed, many;
DROP TYPE step;
DROP FUNCTION emitted(), row_life(text), told(name), not_negative(text, jsonb);
DROP PROCEDURE watch_by(regclass, text, text[]);
