-- Dispatching belongs to the transaction: what is rolled back was never sent, and what a session knows of endpoints follows.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
CREATE FUNCTION there() RETURNS text LANGUAGE sql AS $$
	SELECT coalesce((SELECT string_agg(event_type, ' ' ORDER BY event_id) FROM webhooks.events), 'none') || ' / ' ||
		coalesce((SELECT string_agg(event_type, ' ' ORDER BY q.delivery_id) FROM webhooks.queue q JOIN webhooks.events USING (event_id)), 'none')
$$;
SELECT endpoint_id AS ep FROM webhooks.register_endpoint('https://example.com/') \gset

-- ROLLBACK
BEGIN;
SELECT count(webhooks.dispatch('rolled.back', '{}'));
SELECT there();
ROLLBACK;
SELECT there();

-- ROLLBACK TO SAVEPOINT
BEGIN;
SELECT count(webhooks.dispatch('before', '{}'));
SAVEPOINT s;
SELECT count(webhooks.dispatch('inside', '{}'));
SAVEPOINT s2;
SELECT count(webhooks.dispatch('deeper', '{}'));
RELEASE s2;
ROLLBACK TO s;
SELECT count(webhooks.dispatch('after', '{}'));
SAVEPOINT kept;
SELECT count(webhooks.dispatch('released', '{}'));
RELEASE kept;
COMMIT;
SELECT there();

-- An exception block
DO $$
BEGIN
	PERFORM webhooks.dispatch('outer.before', '{}');
	BEGIN
		PERFORM webhooks.dispatch('inner', '{}');
		RAISE division_by_zero;
	EXCEPTION WHEN division_by_zero THEN
		PERFORM webhooks.dispatch('handler', '{}');
	END;
END
$$;
SELECT there();

-- A statement that fails after it dispatched
SELECT tried($$SELECT webhooks.dispatch('lost', '{}'), 1 / (random() * 0)::integer$$);
SELECT there();
TRUNCATE webhooks.events, webhooks.queue;

-- A trigger that dispatches, with the row
CREATE TABLE orders (id integer PRIMARY KEY, amount numeric NOT NULL);
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM webhooks.dispatch('order.' || lower(TG_OP), to_jsonb(coalesce(NEW, OLD)));
	RETURN NULL;
END
$$;
CREATE TRIGGER tell AFTER INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION tell();
INSERT INTO orders VALUES (1, 10), (2, 20);
UPDATE orders SET amount = 15 WHERE id = 1;
BEGIN;
INSERT INTO orders VALUES (3, 30);
ROLLBACK;
INSERT INTO orders VALUES (4, 40), (1, 0);
SELECT event_type, payload, count(q.delivery_id) FROM webhooks.events e LEFT JOIN webhooks.queue q USING (event_id) GROUP BY e.event_id, event_type, payload ORDER BY e.event_id;
-- deferred to the commit, too
CREATE CONSTRAINT TRIGGER tell_late AFTER DELETE ON orders DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tell();
BEGIN;
DELETE FROM orders WHERE id = 2;
SELECT count(*) FROM webhooks.events;
COMMIT;
SELECT event_type, payload FROM webhooks.events WHERE event_type = 'order.delete';
DROP TABLE orders;
DROP FUNCTION tell();
TRUNCATE webhooks.events, webhooks.queue;

-- Two phases: nothing is there before COMMIT PREPARED.
BEGIN;
SELECT count(webhooks.dispatch('prepared', '{}'));
PREPARE TRANSACTION 'webhooks_test';
SELECT there();
COMMIT PREPARED 'webhooks_test';
SELECT there();
BEGIN;
SELECT count(webhooks.dispatch('prepared.rolled_back', '{}'));
PREPARE TRANSACTION 'webhooks_test';
ROLLBACK PREPARED 'webhooks_test';
SELECT there();

-- Registering and disabling take part in two phases, too (disable_endpoint notifies, which PostgreSQL does not prepare): this session knows of them when they are committed.
BEGIN;
UPDATE webhooks.endpoints SET state = 'disabled', disabled_reason = 'by hand' WHERE endpoint_id = :'ep';
PREPARE TRANSACTION 'webhooks_test';
SELECT webhooks.dispatch('while.prepared', '{}') AS event \gset
SELECT count(*) FROM webhooks.queue WHERE event_id = :'event';
COMMIT PREPARED 'webhooks_test';
SELECT webhooks.dispatch('when.disabled', '{}') AS event \gset
SELECT count(*) FROM webhooks.queue WHERE event_id = :'event';
SELECT webhooks.enable_endpoint(:'ep');

-- A read-only transaction
BEGIN READ ONLY;
SELECT tried($$SELECT webhooks.dispatch('read.only', '{}')$$);
SELECT tried($$SELECT webhooks.register_endpoint('https://example.com/')$$);
SELECT tried(format('SELECT webhooks.disable_endpoint(%L)', :'ep'));
ROLLBACK;

-- Endpoints registered, disabled, removed in the same transaction count at once, and no longer once that is rolled back.
CREATE FUNCTION receivers() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	event uuid := webhooks.dispatch('a', '{}');
BEGIN
	RETURN (SELECT count(*) FROM webhooks.queue WHERE event_id = event);
END
$$;
SELECT receivers();
BEGIN;
SELECT endpoint_id AS ep2 FROM webhooks.register_endpoint('https://example.com/2') \gset
SELECT receivers();
SAVEPOINT s;
SELECT webhooks.disable_endpoint(:'ep');
SELECT receivers();
SELECT webhooks.remove_endpoint(:'ep2');
SELECT receivers();
ROLLBACK TO s;
SELECT receivers();
ROLLBACK;
SELECT receivers();
BEGIN;
SELECT webhooks.remove_endpoint(:'ep');
SELECT receivers();
ROLLBACK;
SELECT receivers();
-- in one statement, and in a subtransaction that fails
SELECT count(endpoint_id), receivers() FROM webhooks.register_endpoint('https://example.com/3') GROUP BY endpoint_id;
SELECT tried('WITH r AS MATERIALIZED (SELECT webhooks.register_endpoint(''https://example.com/4'') AS x) SELECT receivers() / 0 FROM r');
SELECT receivers();
-- changed by hand, truncated
UPDATE webhooks.endpoints SET event_types = '{b}' WHERE endpoint_id = :'ep';
SELECT receivers();
BEGIN;
TRUNCATE webhooks.endpoints;
SELECT receivers();
ROLLBACK;
SELECT receivers();

CALL leave_nothing();
DROP FUNCTION receivers();
DROP FUNCTION there();
