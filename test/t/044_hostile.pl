
# A role that may create what it likes, and has every level of access, shadows whatever the extension could mean: functions,
# operators, types, tables. All of it comes first in everybody's search_path. Nothing of it ever runs as somebody else.

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;
use WebhooksTest;

my $node     = start_node(conf => { 'webhooks.retry_jitter' => 0, 'webhooks.retry_schedule' => '100ms' });
my $receiver = start_receiver();
my $path     = 'pg_temp, hostile, pg_catalog, webhooks';

# Runs SQL as a role; with a search_path of its own where one is given. Gives the result, and what was said of errors.
sub run_as
{
	my ($role, $sql, $search_path) = @_;
	local $ENV{PGOPTIONS} = defined $search_path ? "-c search_path=$search_path" : '';
	my (undef, $stdout, $stderr) = $node->psql('postgres', $sql, extra_params => [ '-U', $role ], on_error_stop => 0, timeout => 60);
	return wantarray ? ($stdout, $stderr) : $stdout;
}

# What the test itself asks must not meet what it has set up.
sub clean
{
	my ($sql) = @_;
	return run_as('postgres', $sql, 'pg_catalog');
}

clean(q{
	CREATE ROLE mallory LOGIN;
	SELECT webhooks.grant_access('mallory', 'manage');
	GRANT CREATE, TEMPORARY ON DATABASE postgres TO mallory});

