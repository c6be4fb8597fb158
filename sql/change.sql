-- Events from tables: what emit_change makes of rows, whatever their columns are.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
SET timezone = 'UTC';
-- The events since it was last asked, in their order; they are gone then.
CREATE FUNCTION emitted() RETURNS TABLE (event_type text, payload jsonb) LANGUAGE sql AS $$
	WITH gone AS (DELETE FROM webhooks.events RETURNING *)
	SELECT event_type || CASE WHEN tenant_id <> '' THEN ' of ' || tenant_id ELSE '' END || coalesce(' in ' || ordering_key, ''), payload
	FROM gone ORDER BY event_id
$$;

-- One call; each committed change is an event. An update tells the old values of what changed, and is none when nothing did.
CREATE TABLE orders (id integer PRIMARY KEY, status text, amount numeric(10, 2));
SELECT webhooks.watch('orders');
INSERT INTO orders VALUES (1, 'new', 10), (2, NULL, 1.5);
UPDATE orders SET status = 'paid', amount = amount WHERE id = 1;
UPDATE orders SET status = status, amount = amount * 1.0;
DELETE FROM orders WHERE id = 2;
SELECT * FROM emitted();
-- an upsert and a MERGE make the events of what they do
INSERT INTO orders VALUES (1, 'x', 1), (3, 'y', 1) ON CONFLICT (id) DO UPDATE SET status = excluded.status;
MERGE INTO orders USING (VALUES (1), (3), (4)) m(id) ON m.id = orders.id
	WHEN MATCHED AND m.id = 1 THEN DELETE WHEN MATCHED THEN UPDATE SET amount = 7 WHEN NOT MATCHED THEN INSERT VALUES (m.id, 'merged', 0);
SELECT * FROM emitted();
-- what is rolled back was never there
BEGIN;
SAVEPOINT s;
UPDATE orders SET status = 'lost';
ROLLBACK TO s;
UPDATE orders SET status = 'kept' WHERE id = 4;
COMMIT;
BEGIN;
DELETE FROM orders;
ROLLBACK;
SELECT * FROM emitted();
-- it is called again to change it, and unwatch ends it; both may be repeated
SELECT webhooks.watch('orders', 'order', '{updated,truncated}', include_columns => '{id,status}', ordered => true, level => 'statement');
SELECT webhooks.watch('orders', 'order', '{updated,truncated}', include_columns => '{id,status}', ordered => true, level => 'statement');
SELECT tgname FROM pg_trigger WHERE tgrelid = 'orders'::regclass ORDER BY 1;
INSERT INTO orders VALUES (5, 'five', 5);
UPDATE orders SET amount = 3, status = CASE id WHEN 5 THEN 'changed' ELSE status END;
TRUNCATE orders;
SELECT * FROM emitted();
SELECT webhooks.unwatch('orders'), webhooks.unwatch('orders');
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'orders'::regclass;
INSERT INTO orders VALUES (1);
SELECT * FROM emitted();

-- Values are rendered as to_jsonb renders them, of whatever type they are.
CREATE TYPE mood AS ENUM ('sad', 'it''s ok');
CREATE TYPE part AS (name text, price numeric, "Odd Name" int[]);
CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
CREATE DOMAIN document AS jsonb;
CREATE TYPE money_amount AS (amount numeric, currency text);
CREATE TYPE version AS ENUM ('1.0', '2.0');
CREATE FUNCTION version_json(version) RETURNS json LANGUAGE sql AS $$SELECT json_build_object('major', left($1::text, 1))$$;
CREATE CAST (version AS json) WITH FUNCTION version_json(version);
CREATE TYPE temperature AS RANGE (subtype = float8);
CREATE TABLE everything (
	id bigint PRIMARY KEY, dropped_a int, b boolean, i2 smallint, f4 real, f8 double precision, n numeric, n2 numeric(20, 4), t text, vc varchar(10), c char(5), "char" "char",
	nm name, bt bytea, d date, ts timestamp, tstz timestamptz, tm time, tmtz timetz, iv interval, u uuid, ip inet, ci cidr, mac macaddr, j json, jb jsonb, doc document, e mood, es mood[],
	dom positive, doms positive[], p part, ps part[], m money_amount, ms money_amount[], v version, r int4range, mr int4multirange, temp temperature, ints int[], texts text[], grid int[], x xml, pt point,
	bits varbit, o oid, rc regclass, mny money, ts_v tsvector, "Quoted ""Name""" text, dropped_b int, gen int GENERATED ALWAYS AS (i2 + 1) STORED);
