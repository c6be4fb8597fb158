-- What each level of grant_access reaches, function by function and table by table; tried out, not looked up.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
CREATE SCHEMA tests;
GRANT ALL ON SCHEMA tests TO PUBLIC;
CREATE ROLE regress_webhooks_nobody;
CREATE ROLE regress_webhooks_dispatch;
CREATE ROLE regress_webhooks_observe;
CREATE ROLE regress_webhooks_manage;

-- Every function stands in one level's list, or is internal; every table and view is read by a level, or by nobody.
SELECT p.oid::regprocedure || ' is in no level''s list; or it is not for users: then its comment begins with "internal:"'
FROM pg_proc p LEFT JOIN webhooks.access_levels() a ON a.kind = 'function' AND a.name = p.proname
WHERE p.pronamespace = 'webhooks'::regnamespace
	AND (a.name IS NULL) <> (coalesce(obj_description(p.oid, 'pg_proc'), '') LIKE 'internal:%');
SELECT name || ' stands in two levels' FROM webhooks.access_levels() GROUP BY kind, name HAVING count(*) > 1;
SELECT c.oid::regclass FROM pg_class c
WHERE c.relnamespace = 'webhooks'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
	AND NOT EXISTS (SELECT FROM webhooks.access_levels() a WHERE a.kind = 'relation' AND a.name = c.relname)
	-- secrets
	AND NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = 'secret');

-- Granting.
SELECT tried(format('SELECT webhooks.grant_access(%s, %s)', r, l))
FROM unnest(ARRAY['NULL', '0', $$'regress_webhooks_missing'$$, $$'public'$$, $$'regress_webhooks_nobody'$$, $$'regress_webhooks_nobody'$$, $$'regress_webhooks_nobody'$$],
	ARRAY[$$'observe'$$, $$'observe'$$, $$'observe'$$, $$'observe'$$, 'NULL', $$'Manage'$$, $$'owner'$$]) t(r, l);
SELECT tried('SELECT webhooks.revoke_access(NULL)'), tried($$SELECT webhooks.revoke_access('regress_webhooks_missing')$$);
SELECT count(webhooks.grant_access(r::regrole, replace(r, 'regress_webhooks_', '')))
FROM unnest('{regress_webhooks_dispatch,regress_webhooks_observe,regress_webhooks_manage}'::text[]) r;

-- What is tried: each function, its arguments NULL; of each table, all that can be done to it.
CREATE TABLE tests.tries (object text, relation boolean, read boolean, statement text);
INSERT INTO tests.tries
SELECT p.oid::regprocedure, false, false, format(CASE p.prokind WHEN 'p' THEN 'CALL %1$s(%3$s)' ELSE 'SELECT %1$s(%2$s) FROM (SELECT %4$s OFFSET 0) n' END,
	p.oid::regproc, a.names, a.nulls, a.columns)
FROM pg_proc p, LATERAL (
	SELECT string_agg(CASE WHEN i = p.pronargs AND p.provariadic <> 0 THEN 'VARIADIC ' ELSE '' END || 'n' || i, ', ' ORDER BY i) AS names, string_agg('NULL::' || format_type(t, NULL), ', ' ORDER BY i) AS nulls,
		string_agg(format('NULL::%s AS n%s', format_type(t, NULL), i), ', ' ORDER BY i) AS columns
	FROM unnest(p.proargtypes) WITH ORDINALITY u(t, i)) a