# Everything that pg_catalog has by these names, with the same arguments, so that it is preferred where its schema comes first.
my $shadows = q{
	CREATE SCHEMA hostile;
	GRANT USAGE ON SCHEMA hostile TO PUBLIC;
	CREATE TABLE hostile.ran (who text, session text, what text);
	GRANT INSERT ON hostile.ran TO PUBLIC;
	CREATE FUNCTION pg_temp.shadow(what text, arguments text, result text) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE format('CREATE FUNCTION hostile.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', what, arguments, result,
			format('BEGIN INSERT INTO hostile.ran VALUES (current_user, session_user, %L); RETURN %s; END', what, CASE result WHEN 'boolean' THEN 'true' WHEN 'trigger' THEN 'NEW' ELSE 'NULL' END));
	END $$;
	SELECT count(pg_temp.shadow(proname, pg_get_function_identity_arguments(oid), prorettype::regtype::text))
	FROM pg_proc
	WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f' AND NOT proretset AND provariadic = 0
		AND NOT (SELECT bool_or(typtype = 'p') FROM pg_type WHERE oid = ANY (proargtypes::oid[] || prorettype))
		AND proname ~ '^(now|clock_timestamp|to_regclass|current_setting|set_config|btrim|lower|to_char|to_date|left|right|lpad|rpad|floor|hashtextextended|pg_sleep|replace|regexp_replace|array_to_string|date_trunc|quote_ident|quote_literal|round|to_hex|generate_series|current_database|pg_is_in_recovery|timezone|length|md5|int4|text|date|timestamptz|interval|uuid_eq|texteq)$';
	SELECT count(pg_temp.shadow(f, a, r)) FROM (VALUES ('format', 'text, text', 'text'), ('format', 'text, text, text', 'text'), ('unnest', 'text[]', 'text'), ('unnest', 'uuid[]', 'uuid'), ('jsonb_each_text', 'jsonb', 'text'),
		('array_agg', 'text', 'text[]'), ('count', 'uuid', 'bigint'), ('dispatch', 'text, jsonb', 'uuid'), ('session_tenant', '', 'text'), ('maintain', '', 'text'), ('lane', 'text, text', 'bigint')) s(f, a, r);
	SELECT count(pg_temp.shadow('operator_' || o.oid, concat_ws(', ', o.oprleft::regtype, o.oprright::regtype), o.oprresult::regtype::text))
	FROM pg_operator o WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND o.oprname = ANY ('{=,<>,<,>,<=,>=,||,->,->>,+,-,*,/,~,!~,~~,!~~}') AND o.oprkind = 'b'
		AND NOT (SELECT bool_or(typtype = 'p') FROM pg_type WHERE oid IN (oprleft, oprright, oprresult));
	DO $$
	DECLARE
		o record;
	BEGIN
		FOR o IN SELECT oprname, oprleft::regtype AS l, oprright::regtype AS r, 'hostile.operator_' || oid AS f FROM pg_operator
			WHERE to_regproc('hostile.operator_' || oid) IS NOT NULL
		LOOP
			EXECUTE format('CREATE OPERATOR hostile.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = %s)', o.oprname, o.l, o.r, o.f);
		END LOOP;
	END $$;
	DO $$
	DECLARE
		t text;
	BEGIN
		FOREACH t IN ARRAY '{text,uuid,jsonb,interval,timestamptz,date,regclass,regprocedure,name,int4,int8,bool,record}'::text[] LOOP
			IF t <> 'record' THEN
				EXECUTE format('CREATE FUNCTION hostile.check_%1$s(pg_catalog.%1$s) RETURNS pg_catalog.bool LANGUAGE plpgsql AS %2$L', t,
					format('BEGIN INSERT INTO hostile.ran VALUES (current_user, session_user, %L); RETURN true; END', 'type ' || t));
				EXECUTE format('CREATE DOMAIN hostile.%1$I AS pg_catalog.%1$I CHECK (hostile.check_%1$s(VALUE))', t);
			END IF;
		END LOOP;
	END $$;
	DO $$
	DECLARE
		c record;
	BEGIN
		FOR c IN SELECT relname, (SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute WHERE attrelid = k.oid AND attnum > 0 AND atttypid <> 'anyarray'::regtype) AS columns
			FROM pg_class k WHERE oid = ANY ('{pg_proc,pg_class,pg_namespace,pg_inherits,pg_attribute,pg_roles,pg_extension,pg_depend}'::regclass[])
		LOOP
			EXECUTE format('CREATE VIEW hostile.%I AS SELECT %s FROM pg_catalog.%I WHERE hostile.now() IS NULL', c.relname, c.columns, c.relname);
			EXECUTE format('GRANT SELECT ON hostile.%I TO PUBLIC', c.relname);
		END LOOP;
		FOR c IN SELECT unnest('{endpoints,endpoint_secrets,events,events_default,queue,attempts,dead_letters,in_flight,deliveries,delivery_log}'::text[]) AS relname LOOP
			EXECUTE format('CREATE TABLE hostile.%I (endpoint_id uuid, event_id uuid, delivery_id uuid, tenant_id text, url text, state text, due_at timestamptz)', c.relname);
			EXECUTE format('CREATE TRIGGER t BEFORE INSERT OR UPDATE OR DELETE ON hostile.%I FOR EACH ROW EXECUTE FUNCTION hostile.spring()', c.relname);
			EXECUTE format('GRANT ALL ON hostile.%I TO PUBLIC', c.relname);
		END LOOP;
	END $$;
};
$shadows =~ s{(DO \$\$\n\tDECLARE\n\t\tc record)}{SELECT pg_temp.shadow('spring', '', 'trigger');\n\t$1};
{
	my ($stdout, $stderr) = run_as('mallory', $shadows, 'pg_catalog');
	is($stderr, '', 'there is somebody who shadows what there is');
	cmp_ok(clean(q{SELECT count(*) FROM pg_operator WHERE oprnamespace = 'hostile'::regnamespace}), '>', 200, 'operators');
	cmp_ok(clean(q{SELECT count(*) FROM pg_proc WHERE pronamespace = 'hostile'::regnamespace}), '>', 300, 'and functions');
}
# in pg_temp, too, of each session that he has
my $temporary = q{
	CREATE FUNCTION pg_temp.now() RETURNS timestamptz LANGUAGE plpgsql AS $$BEGIN INSERT INTO hostile.ran VALUES (current_user, session_user, 'temporary'); RETURN NULL; END$$;
	CREATE TEMPORARY TABLE endpoints (LIKE webhooks.endpoints); CREATE TEMPORARY TABLE queue (LIKE webhooks.queue); CREATE TEMPORARY TABLE events (LIKE hostile.events);
	CREATE TEMPORARY TABLE pg_class (oid oid, relname name); CREATE TEMPORARY TABLE pg_proc (oid oid, proname name); CREATE TEMPORARY TABLE in_flight (delivery_id uuid);
	CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (hostile.check_text(VALUE));
};
clean(qq{ALTER DATABASE postgres SET search_path = $path; ALTER ROLE postgres SET search_path = $path; ALTER ROLE mallory SET search_path = $path});
$node->restart;

