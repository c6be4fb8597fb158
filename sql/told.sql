-- Which changes of tables are told, and as whose: when_changed, tenants, TRUNCATE, settings of the session; alike for rows and for statements.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
SET client_min_messages = warning;
CREATE FUNCTION emitted() RETURNS TABLE (event_type text, payload jsonb) LANGUAGE sql AS $$
	WITH gone AS (DELETE FROM webhooks.events RETURNING *)
	SELECT event_type || CASE WHEN tenant_id <> '' THEN ' of ' || tenant_id ELSE '' END || coalesce(' in ' || ordering_key, ''), payload FROM gone ORDER BY event_id
$$;
CREATE TABLE orders (id int PRIMARY KEY, owner text, status text, amount numeric, note text);
ALTER TABLE orders ALTER note SET STORAGE EXTERNAL;
CREATE PROCEDURE watch_updates(level text, VARIADIC options text[]) LANGUAGE plpgsql AS $$
BEGIN
	DROP TRIGGER IF EXISTS updates ON orders;
	EXECUTE format('CREATE TRIGGER updates AFTER UPDATE ON orders %s FOR EACH %s EXECUTE FUNCTION webhooks.emit_change(%s)', CASE level WHEN 'statement' THEN 'REFERENCING OLD TABLE AS o NEW TABLE AS n' END, level,
		(SELECT string_agg(quote_literal(o), ', ' ORDER BY n) FROM unnest(options) WITH ORDINALITY u(o, n)));
END
$$;

-- Of when_changed one column must have changed by its type's equality, whether it is sent or not; and something that is sent must have, too.
CREATE FUNCTION updates(level text) RETURNS TABLE (event_type text, payload jsonb) LANGUAGE plpgsql AS $$
BEGIN
	DELETE FROM orders;
	INSERT INTO orders VALUES (1, 'x', 'new', 1, repeat('long', 1000)), (2, 'x', 'new', 2, 'short');
	CALL watch_updates(level, 'order', 'tenant_column=owner', 'include=id,status', 'when_changed=amount,note');
	UPDATE orders SET status = 'not told';
	UPDATE orders SET status = 'told 1', amount = amount + 1 WHERE id = 1;
	UPDATE orders SET status = 'not told', amount = amount * 1.00;
	UPDATE orders SET amount = amount + 1;
	UPDATE orders SET status = 'told 2', note = note || '!';
	UPDATE orders SET status = 'not told', note = note || '';
	UPDATE orders SET status = 'told 3', note = NULL WHERE id = 2;
	-- of a statement's rows each is judged alone
	UPDATE orders SET status = 'told 4', amount = CASE id WHEN 1 THEN 100 ELSE amount END;
	-- a row that changes hands is told whatever else has changed
	UPDATE orders SET owner = 'y' WHERE id = 1;
	RETURN QUERY SELECT * FROM emitted();
END
$$;
CREATE TEMPORARY TABLE by_row AS SELECT * FROM updates('row');
SELECT * FROM by_row;
CREATE TEMPORARY TABLE by_statement AS SELECT * FROM updates('statement');
SELECT * FROM by_statement EXCEPT ALL SELECT * FROM by_row;
SELECT * FROM by_row EXCEPT ALL SELECT * FROM by_statement;

-- Tenants that take turns in one statement: each row is its tenant's, and each tenant's endpoints are asked.
ALTER SYSTEM SET webhooks.store_unmatched = off;
SELECT pg_reload_conf();
\c -
SET client_min_messages = warning;
SELECT count(webhooks.register_endpoint('https://example.com/' || t, ARRAY['order.' || k], t)) FROM (VALUES ('a', 'updated'), ('c', 'deleted'), ('d', 'created')) v(t, k);
DELETE FROM orders;
INSERT INTO orders SELECT i, (ARRAY['a', 'b', 'c', 'd'])[i % 4 + 1], 'new', i FROM generate_series(1, 12) i;
CALL watch_updates('statement', 'order', 'tenant_column=owner', 'include=id');
ALTER TABLE orders ADD COLUMN n int DEFAULT 0;
CALL watch_updates('statement', 'order', 'tenant_column=owner', 'include=id,n');
UPDATE orders SET n = id;
SELECT * FROM emitted();
-- hands are changed: deleted goes to who had it, created to who has it
UPDATE orders SET owner = CASE owner WHEN 'a' THEN 'b' WHEN 'b' THEN 'c' WHEN 'c' THEN 'd' ELSE 'a' END, n = -id;
SELECT * FROM emitted();
ALTER SYSTEM RESET webhooks.store_unmatched;
SELECT pg_reload_conf();
\c -
SET client_min_messages = warning;
-- an ordering column of a type whose text depends on the session's settings keeps its order in each
ALTER TABLE orders ADD COLUMN born timestamptz DEFAULT '2024-01-31 12:00+00';
CALL watch_updates('row', 'order', 'ordering_columns=born', 'include=n');
UPDATE orders SET n = 1 WHERE id = 1;
SET timezone = 'Asia/Tokyo';
SET datestyle = 'German';
UPDATE orders SET n = 2 WHERE id = 1;
RESET ALL;
SELECT count(*), count(DISTINCT ordering_key) FROM webhooks.events;
SELECT count(*) FROM emitted();

