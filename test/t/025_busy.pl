
# An endpoint that always has something under way: it changes its worker like others, and what commits late,
# with deliveries due before those already sent, is found at once.

use strict;
use warnings;

use Test::More;
use WebhooksTest;

use constant {
	RATE    => 20,		# requests a second, each answered after half a second: ten are always under way
	BACKLOG => 1000,	# most of a minute's work
};

my $node = start_node();
my $receiver = start_receiver();

# An endpoint of a shard with an odd number, which the second of two workers gets; and its path.
sub add_busy_endpoint
{
	my ($type) = @_;
	for (1 .. 100)
	{
		my $path = "/x/$type$_/delay/0.5";
		my ($endpoint_id) = register_endpoint($node, $receiver->url($path), event_types => "'{$type}'", rate_limit => RATE);
		return ($endpoint_id, $path) if hex(substr $endpoint_id, -2) % 2 == 1;
		value($node, "SELECT webhooks.remove_endpoint('$endpoint_id')");
	}
	die 'no endpoint has an odd number';
}

sub dispatch_backlog
{
	my ($type, $path) = @_;
	value($node, sprintf q{SELECT count(webhooks.dispatch('%s', '{}')) FROM generate_series(1, %d)}, $type, BACKLOG);
	$receiver->wait_for_requests(2 * RATE, 30, $path);
	return;
}

# A session whose transaction dispatches before the backlog and commits when it is told to; and the event's id.
sub begin_late
{
	my ($type) = @_;
	my $session = $node->background_psql('postgres');
	my ($event_id) = $session->query_safe("BEGIN; SELECT webhooks.dispatch('$type', '{}')") =~ /([0-9a-f-]{36})/;
	return ($session, $event_id);
}

sub queued
{
	my ($endpoint_id) = @_;
	return value($node, "SELECT count(*) FROM webhooks.queue WHERE endpoint_id = '$endpoint_id'");
}

# What was committed late is sent, and not after all that was due behind it.
sub is_found
{
	my ($event_id, $endpoint_id, $path, $what) = @_;
	my $found = eval { wait_until(sub { $receiver->by_webhook_id($path)->{$event_id} }, 'the late delivery') };
	my $queued = queued($endpoint_id);
	ok($found && $queued > 0, $what) or diag("queued behind it: $queued");
	return;
}

# How many shards each worker has.
sub shares
{
	return split /\n/, value($node, q{
		SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE l.locktype = 'advisory' AND l.objsubid = 22344 AND a.backend_type = 'webhooks worker' GROUP BY pid});
}

# Another worker comes

{
	my ($endpoint_id, $path) = add_busy_endpoint('moved');
	my ($session, $late) = begin_late('moved');
	dispatch_backlog('moved', $path);
	change_settings($node, 'webhooks.workers' => 2);
	my $shared = eval { wait_until(sub { "@{[ shares() ]}" eq '32 32' }, 'shares alike') };
	ok($shared && queued($endpoint_id) > 0, 'another worker gets its share although its endpoint is busy');
	$session->query_safe('COMMIT');
	$session->quit;
	is_found($late, $endpoint_id, $path, 'and finds what is committed late');
	is(scalar(grep { $_ > 1 } values %{ $receiver->by_delivery($path) }), 0, 'and nothing is sent twice');
	value($node, "SELECT webhooks.remove_endpoint('$endpoint_id')");
}

# A transaction has wakes for more endpoints than a worker's inbox takes, so that it looks at the queue instead

{
	my ($endpoint_id, $path) = add_busy_endpoint('lost');
	my ($session, $late) = begin_late('lost');
	$session->query_safe(sprintf q{SELECT count(webhooks.register_endpoint('%s', '{other}')) FROM generate_series(1, 1100)}, $receiver->url('/other'));
	dispatch_backlog('lost', $path);
	$session->query_safe('COMMIT');
	$session->quit;
	is_found($late, $endpoint_id, $path, 'what is committed late is found although its wake is lost');
	is(scalar(grep { $_ > 1 } values %{ $receiver->by_delivery($path) }), 0, 'and nothing is sent twice');
}

is_deeply([ crashes($node) ], [], 'nothing crashed');
$node->stop;
done_testing();
