-- Installing: what there is, that it is commented on and PUBLIC has nothing of it, and that it goes without a trace.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
-- The functions of the contract that there are: what a call may name, in this order, and what it gets. Arguments may be added at the end.
SELECT format('%s(%s) %s', p.proname,
		(SELECT string_agg(concat_ws(' ', CASE WHEN p.proargmodes[i] = 'b' THEN 'INOUT' END, p.proargnames[i], format_type(coalesce(p.proallargtypes[i], p.proargtypes[i - 1]), NULL)), ', ' ORDER BY i)
			FROM generate_subscripts(p.proargnames, 1) i WHERE coalesce(p.proargmodes[i], 'i') IN ('i', 'b')),
		CASE p.prokind WHEN 'p' THEN 'procedure' ELSE regexp_replace(pg_get_function_result(p.oid), '^(TABLE|SETOF record)', 'setof') END)
FROM pg_proc p
WHERE pronamespace = 'webhooks'::regnamespace AND proname = ANY ('{register_endpoint,pause_endpoint,resume_endpoint,disable_endpoint,enable_endpoint,remove_endpoint,
	rotate_secret,check_url,dispatch,dispatch_status,replay_delivery,replay_event,replay_failed,cancel_event,cancel_delivery,dispatch_to_urls,add_signing_key,retire_signing_key,discard_dead_letter,deliver_due,wait_until_idle}')
ORDER BY proname COLLATE "C";
SELECT p.proname || ' -> ' || string_agg(p.proargnames[i] || ' ' || format_type(p.proallargtypes[i], NULL), ', ' ORDER BY i)
FROM pg_proc p, generate_subscripts(p.proargmodes, 1) i
WHERE pronamespace = 'webhooks'::regnamespace AND p.proargmodes[i] IN ('o', 't', 'b') AND proname = ANY ('{register_endpoint,check_url,dispatch_status,deliver_due}')
GROUP BY p.oid, p.proname ORDER BY p.proname COLLATE "C";
SELECT p.proname || ' ' || pg_get_expr(p.proargdefaults, 0) FROM pg_proc p
WHERE pronamespace = 'webhooks'::regnamespace AND p.pronargdefaults > 0 AND proname = ANY ('{register_endpoint,disable_endpoint,rotate_secret,dispatch,dispatch_to_urls,add_signing_key,retire_signing_key,replay_event,replay_failed,deliver_due,wait_until_idle}')
ORDER BY p.proname COLLATE "C";

-- Every object a user can name has a comment.
SELECT 'schema' WHERE obj_description('webhooks'::regnamespace, 'pg_namespace') IS NULL
UNION ALL SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'webhooks'::regnamespace AND obj_description(oid, 'pg_proc') IS NULL
UNION ALL SELECT oid::regclass::text FROM pg_class
	WHERE relnamespace = 'webhooks'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND obj_description(oid, 'pg_class') IS NULL
	AND relname !~ '_\d{8}$'
UNION ALL SELECT oid::regtype::text FROM pg_type WHERE typnamespace = 'webhooks'::regnamespace AND typtype IN ('e', 'd', 'r') AND obj_description(oid, 'pg_type') IS NULL;
SELECT count(*) > 10 FROM pg_proc WHERE pronamespace = 'webhooks'::regnamespace;

