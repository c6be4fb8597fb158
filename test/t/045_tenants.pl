
# A role confined to a tenant cannot get out, nor can it learn of others from what is shared; a dump keeps who may do what;
# and doc/security.md tells what each level allows.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use PostgreSQL::Test::Utils;
use Test::More;
use WebhooksTest;

# What tenant_a says in a session of its own: output and errors, in their order.
sub as_tenant
{
	my ($node, $sql, %option) = @_;
	local $ENV{PGOPTIONS} = $option{options} // '';
	my $said = '';
	$node->psql($option{database} // 'postgres', "\\set VERBOSITY verbose\n$sql", extra_params => [ '-U', 'tenant_a' ], on_error_stop => 0, timeout => 60, stdout => \my $stdout, stderr => \my $stderr);
	return wantarray ? ($stdout, $stderr) : $stdout;
}

my $node     = start_node(conf => { 'webhooks.retry_schedule' => '' });
my $receiver = start_receiver();
value($node, q{
	CREATE ROLE tenant_a LOGIN; SELECT webhooks.grant_access('tenant_a', 'manage');
	ALTER ROLE tenant_a SET webhooks.tenant_id = 'a';
	GRANT CREATE, TEMPORARY ON DATABASE postgres TO tenant_a});
my ($of_a) = register_endpoint($node, $receiver->url('/x/a/ok'),   tenant_id => q('a'));
my ($of_b) = register_endpoint($node, $receiver->url('/x/b/hang'), tenant_id => q('b'));

# Ways out of the tenant

my $who = q{SELECT 'is', string_agg(DISTINCT tenant_id, ','), current_setting('webhooks.tenant_id') FROM webhooks.endpoints;};
is(as_tenant($node, $who), 'is|a|a', 'a role that is given a tenant sees that one');
my @refused = (
	q{SET webhooks.tenant_id = 'b'}, q{SET webhooks.tenant_id = ''}, q{SET webhooks.tenant_id TO DEFAULT}, q{SET LOCAL webhooks.tenant_id = 'b'}, q{RESET webhooks.tenant_id}, q{SELECT set_config('webhooks.tenant_id', '', false)},
	q{UPDATE pg_settings SET setting = '' WHERE name = 'webhooks.tenant_id'},
	q{CREATE FUNCTION pg_temp.f() RETURNS text LANGUAGE sql SET webhooks.tenant_id = 'b' AS 'SELECT string_agg(tenant_id, '','') FROM webhooks.endpoints'; SELECT pg_temp.f()},
	q{CREATE FUNCTION pg_temp.g() RETURNS text LANGUAGE sql SECURITY DEFINER AS $$SELECT set_config('webhooks.tenant_id', 'b', false)$$; SELECT pg_temp.g()},
	q{ALTER ROLE CURRENT_USER SET webhooks.tenant_id = 'b'}, q{ALTER ROLE CURRENT_USER RESET webhooks.tenant_id}, q{ALTER ROLE CURRENT_USER IN DATABASE postgres SET webhooks.tenant_id = 'b'},
	q{ALTER DATABASE postgres SET webhooks.tenant_id = 'b'}, q{ALTER SYSTEM SET webhooks.tenant_id = 'b'}, q{GRANT SET ON PARAMETER webhooks.tenant_id TO tenant_a},
	q{SET SESSION AUTHORIZATION postgres}, q{SET ROLE postgres}, q{CALL webhooks.deliver_due()}, q{ALTER TABLE webhooks.endpoints DISABLE ROW LEVEL SECURITY}, q{SET row_security = off; SELECT * FROM webhooks.endpoints});
for my $try (@refused)
{
	my ($stdout, $stderr) = as_tenant($node, "$try;\n$who");
	$stderr = '' unless $stderr =~ /ERROR:  42501|no privileges were granted/;
	# to reset it is to have what the role was given
	ok($stderr || $try =~ /RESET|DEFAULT/, "refused: $try");
	like($stdout, qr/^is\|a\|a$/m, 'the session stays in its tenant') unless $try =~ /row_security/;
}
for my $try (q{RESET ALL}, q{DISCARD ALL}, q{ALTER ROLE CURRENT_USER RESET ALL})
{
	like(scalar as_tenant($node, "$try;\n$who"), qr/^is\|a\|a$/m, "of no effect: $try");
}
is(as_tenant($node, $who), 'is|a|a', 'nor did any of it last');
is(as_tenant($node, 'COPY webhooks.endpoints (tenant_id) TO STDOUT'), 'a', 'COPY tells of no other');
is(as_tenant($node, q{SELECT count(*) FROM pg_stats WHERE schemaname = 'webhooks'}), 0, 'nor do the statistics');
{
	my ($stdout, $stderr) = as_tenant($node, $who, options => q{-c webhooks.tenant_id=b});
	like($stderr, qr/permission denied to set parameter "webhooks.tenant_id"/, 'the connection\'s options do not set it');
	is($stdout, '', 'and nothing is told');
}

# A role that may set it changes its tenant in the middle of a session, and plans made before follow

value($node, q{CREATE ROLE pooler LOGIN; SELECT webhooks.grant_access('pooler', 'observe'); GRANT SET ON PARAMETER webhooks.tenant_id TO pooler});
$node->psql('postgres', q{
	PREPARE p AS SELECT string_agg(tenant_id, ',' ORDER BY tenant_id) FROM webhooks.endpoints; EXECUTE p;
	SET plan_cache_mode = force_generic_plan;
	SET webhooks.tenant_id = 'a'; EXECUTE p; SET webhooks.tenant_id = 'b'; EXECUTE p; SET webhooks.tenant_id = 'c'; EXECUTE p; RESET webhooks.tenant_id; EXECUTE p},
	extra_params => [ '-U', 'pooler' ], stdout => \my $plans);
is($plans, "a,b\na\nb\n\na,b", 'who may set it goes from tenant to tenant');

# What is in the workers' memory

dispatch($node, 'e', '{}', tenant_id => q('b'));
$receiver->wait_for_requests(1);
is(value($node, 'SELECT count(*) FROM webhooks.in_flight'), 1, 'a request of one tenant is under way');
is(as_tenant($node, 'SELECT count(*) FROM webhooks.in_flight; SELECT count(*) FROM webhooks.in_flight()'), "0\n0", 'which the other does not see');
is(as_tenant($node, q{SELECT webhooks.wait_until_idle('0')}), 't', 'nor wait for');
is(value($node, q{SELECT webhooks.wait_until_idle('0')}), 'f', 'as those do who see all');
is(value($node, q{SET webhooks.tenant_id = 'b'; SELECT endpoint_id FROM webhooks.in_flight}), $of_b, 'its own tenant sees it');
is(as_tenant($node, 'SELECT count(*) > 0, count(attempted), count(in_flight), count(bytes_sent), count(last_error) FROM webhooks.pg_stat_webhooks'), 't|0|0|0|0', 'figures of workers, which are of all, are nobody\'s');
is(as_tenant($node, q{SELECT count(*) FROM webhooks.metrics() WHERE name LIKE '%\_total'}), 0, 'nor as metrics');

# A dump keeps privileges and the rule; also where the library may be absent while it is restored

{
	my $acls = q{
		SELECT string_agg(what || acl, E'\n' ORDER BY what COLLATE "C", acl COLLATE "C") FROM (
			SELECT oid::regclass::text AS what, relacl::text || relrowsecurity AS acl FROM pg_class WHERE relnamespace = 'webhooks'::regnamespace AND relkind IN ('r', 'p', 'v')
			UNION ALL SELECT attrelid::regclass || '.' || attname, attacl::text FROM pg_attribute JOIN pg_class c ON c.oid = attrelid WHERE relnamespace = 'webhooks'::regnamespace AND attnum > 0
			UNION ALL SELECT oid::regprocedure::text, proacl::text FROM pg_proc WHERE pronamespace = 'webhooks'::regnamespace
			UNION ALL SELECT 'schema', nspacl::text FROM pg_namespace WHERE nspname = 'webhooks') a WHERE acl IS NOT NULL};
	my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
	my @to = ('-h', $node->host, '-p', $node->port);
	wait_until(sub { value($node, q{SELECT count(*) FROM pg_inherits WHERE inhparent = 'webhooks.events'::regclass}) == 9 }, 'partitions');
	command_ok([ 'pg_dump', @to, '-f', $dump, 'postgres' ], 'dumps');
	value($node, 'CREATE DATABASE restored TEMPLATE template0');
	command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', @to, '-d', 'restored', '-f', $dump ], 'restores');
	my $before = value($node, $acls);
	like($before, qr/tenant_a=X/, 'with privileges');
	is(value($node, $acls, 'restored'), $before, 'the very same ones, and row-level security');
	is(value($node, q{SELECT count(*) FROM pg_class WHERE relnamespace = 'webhooks'::regnamespace AND relkind IN ('r', 'p') AND NOT relrowsecurity}, 'restored'), 0, 'on every table');
	is(as_tenant($node, $who, database => 'restored'), 'is|a|a', 'the role sees its tenant there, too');
	value($node, q{SELECT webhooks.revoke_access('tenant_a')}, 'restored');
	my (undef, $stderr) = as_tenant($node, $who, database => 'restored');
	like($stderr, qr/ERROR:  42501/, 'and has nothing when that is revoked');
}

# Where the library is not preloaded, anybody may set what looks like its settings, until it is loaded

$node->append_conf('postgresql.conf', q{shared_preload_libraries = ''});
$node->restart;
my $event_b = dispatch($node, 'e', '{}', tenant_id => q('b'));
$node->safe_psql('postgres', q{SELECT webhooks.add_source('of b', 'a plain secret', 'github', tenant_id => 'b')});
is(as_tenant($node, $who), 'is||a', 'a session without the library sees nothing');
is(as_tenant($node, "SET webhooks.tenant_id = 'b';\n$who"), 'is||b', 'whatever it says its tenant is');
my $load = q{DO $$ BEGIN PERFORM webhooks.check_url(''); END $$;};
is(as_tenant($node, "$load\n$who"), 'is|a|a', 'once it has called a function, it sees its tenant');
for my $try (q{SET webhooks.tenant_id = 'b'}, q{SET webhooks.tenant_id = ''}, q{ALTER ROLE CURRENT_USER SET webhooks.tenant_id = 'b'}, q{ALTER ROLE CURRENT_USER RESET webhooks.tenant_id}, q{ALTER ROLE CURRENT_USER RESET ALL},
	q{BEGIN; SET LOCAL webhooks.tenant_id = 'b'}, q{SET webhooks.tenant_id = 'b'; ALTER ROLE CURRENT_USER SET webhooks.tenant_id = 'b'})
{
	my ($stdout) = as_tenant($node, "$try;\n$load\n$who");
	like($stdout, qr/^is\|a\|a$|^$/, "and no other: $try");
	for my $call ("webhooks.dispatch_status('$event_b')", q{webhooks.reprocess('of b', '-infinity')})
	{
		(undef, my $stderr) = as_tenant($node, "$try;\nSELECT * FROM $call");
		like($stderr, qr/ERROR:  (P0002|25P02|42501)/, "nor does $call tell it of one");
	}
}
is(as_tenant($node, "$load\n$who"), 'is|a|a', 'none of it lasts');
for my $option (q{-c webhooks.tenant_id=b}, q{-c webhooks.tenant_id=})
{
	my ($stdout, $stderr) = as_tenant($node, "$who\n$load\n$who", options => $option);
	like($stderr, qr/FATAL:  42501: permission denied to set parameter "webhooks.tenant_id"/, "the connection's options ($option) end the session when the library is loaded");
	like($stdout, qr/^is\|\|b?$/, 'before that, nothing is told');
}
is(do { local $ENV{PGOPTIONS} = '-c webhooks.tenant_id=b'; value($node, "$load\nSHOW webhooks.tenant_id") }, 'b', 'a superuser may say so');
is_deeply([ crashes($node) ], [], 'nothing crashed');

# doc/security.md

{
	my $doc = slurp_file(abs_path(dirname(__FILE__) . '/../..') . '/doc/security.md');
	my %told;
	for my $line (split /\n/, $doc)
	{
		my ($level, $calls, $reads) = $line =~ /^\| `(\w+)` \|([^|]*)\|([^|]*)\|$/ or next;
		$told{$level} = { function => [ $calls =~ /`(\w+)`/g ], relation => [ $reads =~ /`(\w+)`/g ] };
	}
	my %there;
	push @{ $there{ $_->{level} }{ $_->{kind} } }, $_->{name} for rows($node, 'SELECT * FROM webhooks.access_levels()');
	for my $level (qw(dispatch observe manage owner))
	{
		is_deeply([ sort @{ $told{$level}{$_} // [] } ], [ sort @{ $there{$level}{$_} // [] } ], "doc/security.md tells of level $level: each $_") for qw(function relation);
	}
}

$node->stop;
done_testing();
