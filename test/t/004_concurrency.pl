
# Many requests run at once, but never more than the limits allow; a receiver that hangs costs its
# neighbours nothing; and connections are used again.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time);
use WebhooksTest;

my $node = start_node(
	conf => {
		'webhooks.max_in_flight'              => 12,
		'webhooks.max_in_flight_per_endpoint' => 4,
		'webhooks.timeout'                    => '60s',
	});
my $receiver = start_receiver();

# Dispatches $n events of the type in one transaction.
sub dispatch_many
{
	my ($type, $n) = @_;
	value($node, "SELECT count(webhooks.dispatch('$type', jsonb_build_object('n', n))) FROM generate_series(1, $n) n");
	return;
}

sub path_max
{
	my ($max) = sort { $b <=> $a } map { $_->{in_flight}{path_max} } @_;
	return $max;
}

# Per endpoint

{
	register_endpoint($node, $receiver->url('/x/four/delay/0.05'), event_types => q('{limits}'));
	register_endpoint($node, $receiver->url('/x/two/delay/0.05'),  event_types => q('{limits}'), max_in_flight => 2);
	register_endpoint($node, $receiver->url('/x/one/delay/0.05'),  event_types => q('{limits}'), max_in_flight => 1);
	dispatch_many('limits', 40);
	is(path_max($receiver->wait_for_requests(40, 30, '/x/four/delay/0.05')), 4, 'the setting is reached and never exceeded');
	is(path_max($receiver->wait_for_requests(40, 30, '/x/two/delay/0.05')),  2, "an endpoint's own limit likewise");
	is(path_max($receiver->wait_for_requests(40, 30, '/x/one/delay/0.05')),  1, 'also when it is one');
	wait_until(sub { queue_is_empty($node) }, 'an empty queue');
}

# In all

{
	register_endpoint($node, $receiver->url("/x/all$_/delay/0.05"), event_types => q('{all}')) for 1 .. 10;
	dispatch_many('all', 10);
	wait_until(sub { my @n = $receiver->requests(qr{^/x/all}); @n >= 100 }, '100 requests');
	wait_until(sub { queue_is_empty($node) }, 'an empty queue');
	my ($max) = sort { $b <=> $a } map { $_->{in_flight}{all_max} } $receiver->requests;
	is($max, 12, "the worker's limit is reached and never exceeded");
}

# A hanging neighbour: its events come first, and fill all that it may have in flight

{
	register_endpoint($node, $receiver->url('/x/bad/hang'), event_types => q('{hang, mixed}'));
	register_endpoint($node, $receiver->url('/x/good/ok'),  event_types => q('{mixed}'));
	dispatch_many('hang', 500);
	$receiver->wait_for_requests(4, 30, '/x/bad/hang');

	my $started = time;
	dispatch_many('mixed', 500);
	my @good = $receiver->wait_for_requests(500, 20, '/x/good/ok');
	my $took = time - $started;
	note(sprintf '500 deliveries beside a hanging endpoint took %.2f s', $took);
	cmp_ok($took, '<', 15, 'a hanging endpoint does not hold up another');
	is(scalar @{ [ $receiver->requests('/x/bad/hang') ] }, 4, 'and has no more in flight than it may');

	wait_until(sub { value($node, 'SELECT count(*) FROM webhooks.in_flight') eq '4' }, 'four in flight');
	is(value($node, 'SELECT count(*) FROM webhooks.in_flight f JOIN webhooks.endpoints e USING (endpoint_id) WHERE e.url LIKE \'%/hang\''),
		4, 'in_flight shows them');
	is(value($node, 'SELECT count(*) FROM webhooks.in_flight f JOIN pg_stat_activity a ON a.pid = f.worker_pid'), 4, 'and whose they are');
	is(value($node, q{SELECT count(*) FROM webhooks.deliveries WHERE state = 'in_flight'}), 4, 'so does deliveries');

	my %connections = map { $_->{connection} => 1 } @good;
	cmp_ok(scalar keys %connections, '<=', 12, 'the good one\'s 500 requests share few connections');
}

# No transaction is open while requests are under way

# (A transaction of its own may be seen, but not one as long as the requests that hang.)
ok(wait_until(
		sub { value($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'webhooks worker' AND (xact_start IS NOT NULL OR backend_xmin IS NOT NULL)}) eq '0' },
		'a moment without a transaction', 10),
	'the worker holds no transaction across the network');

# Once each

{
	my $by_id = $receiver->by_webhook_id;
	my %seen;
	$seen{"$_->{headers}{'webhook-id'} $_->{path}"}++ for $receiver->requests;
	is_deeply([ grep { $seen{$_} > 1 } keys %seen ], [], 'no delivery was sent twice');
}

# It stops at once when it is told to, hanging requests or not

{
	my $started = time;
	$node->stop('fast');
	cmp_ok(time - $started, '<', 10, 'a shutdown does not wait for receivers');
}

done_testing();