-- PUBLIC has nothing; and everything in the schema is the extension's, the days' partitions apart.
SELECT nspname FROM pg_namespace, aclexplode(nspacl) a WHERE nspname = 'webhooks' AND a.grantee = 0;
SELECT oid::regclass FROM pg_class, aclexplode(relacl) a WHERE relnamespace = 'webhooks'::regnamespace AND a.grantee = 0;
SELECT oid::regprocedure FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) a WHERE pronamespace = 'webhooks'::regnamespace AND a.grantee = 0;
SELECT c.oid::regclass FROM pg_class c
WHERE relnamespace = 'webhooks'::regnamespace AND relkind NOT IN ('i', 'I', 't') AND relname !~ '_\d{8}$'
	AND NOT EXISTS (SELECT FROM pg_depend d JOIN pg_extension x ON x.oid = d.refobjid WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e' AND x.extname = 'webhooks');
SELECT oid::regprocedure FROM pg_proc p
WHERE pronamespace = 'webhooks'::regnamespace
	AND NOT EXISTS (SELECT FROM pg_depend d JOIN pg_extension x ON x.oid = d.refobjid WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e' AND x.extname = 'webhooks');
-- nothing of it stands elsewhere
SELECT pg_describe_object(d.classid, d.objid, d.objsubid) FROM pg_depend d JOIN pg_extension x ON x.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
WHERE d.deptype = 'e' AND x.extname = 'webhooks' AND (pg_identify_object(d.classid, d.objid, d.objsubid)).identity !~ '(^| )webhooks(\.|$)';
-- what users put into it is dumped
SELECT oid::regclass FROM pg_class WHERE oid = ANY ((SELECT extconfig FROM pg_extension WHERE extname = 'webhooks')::oid[]) ORDER BY relname COLLATE "C";

-- Its name and schema are fixed; only a superuser installs it.
SELECT extrelocatable, n.nspname, extversion = (SELECT default_version FROM pg_available_extensions WHERE name = 'webhooks') FROM pg_extension x JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'webhooks';
SELECT superuser, trusted, relocatable FROM pg_available_extension_versions WHERE name = 'webhooks' AND installed;
SELECT tried('CREATE EXTENSION webhooks');
SELECT tried('DROP TABLE webhooks.queue');

-- Used, with partitions made, then dropped without CASCADE: nothing is left.
SELECT count(webhooks.register_endpoint('https://localhost:9/'));
SELECT count(webhooks.dispatch('a', '{}')) FROM generate_series(1, 3);
DO $$ BEGIN WHILE webhooks.maintain() IS NOT NULL LOOP END LOOP; END $$;
SELECT count(*) > 10 FROM pg_inherits WHERE inhparent IN ('webhooks.events'::regclass, 'webhooks.attempts'::regclass);
DROP EXTENSION webhooks;
SELECT nspname FROM pg_namespace WHERE nspname = 'webhooks';
SELECT relname FROM pg_class WHERE relname ~ '^(events|attempts)_\d{8}$';
SELECT proname FROM pg_proc WHERE probin ~ 'webhooks';

-- In a transaction that is rolled back, nothing comes.
BEGIN;
CREATE EXTENSION webhooks;
SELECT count(webhooks.register_endpoint('https://localhost:9/'));
SELECT count(webhooks.dispatch('a', '{}'));
SELECT count(*) FROM webhooks.queue;
ROLLBACK;
SELECT nspname FROM pg_namespace WHERE nspname = 'webhooks';

-- Created again: the session that knew the old one works on with the new, and the new is empty.
CREATE EXTENSION webhooks;
SELECT count(*) FROM webhooks.endpoints;
SELECT webhooks.dispatch('a', '{}') AS event \gset
SELECT count(*) FROM webhooks.dispatch_status(:'event');
SELECT count(webhooks.register_endpoint('https://localhost:9/'));
SELECT webhooks.dispatch('a', '{}') AS event \gset
SELECT state FROM webhooks.dispatch_status(:'event');
CALL webhooks.deliver_due();
SELECT state FROM webhooks.dispatch_status(:'event');
DROP EXTENSION webhooks;
CREATE EXTENSION webhooks;
SELECT count(webhooks.register_endpoint('https://localhost:9/'));
SELECT count(webhooks.dispatch('a', '{}'));
CALL webhooks.deliver_due();

-- Given to a role that is no superuser, it tells how it goes all the same.
DROP EXTENSION webhooks;
CREATE ROLE regress_webhooks_installer SUPERUSER;
CREATE ROLE regress_webhooks_owner;
SET ROLE regress_webhooks_installer;
CREATE EXTENSION webhooks;
RESET ROLE;
REASSIGN OWNED BY regress_webhooks_installer TO regress_webhooks_owner;
SELECT reason FROM webhooks.health();
SELECT count(*) > 0 FROM webhooks.metrics();
SELECT webhooks.report_html() ~ '^<!DOCTYPE html>';

-- Its partitions are known to be empty, so that what reads all of them costs little.
SELECT count(webhooks.register_endpoint('https://localhost:9/'));
DO $$ BEGIN WHILE webhooks.maintain() IS NOT NULL LOOP END LOOP; END $$;
SELECT inhparent::regclass, count(*), count(*) FILTER (WHERE reltuples = 0) FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
WHERE inhparent::regclass::text ~ '^webhooks\.' GROUP BY 1 ORDER BY min(inhparent::regclass::text);
CREATE FUNCTION cost(query text) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
	plan json;
BEGIN
	EXECUTE 'EXPLAIN (FORMAT JSON) ' || query INTO plan;
	RETURN plan -> 0 -> 'Plan' ->> 'Total Cost';
END
$$;
SELECT cost('SELECT count(*) FROM webhooks.deliveries') < current_setting('jit_above_cost')::float8 / 10;
-- and what comes into one is seen
INSERT INTO webhooks.attempts (delivery_id, event_id, endpoint_id, tenant_id, url, attempt, attempted_at, outcome)
SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), '', 'https://localhost:9/', 1, now(), 'succeeded' FROM generate_series(1, 10000);
SELECT cost('SELECT FROM webhooks.attempts') > 100;
DROP FUNCTION cost(text);

-- A schema of that name that is somebody else's is not taken over.
DROP EXTENSION webhooks;
DROP ROLE regress_webhooks_installer, regress_webhooks_owner;
CREATE SCHEMA webhooks;
SELECT tried('CREATE EXTENSION webhooks');
DROP SCHEMA webhooks;
CREATE EXTENSION webhooks;

CALL leave_nothing();