WHERE p.pronamespace = 'webhooks'::regnamespace AND p.prorettype <> 'trigger'::regtype;
-- a trigger's function needs EXECUTE when the trigger is made
INSERT INTO tests.tries
SELECT p.oid::regprocedure, false, false, format('CREATE TEMPORARY TABLE t (id int); CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION %s()', p.oid::regproc)
FROM pg_proc p WHERE p.pronamespace = 'webhooks'::regnamespace AND p.prorettype = 'trigger'::regtype;
INSERT INTO tests.tries
SELECT c.oid::regclass, true, s LIKE 'SELECT %', format(s, c.oid::regclass, a.attname)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = 1, unnest(ARRAY[
	'SELECT %2$s FROM %1$s', 'SELECT * FROM %1$s', 'LOCK TABLE %1$s IN ROW EXCLUSIVE MODE', 'INSERT INTO %1$s (%2$s) VALUES (NULL)', 'UPDATE %1$s SET %2$s = NULL', 'DELETE FROM %1$s', 'TRUNCATE %1$s',
	'CREATE TABLE tests.t (%2$s uuid REFERENCES %1$s)', 'CREATE TABLE tests.t () INHERITS (%1$s)', 'CREATE TABLE tests.t PARTITION OF %1$s DEFAULT',
	'CREATE TRIGGER t BEFORE INSERT ON %1$s FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()', 'CREATE RULE r AS ON INSERT TO %1$s DO ALSO NOTHING',
	'CREATE POLICY p ON %1$s USING (true)', 'ALTER TABLE %1$s DISABLE ROW LEVEL SECURITY', 'CREATE INDEX ON %1$s (%2$s)', 'CREATE STATISTICS tests.s ON %2$s, tableoid FROM %1$s',
	'ALTER TABLE %1$s ADD x int', 'ALTER TABLE %1$s OWNER TO CURRENT_USER', 'DROP TABLE %1$s', 'COMMENT ON TABLE %1$s IS NULL'
]) s
WHERE c.relnamespace = 'webhooks'::regnamespace AND c.relkind IN ('r', 'p');
INSERT INTO tests.tries
SELECT c.oid::regclass, true, s LIKE 'SELECT %', format(s, c.oid::regclass)
FROM pg_class c, unnest(ARRAY['SELECT * FROM %1$s', 'CREATE RULE r AS ON INSERT TO %1$s DO ALSO NOTHING', 'DROP VIEW %1$s', 'ALTER VIEW %1$s SET (security_invoker = false)']) s
WHERE c.relnamespace = 'webhooks'::regnamespace AND c.relkind = 'v';
INSERT INTO tests.tries VALUES ('webhooks', true, false, 'CREATE TABLE webhooks.t ()'), ('webhooks', true, false, 'CREATE FUNCTION webhooks.dispatch() RETURNS int LANGUAGE sql RETURN 1'),
	('webhooks', true, false, 'ALTER EXTENSION webhooks UPDATE'), ('webhooks', true, false, 'DROP EXTENSION webhooks'), ('webhooks', true, false, 'ALTER SCHEMA webhooks RENAME TO x');
GRANT SELECT ON tests.tries TO PUBLIC;
SELECT count(*) > 30, count(*) FILTER (WHERE relation) > 150 FROM tests.tries;

CREATE TABLE tests.levels AS SELECT * FROM webhooks.access_levels();
GRANT SELECT ON tests.levels TO PUBLIC;

-- A role's surprises: what it was let do and should not, or the other way round. Refused is for a missing privilege, or because the object is not
-- one's own; what nobody can do (inherit from a partitioned table, refer to one without a key) is refused for that first.
CREATE FUNCTION surprises(levels text[]) RETURNS TABLE (statement text, result text) LANGUAGE sql AS $$
	SELECT t.statement, t.result
	FROM (SELECT *, tried(statement, false) AS result FROM tests.tries) t
	WHERE (t.result !~ '^(42501 (permission denied|must be owner|must be superuser)|42809 cannot inherit from partition|42704 there is no primary key)') <> (
		(t.read OR NOT t.relation) AND EXISTS (
			SELECT FROM tests.levels a
			WHERE a.level = ANY (levels) AND a.kind = CASE WHEN t.relation THEN 'relation' ELSE 'function' END
				AND t.object ~ ('^webhooks\.' || a.name || '\M')))
