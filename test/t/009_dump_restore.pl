
# A database is dumped and restored with everything in it, whatever the format, and delivers as before.

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;
use WebhooksTest;

my $node     = start_node(conf => { 'webhooks.retry_jitter' => 0, 'webhooks.retention' => '36000 days', 'webhooks.inbox_retention' => '36000 days' });
my $receiver = start_receiver();
my @tables   = qw(endpoints endpoint_secrets events event_secrets queue attempts dead_letters event_types inbox inbox_messages sources source_secrets source_handlers);

# A fingerprint of each table, over all its rows.
sub contents
{
	my ($database) = @_;
	my %contents;
	for my $table (@tables)
	{
		next if value($node, "SELECT to_regclass('webhooks.$table') IS NULL", $database) eq 't';
		$contents{$table} = value($node, "SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, chr(10) ORDER BY t::text)), '') FROM webhooks.$table t", $database);
	}
	return \%contents;
}

sub partitions
{
	my ($database) = @_;
	return value($node, q{
		SELECT i.inhparent::regclass, c.relname, pg_get_expr(c.relpartbound, c.oid),
			(SELECT count(*) FROM pg_index x WHERE x.indrelid = c.oid),
			EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
		FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE c.relnamespace = 'webhooks'::regnamespace AND c.relkind IN ('r', 'p') ORDER BY 1, 2}, $database);
}

# Rows of every kind: succeeded, retried, dead, held back by a pause, due later; in today's
# partitions, and in the default ones.
my ($good, $secret) = register_endpoint($node, $receiver->url('/x/good/ok'), event_types => q('{good, later}'),
	headers => q('{"X-Custom": "é''"}'), description => q(E'back\\\\slash\ttab\nline'));
register_endpoint($node, $receiver->url('/flaky/1/a'), event_types => q('{good}'), retry_schedule => q('{100ms}'));
register_endpoint($node, $receiver->url('/x/bad/status/404'), event_types => q('{good}'));
wait_until(sub { split(/\n/, partitions('postgres')) > 2 }, 'dated partitions');
my ($paused, $paused_secret) = register_endpoint($node, $receiver->url('/x/paused/ok'), event_types => q('{held}'));
value($node, "SELECT webhooks.rotate_secret('$paused')");
value($node, "SELECT webhooks.pause_endpoint('$paused')");
dispatch($node, 'good', qq({"n": $_, "text": "a\\\\tb\\\\n\\u00e9"})) for 1 .. 5;
wait_until(sub { queue_is_empty($node) }, 'the first deliveries');
my $held  = dispatch($node, 'held', '{"n": 1}', headers => q('{"Authorization": "Bearer held"}'));
my $later = dispatch($node, 'later', '{"n": 1}', deliver_at => q(now() + interval '1 day'));
value($node, q{
	INSERT INTO webhooks.attempts SELECT (jsonb_populate_record(a, '{"attempted_at": "2001-01-01 00:00:00+00"}')).*
	FROM webhooks.attempts a LIMIT 1});

# What came in, of today and of another day.
my $source_secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
value($node, "SELECT webhooks.add_source('shop', '$source_secret', tolerance => '100 years', id_path => '\$.id')");
value($node, q{CREATE FUNCTION apply(message_id text, event_type text, payload jsonb) RETURNS void LANGUAGE sql AS ''});
value($node, q{SELECT webhooks.on_event('shop', '*', 'apply(text, text, jsonb)')});
my $receive = sprintf q{SELECT is_new FROM webhooks.receive('shop', jsonb_build_object('webhook-id', 'a', 'webhook-timestamp', '1614265330',
	'webhook-signature', webhooks.sign('%s', 'a', to_timestamp(1614265330), '{"id": "m_1"}')), '{"id": "m_1"}')}, $source_secret;
value($node, q{DO $$ BEGIN WHILE webhooks.maintain() IS NOT NULL LOOP END LOOP; END $$});
is(value($node, $receive), 't', 'a message comes in');
value($node, q{INSERT INTO webhooks.inbox SELECT (jsonb_populate_record(i, '{"received_at": "2001-01-01 00:00:00+00"}')).* FROM webhooks.inbox i});