sub ran
{
	return clean(q{SELECT DISTINCT who, session FROM hostile.ran ORDER BY 1, 2});
}

# The trap works: whoever writes an unqualified name runs what he made.
like(run_as('postgres', q{BEGIN; SELECT now(); SELECT 1 OPERATOR(hostile.=) 1; SELECT 'x'::text; SELECT DISTINCT who FROM hostile.ran; ROLLBACK}), qr/^postgres$/m, 'a superuser who says now() falls into the trap');
is(ran(), '', 'which is empty');

# Everything that there is is called: once with good arguments, as far as there are such, and with NULLs.
my $calls = clean(q{
	SELECT string_agg(format(CASE p.prokind WHEN 'p' THEN 'CALL %s(%s);' ELSE 'SELECT %s(%s);' END, p.oid::regproc,
		(SELECT string_agg(CASE WHEN i = p.pronargs AND p.provariadic <> 0 THEN 'VARIADIC ' ELSE '' END || 'NULL::pg_catalog.' || quote_ident(t.typname), ', ' ORDER BY i) FROM unnest(p.proargtypes) WITH ORDINALITY a(o, i) JOIN pg_type t ON t.oid = a.o)), E'\n')
	FROM pg_proc p WHERE p.pronamespace = 'webhooks'::regnamespace AND p.prorettype <> 'trigger'::regtype
		AND p.proname NOT IN ('wait_until_idle', 'announce')});
my $views = clean(q{SELECT string_agg(format('TABLE %s;', oid::regclass), E'\n') FROM pg_class WHERE relnamespace = 'webhooks'::regnamespace AND relkind = 'v'});
my $good = sprintf q{
	SELECT endpoint_id AS ok FROM webhooks.register_endpoint('%s', '{a.*}', headers => '{"X-A": "b"}', retry_schedule => '{1s}', "timeout" => '5s') \gset
	SELECT endpoint_id AS flaky FROM webhooks.register_endpoint('%s', '{a.b}') \gset
	SELECT endpoint_id AS bad FROM webhooks.register_endpoint('%s', '{a.b}', ordering => 'endpoint') \gset
	SELECT endpoint_id AS gone FROM webhooks.register_endpoint('%s', '{a.b}') \gset
	SELECT webhooks.dispatch('a.b', '{"a": 1}', ordering_key => 'k') AS event \gset
	SELECT webhooks.dispatch('a.b', '{"a": 1}', endpoint_ids => array[:'ok']::pg_catalog.uuid[]);
	SELECT webhooks.wait_until_idle('10s');
	SELECT webhooks.rotate_secret(:'ok'); SELECT webhooks.pause_endpoint(:'ok'); SELECT webhooks.resume_endpoint(:'ok');
	SELECT webhooks.disable_endpoint(:'ok'); SELECT webhooks.enable_endpoint(:'ok');
	SELECT count(*) FROM webhooks.dispatch_status(:'event');
	SELECT delivery_id AS dead FROM webhooks.dead_letters LIMIT 1 \gset
	SELECT webhooks.replay_delivery(:'dead');
	SELECT webhooks.replay_failed(:'bad', '-infinity');
	CALL webhooks.deliver_due();
	SELECT webhooks.wait_until_idle('10s');
	SELECT delivery_id AS dead FROM webhooks.dead_letters LIMIT 1 \gset
	SELECT webhooks.discard_dead_letter(:'dead');
	SELECT webhooks.remove_endpoint(:'flaky');
	SELECT webhooks.check_url('https://example.com/');
}, map { $receiver->url($_) } '/x/h/ok', '/flaky/1/a', '/x/h/status/404', '/x/h/status/410';

for my $role ('mallory', 'postgres')
{
	my $before = $receiver->count;
	my (undef, $stderr) = run_as($role, $temporary . $good);
	is($stderr, '', "$role: what the functions are for, they do");
	cmp_ok($receiver->count, '>=', $before + 5, "$role: and it is delivered");
	(undef, $stderr) = run_as($role, "$temporary$calls\n$views");
	unlike($stderr, qr/hostile|pg_temp|(function|relation|operator|type) .* does not exist/, "$role: every function and view finds what it names");
	is(ran(), '', "$role: nothing of mallory's was run") or diag(clean(q{SELECT DISTINCT who, session, what FROM hostile.ran}));
	clean('TRUNCATE hostile.ran');
}