$$;
SET ROLE regress_webhooks_nobody;
SELECT * FROM surprises('{}');
SET ROLE regress_webhooks_dispatch;
SELECT * FROM surprises('{dispatch}');
SET ROLE regress_webhooks_observe;
SELECT * FROM surprises('{observe}');
SET ROLE regress_webhooks_manage;
SELECT * FROM surprises('{dispatch,observe,manage}');
RESET ROLE;
-- the owner is refused nothing
SELECT count(*) FROM tests.tries WHERE NOT relation AND tried(statement, false) LIKE '42501%';

-- An observer reads all of an event but its secret, which stands apart; no level reads secrets, and whoever is granted a table of them sees no row.
SELECT webhooks.dispatch('observed', '{"n": 1}', headers => '{"Authorization": "Bearer top secret"}') AS event \gset
SET ROLE regress_webhooks_observe;
SELECT count(*), bool_or(ev::text ~ 'top secret') FROM (SELECT * FROM webhooks.events) ev WHERE event_id = :'event';
SELECT event_type, payload, headers FROM webhooks.events WHERE event_id = :'event';
SET ROLE regress_webhooks_manage;
SELECT t, tried(format('SELECT count(secret) FROM webhooks.%s', t)) FROM unnest('{endpoint_secrets,event_secrets,signing_keys,source_secrets}'::text[]) t;
RESET ROLE;
SELECT secret FROM webhooks.event_secrets WHERE event_id = :'event';
GRANT SELECT ON webhooks.endpoint_secrets, webhooks.event_secrets TO regress_webhooks_manage;
SELECT count(webhooks.register_endpoint('https://localhost:9/'));
SET ROLE regress_webhooks_manage;
SELECT count(*) FROM webhooks.endpoints;
SELECT count(*) FROM webhooks.endpoint_secrets;
SELECT count(*) FROM webhooks.event_secrets;
RESET ROLE;

-- A member of a role has what the role has; what is granted twice is granted once; levels add up.
CREATE ROLE "regress_webhooks ""; DROP" IN ROLE regress_webhooks_dispatch;
SELECT webhooks.grant_access('"regress_webhooks ""; DROP"', 'observe'), webhooks.grant_access('"regress_webhooks ""; DROP"', 'observe');
SET ROLE "regress_webhooks ""; DROP";
SELECT * FROM surprises('{dispatch,observe}');
RESET ROLE;

-- Only the owner grants, whatever else one may do.
SET ROLE regress_webhooks_manage;
SELECT tried($$SELECT webhooks.grant_access('regress_webhooks_nobody', 'observe')$$), tried($$SELECT webhooks.revoke_access('regress_webhooks_observe')$$);
SELECT tried('SELECT webhooks.maintain()');
RESET ROLE;

-- Revoking takes all of it; then nothing is left that would keep the role from being dropped.
SELECT webhooks.revoke_access(r) FROM unnest(ARRAY['regress_webhooks_manage', '"regress_webhooks ""; DROP"', 'regress_webhooks_nobody']::regrole[]) r;
SET ROLE regress_webhooks_manage;
SELECT * FROM surprises('{}');
RESET ROLE;
DROP ROLE regress_webhooks_manage, "regress_webhooks ""; DROP";
-- others keep theirs
SET ROLE regress_webhooks_observe;
SELECT * FROM surprises('{observe}');
RESET ROLE;
SELECT tried('DROP ROLE regress_webhooks_dispatch') LIKE '2BP01 role % cannot be dropped because some objects depend on it%';
DROP OWNED BY regress_webhooks_dispatch, regress_webhooks_observe;
DROP ROLE regress_webhooks_dispatch, regress_webhooks_observe, regress_webhooks_nobody;
SELECT oid::regprocedure FROM pg_proc, aclexplode(proacl) a WHERE pronamespace = 'webhooks'::regnamespace AND a.grantee <> proowner;
SELECT oid::regclass FROM pg_class, aclexplode(relacl) a WHERE relnamespace = 'webhooks'::regnamespace AND a.grantee <> relowner;

CALL leave_nothing();
SET client_min_messages = warning;
DROP SCHEMA tests CASCADE;
DROP FUNCTION surprises(text[]);
