
# More endpoints in one transaction, or in many at once, than the worker's inbox holds: it is told to look at everything,
# and does so at once.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time);
use WebhooksTest;

use constant {
	ENDPOINTS   => 3000,	# the inbox holds 1,024
	KEPT        => 10_000,	# a worker remembers 16,384 idle endpoints
	BURSTS      => 3,
	GAP_SECONDS => 2.5,		# between two requests of a burst; the worker looks by itself every 5 seconds
};

my $node     = start_node();
my $receiver = start_receiver();
my $base     = $receiver->url('/x');

value($node, sprintf q{SELECT count(webhooks.register_endpoint('%s/' || n || '/ok', ('{all,part' || n %% 6 || '}')::text[])) FROM generate_series(1, %d) n},
	$base, ENDPOINTS);
wait_until(sub { worker_pids($node) == 1 }, 'the worker');
my ($worker) = worker_pids($node);
my $total = 0;

my @bursts;

# Waits until the burst's requests are in. Nothing else is done here: the next burst is to come soon after a look.
sub end_burst
{
	my ($what, $n) = @_;
	push @bursts, { what => $what, from => $total, n => $n, began => time };
	$total += $n;
	wait_until(sub { $receiver->count >= $total }, sub { "$total requests; there are " . $receiver->count }, 60);
	wait_until(sub { queue_is_empty($node) }, "$what: the queue to be empty");
	return;
}

my @events;

# The later bursts come right after a look.
for my $burst (1 .. BURSTS)
{
	push @events, dispatch($node, 'all', '{}');
	end_burst("one event to all, $burst", ENDPOINTS);
}

value($node, sprintf q{SELECT count(webhooks.dispatch('some', '{}', endpoint_ids => ARRAY[endpoint_id])) FROM webhooks.endpoints});
end_burst('an event each in one transaction', ENDPOINTS);

# Several transactions, none too large, while the worker cannot empty its inbox

for my $burst (1 .. 2)
{
	wait_until(sub { value($node, "SELECT wait_event FROM pg_stat_activity WHERE pid = $worker") eq 'Extension' }, 'the worker to be idle');
	kill 'STOP', $worker;
	my $ok = eval { dispatch($node, "part$_", '{}') for 0 .. 5; 1 };
	kill 'CONT', $worker;
	ok($ok, 'a worker that does not answer holds up no commit') or diag($@);
	end_burst("a full inbox, $burst", ENDPOINTS);
}

# No gap in a burst in which requests waited for something

my @times = sort { $a <=> $b } map { $_->{time} } $receiver->requests;
for my $burst (@bursts)
{
	my ($gap, $since) = (0, $burst->{began});
	for my $time (@times[ $burst->{from} .. $burst->{from} + $burst->{n} - 1 ])
	{
		$gap = $time - $since if $time - $since > $gap;
		$since = $time;
	}
	note(sprintf '%s: %.2f s, the longest gap %.2f s', $burst->{what}, $since - $burst->{began}, $gap);
	cmp_ok($gap, '<', GAP_SECONDS, "$burst->{what}: none waits for the worker to look by itself");
}

for my $event_id (@events)
{
	is(value($node, "SELECT count(*) FROM webhooks.dispatch_status('$event_id') WHERE state = 'succeeded'"), ENDPOINTS, 'all are delivered');
}
my $count = $receiver->by_delivery;
is(scalar keys %$count, $total, 'every delivery is sent');
is(scalar(grep { $_ > 1 } values %$count), 0, 'and none twice');
is_deeply([ worker_pids($node) ], [$worker], 'it is the same worker');

# The options of endpoints that have nothing more to be sent are not kept for ever: of so many at most.

sub engine_bytes
{
	my $asked = () = log_lines($node, qr/; webhooks engine: /);
	my @lines;
	value($node, "SELECT pg_log_backend_memory_contexts($worker)");
	wait_until(sub { (@lines = log_lines($node, qr/; webhooks engine: /)) > $asked }, 'the worker to tell of its memory');
	return $lines[-1] =~ /(\d+) used$/ ? $1 : die "no size in $lines[-1]";
}

value($node, sprintf q{SELECT count(webhooks.register_endpoint('%s/' || n, ARRAY['crowd' || n / %d])) FROM generate_series(0, %d) n},
	$base, KEPT, 3 * KEPT - 1);
value($node, q{UPDATE webhooks.endpoints SET url = 'http://10.0.0.1/' WHERE event_types[1] LIKE 'crowd%'});	# refused at once
my @bytes;
for my $crowd (0 .. 2)
{
	dispatch($node, "crowd$crowd", '{}');
	wait_until(sub { queue_is_empty($node) }, "crowd $crowd: an empty queue", 60);
	push @bytes, engine_bytes();
}
note("the worker's memory after each crowd: @bytes");
is(value($node, q{SELECT count(*) FROM webhooks.dead_letters WHERE reason = 'blocked_address'}), 3 * KEPT, 'all were tried');
cmp_ok($bytes[2] - $bytes[1], '<', ($bytes[1] - $bytes[0]) / 4, 'the options of idle endpoints are forgotten');

$node->stop;
done_testing();
