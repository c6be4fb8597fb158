
# Every database that has the extension is served, without being named anywhere, from the moment it has it to the moment it has it no
# more; and what wants a database for itself gets it while the extension delivers.

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;
use WebhooksTest;

my $receiver = start_receiver();

# A node whose databases share the receiver: each has an endpoint of its own, with a path that names the database.
my $node = start_node(create_extension => 0, conf => { max_worker_processes => 30 });

sub add_endpoint
{
	my ($database, $behaviour, $on) = @_;
	my $path = "/x/$database/$behaviour";
	value($on // $node, "SELECT webhooks.register_endpoint('" . $receiver->url($path) . "')", $database);
	return $path;
}

sub create_extension
{
	my ($database, $on) = @_;
	value($on // $node, 'CREATE EXTENSION webhooks', $database);
	return add_endpoint($database, 'ok', $on);
}

# Dispatches, and gives the ids.
sub dispatch_in
{
	my ($database, $n, $on) = @_;
	return split /\n/,
	  value($on // $node, sprintf(q{SELECT webhooks.dispatch('some', '{}') FROM generate_series(1, %d)}, $n // 1), $database);
}

# An event dispatched now in the database is delivered.
sub is_served
{
	my ($database, $path, $what, $on) = @_;
	my ($event_id) = dispatch_in($database, 1, $on);
	my $found = eval {
		wait_until(sub { $receiver->by_webhook_id($path)->{$event_id} }, "$database to be served", 70);
	};
	ok($found, $what);
	return;
}

sub wait_for_worker
{
	my ($database, $n) = @_;
	wait_until(sub { worker_pids($node, $database) == $n }, "$n workers in $database", 70);
	return;
}

# How often each event came to the path.
sub is_once
{
	my ($path, $what, @event_ids) = @_;
	my %requests;
	wait_until(sub { %requests = %{ $receiver->by_webhook_id($path) }; !grep { !$requests{$_} } @event_ids }, "all to come to $path", 60);
	is(scalar(grep { @{ $requests{$_} } > 1 } @event_ids), 0, $what);
	return;
}

# Found without being named

value($node, "CREATE DATABASE $_") for qw(one two three);
my %path = map { $_ => create_extension($_) } qw(one two);
is_served($_, $path{$_}, "database $_ is served") for qw(one two);
is(scalar worker_pids($node, 'three'), 0, 'a database without the extension has no worker');

value($node, q{CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0});
my (undef, undef, $refusal) = $node->psql('latin', 'CREATE EXTENSION webhooks');
like($refusal, qr/webhooks needs a database in UTF8, and latin is in LATIN1/, 'a database in another encoding is refused');

$path{three} = create_extension('three');
is_served('three', $path{three}, 'CREATE EXTENSION has it served');

value($node, 'BEGIN; DROP EXTENSION webhooks; ROLLBACK', 'three');
is_served('three', $path{three}, 'DROP EXTENSION rolled back changes nothing');

# DROP EXTENSION while it delivers

{
	my $slow = add_endpoint('three', 'delay/0.1');
	my @events = dispatch_in('three', 5000);
	$receiver->wait_for_requests(20, 30, $slow);
	my ($result, undef, $stderr) = $node->psql('three', 'DROP EXTENSION webhooks CASCADE');
	is($result, 0, 'DROP EXTENSION works while it delivers') or diag($stderr);
	wait_for_worker('three', 0);
	my @sent = $receiver->requests($slow);
	cmp_ok(scalar @sent, '<', 5000, 'and deliveries were due');

	value($node, 'DROP SCHEMA IF EXISTS webhooks CASCADE', 'three');
	$path{three} = create_extension('three');
	is_served('three', $path{three}, 'CREATE EXTENSION has it served again');
	is(scalar @{ [ $receiver->requests($slow) ] }, scalar @sent, 'and nothing of before is sent');
	is_served($_, $path{$_}, "meanwhile $_ goes on") for qw(one two);
}

# A database that somebody wants for himself, with a request that gets no answer under way

add_endpoint('one', 'hang');
my $slow = add_endpoint('one', 'delay/0.05');

{
	my @events = dispatch_in('one', 300);
	$receiver->wait_for_requests(20, 30, $slow);
	my ($result, undef, $stderr) = $node->psql('postgres', 'ALTER DATABASE one RENAME TO eins');
	is($result, 0, 'ALTER DATABASE RENAME works while it delivers') or diag($stderr);
	is_served('eins', $path{one}, 'the renamed database is served');
	is_once($slow, 'what was due is sent once', @events);
	value($node, "SELECT webhooks.remove_endpoint(endpoint_id) FROM webhooks.endpoints WHERE url LIKE '%/hang'", 'eins');

	value($node, 'SET allow_in_place_tablespaces = on; CREATE TABLESPACE elsewhere LOCATION \'\'');
	@events = dispatch_in('eins', 300);
	$receiver->wait_for_requests(320, 30, $slow);
	($result, undef, $stderr) = $node->psql('postgres', 'ALTER DATABASE eins SET TABLESPACE elsewhere');
	is($result, 0, 'ALTER DATABASE SET TABLESPACE works while it delivers') or diag($stderr);
	is_once($slow, 'and what was due is sent once', @events);

	dispatch_in('eins', 300);
	($result, undef, $stderr) = $node->psql('postgres', 'CREATE DATABASE copy TEMPLATE eins');
	is($result, 0, 'CREATE DATABASE TEMPLATE works while it delivers') or diag($stderr);
	is_served('copy', $path{one}, 'the copy is served');
	is_served('eins', $path{one}, 'and what it was copied from');
}

# Who may not do it does not stop the deliveries by trying

{
	my @workers = worker_pids($node);
	value($node, 'CREATE ROLE nobody CREATEDB');
	for my $statement ('DROP DATABASE two', 'ALTER DATABASE two RENAME TO zwei', 'CREATE DATABASE stolen TEMPLATE two')
	{
		my ($result) = $node->psql('postgres', "SET ROLE nobody; $statement");
		isnt($result, 0, "$statement is refused to others");
	}
	my ($result) = $node->psql('postgres', "BEGIN; DROP DATABASE nowhere; COMMIT");
	isnt($result, 0, 'a database that does not exist cannot be dropped');
	is_deeply([ worker_pids($node) ], \@workers, 'and no worker took notice');
}

# DROP DATABASE, several times, for it is a race

for my $n (1 .. 3)
{
	my $database = "passing$n";
	my $force = $n == 3 ? ' WITH (FORCE)' : '';
	value($node, "CREATE DATABASE $database");
	my $path = create_extension($database);
	my $behind = add_endpoint($database, 'delay/0.1');
	is_served($database, $path, "new database $n is served");
	dispatch_in($database, 500);
	$receiver->wait_for_requests(20, 30, $behind);
	my ($result, undef, $stderr) = $node->psql('postgres', "DROP DATABASE $database$force");
	is($result, 0, "DROP DATABASE$force works while it delivers") or diag($stderr);
}

# It fails when somebody else is connected; then it is as if nothing had been

{
	my $session = $node->background_psql('two');
	my ($result, undef, $stderr) = $node->psql('postgres', 'DROP DATABASE two');
	isnt($result, 0, 'DROP DATABASE does not turn out others');
	like($stderr, qr/other session/, 'and says so');
	unlike($stderr, qr/[2-9] other sessions/, 'of whom the workers are none');
	is_served('two', $path{two}, 'the database is served again');
	$session->quit;
	value($node, 'DROP DATABASE two');
}
is_deeply([ crashes($node) ], [], 'nothing crashed');
$node->stop;

# Too few worker slots: of these the launchers (its own, logical replication's) take two

{
	my $small = start_node(name => 'small', create_extension => 0, conf => { max_worker_processes => 3 });
	value($small, "CREATE DATABASE $_") for qw(first second);
	my $first = create_extension('first', $small);
	is_served('first', $first, 'with one worker slot one database is served', $small);

	my $second = create_extension('second', $small);
	my ($event_id) = dispatch_in('second', 1, $small);
	wait_until(sub { log_lines($small, qr/no background worker slot is free/) }, 'the lack of a slot to be logged');
	is_served('first', $first, 'the first one goes on', $small);
	is(scalar $receiver->requests($second), 0, 'the second one waits');
	my $hints = log_lines($small, qr/HINT: .*max_worker_processes/);
	ok($hints > 0 && $hints < 20, 'the log says what to do, and not without end');

	value($small, 'DROP EXTENSION webhooks CASCADE', 'first');
	wait_until(sub { $receiver->by_webhook_id($second)->{$event_id} }, 'the second one to be served');
	pass('it is served when the slot is free');
	$small->stop;
}

# A standby

{
	my $primary = start_node(name => 'primary', init => [ allows_streaming => 1 ]);
	my $path = add_endpoint('postgres', 'ok', $primary);
	is_served('postgres', $path, 'a primary delivers', $primary);

	$primary->backup('base');
	my $standby = PostgreSQL::Test::Cluster->new('standby');
	$standby->init_from_backup($primary, 'base', has_streaming => 1);
	$standby->start;
	change_settings($primary, 'webhooks.enabled' => 'off');
	wait_until(sub { !worker_pids($primary) }, 'the primary to stop delivering');
	my @events = dispatch_in('postgres', 10, $primary);
	$primary->wait_for_catchup($standby);
	is(value($standby, 'SELECT count(*) FROM webhooks.queue'), 10, 'a standby has the queue');
	is(value($standby, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'webhooks%'}), 0, 'and runs nothing');

	$primary->stop;
	$standby->promote;
	is_once($path, 'promoted, it delivers', @events);
	is_served('postgres', $path, 'and goes on', $standby);
	is_deeply([ crashes($standby) ], [], 'nothing crashed there');
	$standby->stop;
}

done_testing();