# Maintenance, by workers that are new to a database with such a search_path, and by hand

clean(q{UPDATE webhooks.endpoints SET created_at = '2001-01-01'; DROP TABLE webhooks.events_} . clean(q{SELECT to_char(now() AT TIME ZONE 'UTC' + interval '6 days', 'YYYYMMDD')}));
$node->restart;
wait_until(sub { clean(q{SELECT count(*) FROM pg_inherits WHERE inhparent = 'webhooks.events'::regclass}) == 9 }, 'the worker to make a partition');
run_as('postgres', 'SELECT webhooks.maintain(); SELECT webhooks.health(); SELECT webhooks.grant_access(\'mallory\', \'observe\'); ALTER EXTENSION webhooks UPDATE; ANALYZE webhooks.queue; VACUUM ANALYZE webhooks.events');
is(clean(q{SELECT relrowsecurity FROM pg_class WHERE oid = ('webhooks.events_' || to_char(now() AT TIME ZONE 'UTC' + interval '6 days', 'YYYYMMDD'))::regclass}), 't', 'which has row-level security');
is(ran(), '', 'a worker, and maintenance, run nothing of mallory\'s') or diag(clean(q{SELECT DISTINCT who, session, what FROM hostile.ran}));

# Functions whose names are looked up when they run have a search_path of their own

is(clean(q{
	SELECT string_agg(p.oid::regprocedure::text, ' ') FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
	WHERE p.pronamespace = 'webhooks'::regnamespace AND (prosecdef OR lanname NOT IN ('c', 'internal')) AND prosqlbody IS NULL
		AND NOT coalesce(proconfig @> ARRAY['search_path=pg_catalog, pg_temp'], false)}), '', 'every function that needs one fixes its search_path');

# What the session says of settings that are not its own

{
	my (undef, $stderr) = run_as('mallory', join '', map { "SET $_;\n" } q{webhooks.retention = '0 days'}, q{webhooks.allowed_networks = '0.0.0.0/0'}, q{webhooks.ca_file = '/etc/shadow'}, q{webhooks.tenant_id = 'x'},
		q{webhooks.nothing = ''}, q{webhooks.user_agent = E'x\r\ny'});
	is(scalar(() = $stderr =~ /ERROR/g), 6, 'no setting is a session\'s own');
}

# Installing where he was first: into a schema of his, or with his functions about

clean('DROP EXTENSION webhooks');
run_as('mallory', 'CREATE SCHEMA webhooks; CREATE TABLE webhooks.endpoints (url text)', 'pg_catalog');
{
	my (undef, $stderr) = run_as('postgres', 'CREATE EXTENSION webhooks');
	like($stderr, qr/schema "webhooks" already exists/, 'a schema of somebody else\'s is not taken over');
	run_as('mallory', 'DROP SCHEMA webhooks CASCADE', 'pg_catalog');
	(undef, $stderr) = run_as('postgres', 'CREATE EXTENSION webhooks');
	is($stderr, '', 'without it the extension is installed');
	run_as('postgres', sprintf q{SELECT count(*) FROM webhooks.register_endpoint('%s'); SELECT webhooks.dispatch('a', '{}'); SELECT webhooks.wait_until_idle()}, $receiver->url('/x/again/ok'));
	is(scalar($receiver->requests('/x/again/ok')), 1, 'and works');
	is(ran(), '', 'without running anything of his') or diag(clean(q{SELECT DISTINCT who, session, what FROM hostile.ran}));
	is(clean(q{
		SELECT string_agg(pg_describe_object(d.classid, d.objid, d.objsubid), ', ')
		FROM pg_depend d JOIN pg_depend e ON (e.classid, e.objid) = (d.classid, d.objid)
		WHERE e.deptype = 'e' AND e.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'webhooks')
			AND (pg_identify_object(d.refclassid, d.refobjid, d.refobjsubid)).schema IN ('hostile', 'pg_temp')}), '', 'or depending on it');
}

is_deeply([ crashes($node) ], [], 'nothing crashed');
$node->stop;
done_testing();
