
# The launcher forgets no database: whatever comes while a worker ends, or while somebody has the database for himself,
# the database has its workers in the end; and who wants nothing of a database's workers does not disturb them.

use strict;
use warnings;

use Test::More;
use WebhooksTest;

my $node = start_node();

sub launcher
{
	return value($node, q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'webhooks launcher'});
}

# Does something while the launcher does nothing, as on a busy machine.
sub while_launcher_rests
{
	my ($do) = @_;
	my $launcher = launcher();
	kill 'STOP', $launcher;
	my $ok = eval { $do->(); 1 };
	my $error = $@;
	kill 'CONT', $launcher;
	die $error unless $ok;
	return;
}

# Whether the database has a worker, as it should.
sub is_served
{
	my ($database, $what) = @_;
	ok(eval { wait_until(sub { worker_pids($node, $database) == 1 }, "the worker of $database") }, $what);
	return;
}

# CREATE EXTENSION commits when a worker has found none, and before the launcher knows

{
	value($node, "CREATE DATABASE $_") for qw(late other);
	my $session = $node->background_psql('late');
	my $renamed = 0;
	$session->query_safe('BEGIN; LOCK TABLE pg_catalog.pg_extension IN ACCESS EXCLUSIVE MODE');
	wait_until(
		sub {
			# a database that has a new name has all of them looked into
			value($node, sprintf 'ALTER DATABASE %s RENAME TO %s', $renamed % 2 ? qw(another other) : qw(other another));
			$renamed++;
			return worker_pids($node, 'late') == 1;
		},
		'a worker that looks for the extension');
	while_launcher_rests(
		sub {
			$session->query_safe('COMMIT');
			wait_until(sub { worker_pids($node, 'late') == 0 }, 'it to end');
			value($node, 'CREATE EXTENSION webhooks', 'late');
		});
	$session->quit;
	is_served('late', 'an extension that came while a worker that found none was ending');
}

# The same of a worker that has seen it go

{
	wait_until(sub { worker_pids($node) == 1 }, 'the worker');
	while_launcher_rests(
		sub {
			value($node, 'DROP EXTENSION webhooks CASCADE');
			wait_until(sub { worker_pids($node) == 0 }, 'the worker to see it');
			value($node, 'DROP SCHEMA IF EXISTS webhooks CASCADE; CREATE EXTENSION webhooks');
		});
	is_served('postgres', 'an extension that came again while the worker that saw it go was ending');
}

# Whoever wanted a database for himself is terminated meanwhile

{
	wait_until(sub { worker_pids($node) == 1 && worker_pids($node, 'late') == 1 }, 'the workers');
	my $other = $node->background_psql('late');
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	$session->query_until(qr/started/, "\\echo started\nDROP DATABASE late;\n");
	wait_until(sub { worker_pids($node, 'late') == 0 }, 'the worker to leave');
	value($node, "SELECT pg_terminate_backend($pid, 10000)");
	is_served('late', 'a database that is not dropped after all');
	is(value($node, 'SELECT count(*) FROM webhooks.endpoints', 'late'), 0, 'and is still there');
	$other->quit;
	eval { $session->quit };
}

# Options of a database that are changed beside whoever is connected

{
	my ($worker) = worker_pids($node);
	value($node, "ALTER DATABASE postgres $_") for 'CONNECTION LIMIT 90', 'IS_TEMPLATE false', 'ALLOW_CONNECTIONS true';
	is_deeply([ worker_pids($node) ], [$worker], 'options of a database are changed without its workers taking notice');

	# one that allowed no connections is served once it does
	value($node, 'ALTER DATABASE late ALLOW_CONNECTIONS false');
	value($node, q{SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = 'late'});
	value($node, 'ALTER DATABASE late ALLOW_CONNECTIONS true');
	is_served('late', 'a database that allows connections again is served');
}

is_deeply([ crashes($node) ], [], 'nothing crashed');
$node->stop;
done_testing();
