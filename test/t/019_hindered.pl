
# What hinders the worker for a while, such as a table that somebody has locked, is nobody's fault: nothing is put off for it, nothing is
# sent twice, and a session that waits in deliver_due can still be stopped.

use strict;
use warnings;

use Test::More;
use WebhooksTest;

use constant EVENTS => 50;

my $node     = start_node();
my $receiver = start_receiver();
my $session  = $node->background_psql('postgres');
my $total    = 0;

# Before there is an endpoint no partition is made: now that is hindered.
$session->query_safe('BEGIN; SELECT count(*) FROM webhooks.events_default; SELECT count(*) FROM webhooks.attempts_default');
register_endpoint($node, $receiver->url("/x/$_/ok")) for 1 .. 5;

sub dispatch_many
{
	value($node, sprintf q{SELECT count(webhooks.dispatch('some', '{}')) FROM generate_series(1, %d)}, EVENTS);
	$total += 5 * EVENTS;
	return;
}

sub check_all
{
	my ($what) = @_;
	wait_until(sub { queue_is_empty($node) }, "$what: the queue to be empty");
	my $count = $receiver->by_delivery;
	is(scalar keys %$count, $total, "$what: all is sent");
	is(scalar(grep { $_ > 1 } values %$count), 0, "$what: and none twice");
	is(value($node, q{SELECT count(*) FROM webhooks.attempts WHERE outcome = 'succeeded'}), $total, "$what: and recorded");
	is(scalar(log_lines($node, qr/WARNING/)), 0, "$what: and nothing was put off");
	return;
}

wait_until(sub { worker_pids($node) == 1 }, 'the worker');
my ($worker) = worker_pids($node);

# Until a wait for the lock has been given up.
sub wait_for_failures
{
	my ($activity) = @_;
	wait_until(sub { log_lines($node, qr/\Q$activity\E failed: .*lock timeout/) }, "$activity to fail", 60);
	return;
}

wait_for_failures('making partitions');
dispatch_many();
check_all('a default partition was being read');
$session->query_safe('COMMIT');

value($node, 'SELECT webhooks.pause_endpoint(endpoint_id) FROM webhooks.endpoints');
dispatch_many();
$session->query_safe('BEGIN; LOCK TABLE webhooks.events IN ACCESS EXCLUSIVE MODE');
value($node, 'SELECT webhooks.resume_endpoint(endpoint_id) FROM webhooks.endpoints');
wait_for_failures('fetching deliveries');
$session->query_safe('COMMIT');
check_all('events were locked');

dispatch_many();
$session->query_safe('BEGIN; LOCK TABLE webhooks.attempts IN ACCESS EXCLUSIVE MODE');
dispatch_many();
wait_for_failures('recording attempts');
$session->query_safe('COMMIT');
check_all('attempts were locked');

is_deeply([ worker_pids($node) ], [$worker], 'it is the same worker');

# By hand

change_settings($node, 'webhooks.enabled' => 'off');
wait_until(sub { !worker_pids($node) }, 'the worker to go');
dispatch_many();
$session->query_safe('BEGIN; LOCK TABLE webhooks.events IN ACCESS EXCLUSIVE MODE');
{
	my $caller = $node->background_psql('postgres', on_error_stop => 0);
	my $pid = $caller->query_safe('SELECT pg_backend_pid()');
	$caller->query_until(qr/started/, "\\echo started\nCALL webhooks.deliver_due();\n\\echo ended\n");
	wait_until(sub { value($node, "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = $pid") > 0 }, 'the session to wait');
	value($node, "SELECT pg_cancel_backend($pid)");
	ok(eval { wait_until(sub { value($node, "SELECT state FROM pg_stat_activity WHERE pid = $pid") eq 'idle' }, 'the session to end', 4) },
		'a session that delivers by hand can be cancelled while it waits for a lock');
	$session->query_safe('COMMIT');
	$caller->quit;
}
value($node, 'CALL webhooks.deliver_due()');
check_all('by hand');

is_deeply([ crashes($node) ], [], 'nothing crashed');
$session->quit;
$node->stop;
done_testing();
