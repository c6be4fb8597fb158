
# More endpoints in one transaction, or in many at once, than the worker's inbox holds: it is told to look at everything,
# and does so at once.

use strict;
use warnings;

use Test::More;
use WebhooksTest;

use constant {
	ENDPOINTS   => 3000,	# the inbox holds 1,024
	BURSTS      => 3,
	GAP_SECONDS => 3,		# between two requests of a burst; the worker looks by itself every 5 seconds
};

my $node     = start_node();
my $receiver = start_receiver();
my $base     = $receiver->url('/x');

value($node, sprintf q{SELECT count(webhooks.register_endpoint('%s/' || n || '/ok', ('{all,part' || n %% 6 || '}')::text[])) FROM generate_series(1, %d) n},
	$base, ENDPOINTS);
wait_until(sub { worker_pids($node) == 1 }, 'the worker');
my ($worker) = worker_pids($node);
my $total = 0;

# Waits until the burst's requests are in, and checks that none of them had to wait. $since stands for what began it.
sub check_burst
{
	my ($what, $n, $since) = @_;
	$total += $n;
	wait_until(sub { $receiver->count >= $total }, sub { "$total requests; there are " . $receiver->count }, 60);
	my @times = sort { $a <=> $b } map { $_->{time} } $receiver->requests;
	splice @times, 0, $total - $n;
	my $gap = 0;
	for my $time (@times)
	{
		$gap = $time - $since if $time - $since > $gap;
		$since = $time;
	}
	note(sprintf '%s: %.2f s, the longest gap %.2f s', $what, $times[-1] - $times[0], $gap);
	cmp_ok($gap, '<', GAP_SECONDS, "$what: none waits for the worker to look by itself");
	wait_until(sub { queue_is_empty($node) }, "$what: the queue to be empty");
	return;
}

# The later bursts come right after a look.
for my $burst (1 .. BURSTS)
{
	my $event_id = dispatch($node, 'all', '{}');
	check_burst("one event to all, $burst", ENDPOINTS, Time::HiRes::time());
	is(value($node, "SELECT count(*) FROM webhooks.dispatch_status('$event_id') WHERE state = 'succeeded'"), ENDPOINTS, 'all are delivered');
}

value($node, sprintf q{SELECT count(webhooks.dispatch('some', '{}', endpoint_ids => ARRAY[endpoint_id])) FROM webhooks.endpoints});
check_burst('an event each in one transaction', ENDPOINTS, Time::HiRes::time());

# Several transactions, none too large, while the worker cannot empty its inbox

for my $burst (1 .. 2)
{
	wait_until(sub { value($node, "SELECT wait_event FROM pg_stat_activity WHERE pid = $worker") eq 'Extension' }, 'the worker to be idle');
	kill 'STOP', $worker;
	my $ok = eval { dispatch($node, "part$_", '{}') for 0 .. 5; 1 };
	kill 'CONT', $worker;
	ok($ok, 'a worker that does not answer holds up no commit') or diag($@);
	check_burst("a full inbox, $burst", ENDPOINTS, Time::HiRes::time());
}

my $count = $receiver->by_delivery;
is(scalar keys %$count, $total, 'every delivery is sent');
is(scalar(grep { $_ > 1 } values %$count), 0, 'and none twice');
is_deeply([ worker_pids($node) ], [$worker], 'it is the same worker');

$node->stop;
done_testing();