-- that of a char(n) is without the blanks that fill it up
CREATE TABLE padded (id int PRIMARY KEY, owner char(8));
SELECT webhooks.watch('padded', tenant_column => 'owner', ordered => true);
INSERT INTO padded VALUES (1, 'a'), (2, 'a b ');
SELECT tenant_id || '.', payload FROM webhooks.events ORDER BY event_id;
SELECT count(*) FROM emitted();

-- Equal is what the type takes for equal, though its bytes are others, and more; what has no equality is compared as it is, not as it is kept.
CREATE COLLATION told_nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE kept (id int PRIMARY KEY, t text COLLATE told_nocase, j json, p point, n numeric[]);
ALTER TABLE kept ALTER t SET STORAGE EXTERNAL, ALTER j SET STORAGE EXTERNAL;
SELECT webhooks.watch('kept', include_columns => '{id,t,j}');
INSERT INTO kept VALUES (1, repeat(U&'\00e4', 3000), to_json(repeat('x', 3000))), (2, U&'\00e4', '1');
SELECT count(*) FROM emitted();
UPDATE kept SET t = normalize(t, NFD), j = (j::text || '')::json;
SELECT octet_length(t) FROM kept ORDER BY id;
SELECT count(*) FROM emitted();
UPDATE kept SET t = t || '', j = (' ' || j::text)::json WHERE id = 1;
UPDATE kept SET t = 'a', j = j WHERE id = 2;
SELECT event_type, payload #>> '{object,id}', array(SELECT jsonb_object_keys(payload -> 'previous_attributes')) FROM emitted();

-- TRUNCATE is one event of the session's tenant, whatever level and tenant column the watch has; of tables that it reaches by CASCADE, too.
CREATE TABLE items (id int PRIMARY KEY, order_id int REFERENCES orders, owner text);
DROP TRIGGER updates ON orders;
SELECT webhooks.watch('orders', 'order', '{created,truncated}', include_columns => '{id,owner}', tenant_column => 'owner', ordered => true), webhooks.watch('items', 'item', '{truncated}');
INSERT INTO orders (id, owner) VALUES (100, 'x');
INSERT INTO items VALUES (1, 100, 'x');
SELECT * FROM emitted();
TRUNCATE orders CASCADE;
SET webhooks.tenant_id = 'x';
TRUNCATE items;
RESET webhooks.tenant_id;
BEGIN;
TRUNCATE items;
ROLLBACK;
SELECT * FROM emitted() ORDER BY 1;

-- session_replication_role: origin and local are told alike, replica is not, until the trigger is enabled for it; then ALWAYS tells all, REPLICA that alone.
SELECT webhooks.watch('orders', 'order', '{created}', include_columns => '{id}');
INSERT INTO orders (id) VALUES (1);
SET session_replication_role = local;
INSERT INTO orders (id) VALUES (2);
SET session_replication_role = replica;
INSERT INTO orders (id) VALUES (3);
ALTER TABLE orders ENABLE REPLICA TRIGGER webhooks_created;
INSERT INTO orders (id) VALUES (4);
RESET session_replication_role;
INSERT INTO orders (id) VALUES (5);
ALTER TABLE orders ENABLE ALWAYS TRIGGER webhooks_created;
INSERT INTO orders (id) VALUES (6);
SET session_replication_role = replica;
INSERT INTO orders (id) VALUES (7);
RESET session_replication_role;
SELECT payload FROM emitted();

-- COPY is told as INSERT is, and a row that goes and comes within a transaction as that.
ALTER TABLE orders ENABLE TRIGGER webhooks_created;
SELECT webhooks.watch('orders', 'order', include_columns => '{id,amount}', level => l) FROM unnest('{row,statement}'::text[]) l;
COPY orders (id, amount) FROM stdin;
20	1.50
21	\N
\.
BEGIN;
DELETE FROM orders WHERE id = 20;
INSERT INTO orders (id, amount) VALUES (20, 2);
UPDATE orders SET amount = 3 WHERE id = 20;
COMMIT;
SELECT * FROM emitted();
-- what a trigger before it makes of a row is what is told; what one leaves out is not
CREATE FUNCTION before() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF NEW.id % 2 = 0 THEN NEW.amount := NEW.id; RETURN NEW; END IF; RETURN NULL; END$$;
CREATE TRIGGER before BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION before();
INSERT INTO orders (id, amount) VALUES (30, 1), (31, 1);
SELECT * FROM emitted();

-- unwatch takes what watch made of that table, and nothing else: neither another function's trigger, whatever its name, nor one that is the parent's.
CREATE TABLE mine (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE mine_1 PARTITION OF mine FOR VALUES FROM (0) TO (10);
CREATE TRIGGER webhooks_updated BEFORE UPDATE ON mine FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
CREATE TRIGGER by_hand AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION webhooks.emit_change('by_hand');
SELECT webhooks.watch('mine', 'mine', '{created}');
SELECT webhooks.unwatch('mine_1');
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgrelid IN ('mine'::regclass, 'mine_1'::regclass) ORDER BY 1, 2;
SELECT webhooks.watch('mine');
SELECT webhooks.unwatch('mine');
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgrelid IN ('mine'::regclass, 'mine_1'::regclass) ORDER BY 1, 2;

CALL leave_nothing();
DROP TABLE orders, items, padded, kept, mine;
DROP COLLATION told_nocase;
DROP FUNCTION emitted(), updates(text), before();
DROP PROCEDURE watch_updates(text, text[]);