my $before = contents('postgres');
my $partitions_before = partitions('postgres');
like($before->{$_}, qr/^[1-9]/, "there are rows in $_") for qw(endpoints endpoint_secrets events event_secrets queue attempts dead_letters inbox inbox_messages sources source_secrets source_handlers);
cmp_ok(scalar(split /\n/, $partitions_before), '>', 2, 'there are partitions');

my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
my $to = sub { ('-h', $node->host, '-p', $node->port, '-d', $_[0]) };
my %restore = (
	plain     => sub { [ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', $to->($_[0]), '-f', "$dump.plain" ] },
	custom    => sub { [ 'pg_restore', '--exit-on-error', $to->($_[0]), "$dump.custom" ] },
	directory => sub { [ 'pg_restore', '--exit-on-error', '-j', '2', $to->($_[0]), "$dump.directory" ] });

# The original must not change meanwhile, and a restored database must not deliver before it is compared.
$node->append_conf('postgresql.conf', 'webhooks.enabled = off');
$node->restart;

for my $format (sort keys %restore)
{
	my $database = "restored_$format";
	command_ok([ 'pg_dump', $to->('postgres'), '-F', substr($format, 0, 1), '-f', "$dump.$format" ], "$format: dumps");
	value($node, "CREATE DATABASE $database TEMPLATE template0");
	my ($stdout, $stderr);
	my $ok = IPC::Run::run($restore{$format}->($database), '>', \$stdout, '2>', \$stderr);
	ok($ok, "$format: restores");
	is($stderr, '', "$format: without a word");
	is_deeply(contents($database), $before, "$format: every row is there");
	is(partitions($database), $partitions_before, "$format: in the same partitions");
}
is_deeply(contents('postgres'), $before, 'the original is as it was');

# And it works: in a restored database what was waiting is delivered, and what is new

my $database = 'restored_plain';
value($node, "DROP DATABASE $_") for qw(restored_custom restored_directory);
$node->append_conf('postgresql.conf', 'webhooks.enabled = on');
$node->restart;
wait_until(sub { worker_pids($node, $database) }, 'a worker in the restored database');
is($receiver->by_webhook_id->{$held}, undef, 'what was held is still held');
value($node, "SELECT webhooks.resume_endpoint('$paused')", $database);
my ($request) = $receiver->wait_for_requests(1, 60, '/x/paused/ok');
is($request->{headers}{'webhook-id'}, $held, 'and goes on with its webhook-id');
is($request->{headers}{authorization}, 'Bearer held', 'and its own Authorization');
ok(verify_signature($request, $paused_secret), 'signed by the secret it had, in its overlap');

{
	my $event_id = value($node, q{SELECT webhooks.dispatch('good', '{"n": 6}')}, $database);
	my $requests;
	wait_until(sub { $requests = $receiver->by_webhook_id('/x/good/ok')->{$event_id} }, 'a new event', 60);
	ok(verify_signature($requests->[0], $secret), 'a new event is delivered');
	my ($row) = rows($node, "SELECT tableoid::regclass::text AS partition FROM webhooks.events WHERE event_id = '$event_id'", $database);
	unlike($row->{partition}, qr/default/, 'and stands in a dated partition');
	is(value($node, "SELECT count(*) FROM webhooks.queue WHERE event_id = '$later'", $database), 1, 'what is due later still waits');
	is(value($node, $receive, $database), 'f', 'and a message that came before is known');
}

# The extension can go and come again, leaving nothing

value($node, 'DROP EXTENSION webhooks CASCADE', $database);
is(value($node, q{SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('webhooks')}, $database), 0, 'DROP EXTENSION leaves no table');
value($node, 'DROP SCHEMA IF EXISTS webhooks CASCADE; CREATE EXTENSION webhooks', $database);
is(value($node, 'SELECT count(*) FROM webhooks.events', $database), 0, 'and it can be created again');

$node->stop;
done_testing();