ALTER TABLE everything DROP COLUMN dropped_a, DROP COLUMN dropped_b;
ALTER TABLE everything RENAME COLUMN vc TO renamed;
SELECT webhooks.watch('everything');
INSERT INTO everything (id) VALUES (0);
INSERT INTO everything VALUES
	(9223372036854775807, true, -32768, 1.1, 1e300, 'NaN', 0.5, E'ü"\\\b\n\t\u0001/', 'v', 'c', 'x', 'name', '\xdeadbeef', '2024-02-29', '2024-02-29 12:34:56.789012', '2024-02-29 12:34:56+02',
	'12:34:56.7', '12:34:56+02', '1 year 2 days 3 s', '6ba7b810-9dad-11d1-80b4-00c04fd430c8', '192.168.0.1/24', '10.0.0.0/8', '08:00:2b:01:02:03', '{"a": [1, {"b": null}], "a": 2}', '[1, {"z": 1, "a": [[], {}]}, "x"]', '"scalar"',
	'it''s ok', '{sad,"it''s ok",NULL}', 7, '{1,2}', ROW('n', 1.50, '{1,NULL}'), ARRAY[ROW('n', 'NaN', NULL)::part, NULL], ROW(1.5, 'EUR'), ARRAY[ROW(1, 'USD')::money_amount], '2.0', '[1,5)', '{[1,2),[5,7)}', '[1.5,2.5]',
	'[0:2]={1,2,3}', '{}', '{{1,2},{3,4}}', '<a>b</a>', '(1,2)', '1010', 42, 'orders', '12.34', 'a b', 'q'),
	(1, false, 0, 'NaN', '-Infinity', 'Infinity', -12345.6789, '', '', '', '', '', '', 'infinity', '-infinity', 'infinity', '24:00', '00:00-12', '-1 day', '00000000-0000-0000-0000-000000000000', '::1', '::/0', '00:00:00:00:00:00',
	'null', 'null', '{}', 'sad', '{}', 1, NULL, ROW(NULL, NULL, NULL), '{}', ROW(NULL, NULL), NULL, '1.0', 'empty', '{}', '(,)', '{NULL}', ARRAY['a,b', '"', NULL, ''], '{}', '', '(NaN,Infinity)', '', 0, 0, '-0.01', '', ''),
	(2, NULL, 32766, 'Infinity', 1e-300, 1e1000, 99999.99990, repeat('long', 5000), NULL, NULL, NULL, NULL, decode(repeat('00ff', 3000), 'hex'), '4713-01-01 BC', '0044-03-15 BC', '294276-12-31 UTC', NULL, NULL, NULL, NULL, NULL, NULL, NULL,
	'  [1e2, 1.0e-2, "\u00e9"] ', '1e100', '1.10', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT row_.id, event_type, payload = jsonb_build_object('object', to_jsonb(row_)), payload::text = jsonb_build_object('object', to_jsonb(row_))::text
FROM emitted() JOIN everything row_ ON row_.id = (payload #>> '{object,id}')::bigint ORDER BY row_.id;
-- each column's old value, and only that; for a column that is set to what it was, nothing
CREATE FUNCTION wrong_columns() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	col text;
	before everything;
	event record;
	wanted jsonb;
BEGIN
	FOR col IN SELECT attname FROM pg_attribute WHERE attrelid = 'everything'::regclass AND attnum > 1 AND NOT attisdropped AND attgenerated = '' LOOP
		FOR before IN SELECT * FROM everything WHERE id > 2 LOOP
			EXECUTE format('UPDATE everything SET %1$I = (SELECT %1$I FROM everything o WHERE o.id = $1) WHERE id = $1', col) USING before.id;
			IF EXISTS (SELECT FROM emitted()) THEN
				RETURN NEXT col || ' is the same, but told as changed';
			END IF;
			EXECUTE format('UPDATE everything SET %I = NULL WHERE id = $1', col) USING before.id;
			SELECT * INTO event FROM emitted();
			wanted := jsonb_build_object(col, to_jsonb(before) -> col) || CASE col WHEN 'i2' THEN jsonb_build_object('gen', to_jsonb(before) -> 'gen') ELSE '{}' END;
			IF event.event_type IS DISTINCT FROM 'everything.updated' OR event.payload <> jsonb_build_object('object', (SELECT to_jsonb(row_) FROM everything row_ WHERE row_.id = before.id), 'previous_attributes', wanted) THEN
				RETURN NEXT col || ': ' || coalesce(event.payload::text, 'no event');
			END IF;
		END LOOP;
	END LOOP;
END
$$;
SELECT wrong_columns();
SELECT key FROM jsonb_each((SELECT to_jsonb(row_) FROM everything row_ WHERE id > 2)) WHERE value <> 'null';

-- Equality is the type's: what it takes for equal has not changed. Without one, the bytes tell.
CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE equals (id int, n numeric, f float8, nc text COLLATE nocase, t text, c char(5), j json, jb jsonb, pt point, a numeric[], i interval);
SELECT webhooks.watch('equals');
INSERT INTO equals VALUES (1, 1.0, 0, 'Abc', 'Abc', 'a', '{"a":1}', '{"a":1}', '(0,0)', '{1.0}', '1 day');
UPDATE equals SET n = 1.00, f = '-0', nc = 'ABC', c = 'a  ', jb = '{ "a" : 1.0 }', a = '{1.00}', i = '24:00';
UPDATE equals SET t = 'ABC';
UPDATE equals SET j = '{"a": 1}';
UPDATE equals SET pt = '(0,1)', n = 'NaN';
UPDATE equals SET pt = '(0,1)', n = 'NaN';
SELECT * FROM emitted();

-- Columns that come later have their default in old rows; the rest of a row that is kept out of line is fetched for what is sent.
CREATE TABLE later (id int PRIMARY KEY, big text, small text);
ALTER TABLE later ALTER big SET STORAGE EXTERNAL;
SELECT webhooks.watch('later', level => l) FROM unnest('{row,statement}'::text[]) l;
INSERT INTO later VALUES (1, repeat('x', 100000), 'a');
ALTER TABLE later ADD COLUMN added int DEFAULT 7, ADD COLUMN twice int GENERATED ALWAYS AS (id * 2) STORED;
UPDATE later SET small = 'b';
SELECT event_type, length(payload #>> '{object,big}'), payload #- '{object,big}' FROM emitted();
SELECT webhooks.watch('later');
UPDATE later SET small = 'c';
UPDATE later SET big = big || 'y';
UPDATE later SET added = 8;
SELECT event_type, length(payload #>> '{object,big}'), length(payload #>> '{previous_attributes,big}'), payload #- '{object,big}' #- '{previous_attributes,big}' FROM emitted();
ALTER TABLE later RENAME small TO renamed;
ALTER TABLE later DROP COLUMN big;
ALTER TABLE later ALTER added TYPE text USING 'was ' || added;
UPDATE later SET renamed = 'd';
UPDATE later SET added = 'text';
SELECT * FROM emitted();
-- a row that is too large for an event is refused, as dispatch refuses it
ALTER TABLE later ADD COLUMN big text;
UPDATE later SET big = repeat('x', 300000);
UPDATE later SET big = repeat(E'\x01', 50000);
SELECT webhooks.watch('later', exclude_columns => '{big}');
UPDATE later SET big = repeat('x', 300000);
UPDATE later SET big = 'y', added = NULL;
SELECT * FROM emitted();

-- A whole statement's rows are one set.
CREATE TABLE many (id int PRIMARY KEY, n int, note text);
SELECT webhooks.watch('many', level => 'statement', events => '{created,updated,deleted,truncated}');
INSERT INTO many SELECT i, 0, repeat('note', 500) FROM generate_series(1, 10000) i;
SELECT event_type, count(*), sum((payload #>> '{object,id}')::int), bool_and(payload = jsonb_build_object('object', to_jsonb(m))) FROM emitted() JOIN many m ON m.id = (payload #>> '{object,id}')::int GROUP BY 1;
UPDATE many SET n = id, id = -id WHERE id % 2 = 0;
SELECT event_type, count(*), bool_and(payload = jsonb_build_object('object', to_jsonb(m), 'previous_attributes', jsonb_build_object('id', -id, 'n', 0))) FROM emitted() JOIN many m ON m.id = (payload #>> '{object,id}')::int GROUP BY 1;
UPDATE many SET n = n WHERE id > 0;
UPDATE many SET n = n WHERE false;
DELETE FROM many WHERE id > 10;
SELECT event_type, count(*), min((payload #>> '{object,id}')::int) FROM emitted() GROUP BY 1;
INSERT INTO many VALUES (1, 7, ''), (10001, 0, '') ON CONFLICT (id) DO UPDATE SET n = excluded.n, note = '';
SELECT event_type, payload #- '{previous_attributes,note}' FROM emitted();
WITH a AS (UPDATE many SET n = 100 WHERE id = 1 RETURNING id), b AS (INSERT INTO many VALUES (10002, 0, '') RETURNING id) DELETE FROM many WHERE id = 10001;
TRUNCATE many;
SELECT * FROM emitted() ORDER BY event_type;
-- what cascades to it is a statement as well
CREATE TABLE parents (id int PRIMARY KEY);
CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES parents ON UPDATE CASCADE ON DELETE CASCADE);
SELECT webhooks.watch('children', level => 'statement');
INSERT INTO parents VALUES (1), (2);
INSERT INTO children VALUES (10, 1), (11, 1), (20, 2);
UPDATE parents SET id = id + 100;
DELETE FROM parents WHERE id = 101;
SELECT * FROM emitted();

-- Tenants: the column says whose event it is. A row that changes hands is deleted for one and created for the other.
CREATE TABLE accounts (id int PRIMARY KEY, account_id bigint, secret text);
SELECT webhooks.watch('accounts', 'account', tenant_column => 'account_id', level => l) FROM unnest('{statement,row}'::text[]) l;
INSERT INTO accounts VALUES (1, 7, 'of 7'), (2, 8, 'of 8'), (3, 7, 'of 7');
UPDATE accounts SET secret = 'new' WHERE id = 1;
UPDATE accounts SET account_id = 8, secret = 'new owner' WHERE id = 3;
SELECT * FROM emitted();
INSERT INTO accounts VALUES (4, NULL, 'whose?');
UPDATE accounts SET account_id = NULL WHERE id = 1;
ALTER TABLE accounts DISABLE TRIGGER USER;
INSERT INTO accounts VALUES (5, NULL, 'whose?'), (6, NULL, 'whose?');
ALTER TABLE accounts ENABLE TRIGGER USER;
UPDATE accounts SET account_id = 9 WHERE id = 5;
DELETE FROM accounts WHERE id = 6;
SELECT * FROM emitted();
SET webhooks.tenant_id = '7';
UPDATE accounts SET secret = 'by 7' WHERE id = 1;
UPDATE accounts SET secret = 'by 7' WHERE id = 2;
INSERT INTO accounts VALUES (7, 8, 'by 7');
UPDATE accounts SET account_id = 8 WHERE id = 1;
DELETE FROM accounts WHERE id = 2;
UPDATE orders SET status = 'without a tenant column';
SELECT webhooks.watch('orders');
UPDATE orders SET status = 'the session''s tenant';
RESET webhooks.tenant_id;
SELECT * FROM emitted();
-- of whatever type it is, its text is the tenant's name; one without a text of its own is refused
CREATE EXTENSION citext;
CREATE DOMAIN code AS citext;
CREATE TABLE owned (id int PRIMARY KEY, c citext, d code, e mood, b char(5), u uuid, n numeric, i inet, y bytea, t timestamptz, f float8, j jsonb, a text[], p part);
SELECT webhooks.watch('owned', tenant_column => 'c');
INSERT INTO owned VALUES (1, 'Acme', 'Domain', 'sad', 'ab', '6ba7b810-9dad-11d1-80b4-00c04fd430c8', 1.50, '10.0.0.1');
SELECT webhooks.watch('owned', tenant_column => 'd');
UPDATE owned SET n = 1;
SELECT webhooks.watch('owned', tenant_column => 'e');
UPDATE owned SET n = 2;
SELECT webhooks.watch('owned', tenant_column => 'b');
UPDATE owned SET n = 3;
SELECT webhooks.watch('owned', tenant_column => 'u');
UPDATE owned SET n = 4;
SELECT webhooks.watch('owned', tenant_column => 'i');
UPDATE owned SET n = 5;
SELECT event_type FROM emitted();
SELECT c, tried(format('SELECT webhooks.watch(''owned'', tenant_column => %L)', c)) FROM unnest('{y,t,f,j,a,p}'::text[]) c;
DROP TABLE owned;
DROP DOMAIN code;
DROP EXTENSION citext;
-- whoever gets them is found for each
SELECT count(webhooks.register_endpoint('https://example.com/' || t, '{account.updated}', t)) FROM unnest('{7,9}'::text[]) t;
SELECT webhooks.watch('accounts', 'account', tenant_column => 'account_id', level => 'statement');
UPDATE accounts SET secret = 'to all';
SELECT e.tenant_id, count(q.*) FROM webhooks.events e LEFT JOIN webhooks.queue q USING (event_id) GROUP BY 1 ORDER BY 1;
TRUNCATE webhooks.endpoints, webhooks.endpoint_secrets, webhooks.events, webhooks.queue;

-- Nobody listens, and nothing is stored: then nothing is rendered, let alone written.
ALTER SYSTEM SET webhooks.store_unmatched = off;
SELECT pg_reload_conf();
\c -
CREATE FUNCTION fails(version) RETURNS json LANGUAGE plpgsql AS $$BEGIN RAISE 'rendered'; END$$;
DROP CAST (version AS json);
CREATE CAST (version AS json) WITH FUNCTION fails(version);
INSERT INTO everything (id, v) VALUES (100, '1.0');
UPDATE everything SET v = '2.0' WHERE id = 100;
SELECT count(*) FROM emitted();
SELECT endpoint_id FROM webhooks.register_endpoint('https://example.com/', '{everything.deleted}') \gset
UPDATE everything SET v = '1.0' WHERE id = 100;
DELETE FROM everything WHERE id = 100;
SELECT webhooks.disable_endpoint(:'endpoint_id');
DELETE FROM everything WHERE id = 100;
ALTER SYSTEM RESET webhooks.store_unmatched;
SELECT pg_reload_conf();
SELECT webhooks.remove_endpoint(:'endpoint_id');

CALL leave_nothing();
DROP FUNCTION wrong_columns(), emitted();
DROP TABLE orders, everything, equals, later, many, parents, children, accounts;
DROP CAST (version AS json);
DROP FUNCTION fails(version), version_json(version);
DROP DOMAIN positive, document;
DROP TYPE mood, part, money_amount, version, temperature;
DROP COLLATION nocase;
