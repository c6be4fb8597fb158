
# A backlog costs its neighbours nothing: not that of an endpoint that is paused, nor that of one that does not answer. Resumed, it is
# delivered in its order; and what is changed about an endpoint applies to what is queued for it.

use strict;
use warnings;

use JSON::PP;
use Test::More;
use Time::HiRes qw(time);
use WebhooksTest;

use constant {
	BACKLOG => 5000,
	CAP     => 4,
};

my $node = start_node(
	conf => { 'webhooks.max_in_flight_per_endpoint' => CAP, 'webhooks.max_in_flight' => 64, 'webhooks.timeout' => '60s' });
my $receiver = start_receiver();

sub dispatch_many
{
	my ($type, $n) = @_;
	value($node, "SELECT count(webhooks.dispatch('$type', jsonb_build_object('n', n))) FROM generate_series(1, $n) n");
	return;
}

sub queued
{
	my ($endpoint_id) = @_;
	return value($node, "SELECT count(*) FROM webhooks.queue WHERE endpoint_id = '$endpoint_id'");
}

sub wait_for_empty
{
	my ($endpoint_id) = @_;
	wait_until(sub { queued($endpoint_id) == 0 }, 'the queue of the endpoint to be empty', 60);
	return;
}

sub numbers
{
	return map { JSON::PP->new->decode($_->{body})->{data}{n} } @_;
}

sub path_max
{
	my ($max) = sort { $b <=> $a } map { $_->{in_flight}{path_max} } $receiver->requests($_[0]);
	return $max;
}

# Neighbours

my ($paused) = register_endpoint($node, $receiver->url('/x/paused/ok'), event_types => q('{backlog}'));
my ($hanging) = register_endpoint($node, $receiver->url('/x/hanging/hang'), event_types => q('{hang}'));
my ($good) = register_endpoint($node, $receiver->url('/x/good/ok'), event_types => q('{good}'));
value($node, "SELECT webhooks.pause_endpoint('$paused')");
dispatch_many('backlog', BACKLOG);
dispatch_many('hang',    1000);
$receiver->wait_for_requests(CAP, 30, '/x/hanging/hang');

{
	my $started = time;
	for (1 .. 20)
	{
		my $event_id = dispatch($node, 'good', '{}');
		wait_until(sub { $receiver->by_webhook_id('/x/good/ok')->{$event_id} }, 'a neighbour to be delivered');
	}
	dispatch_many('good', 1000);
	wait_for_empty($good);
	my $took = time - $started;
	note(sprintf 'the neighbour took %.2f s', $took);
	cmp_ok($took, '<', 20, 'a neighbour is delivered beside them');
}
is(scalar $receiver->requests('/x/paused/ok'), 0, 'nothing is sent to the paused one');
is(queued($paused), BACKLOG, 'its backlog waits');
is(value($node, "SELECT count(*) FROM webhooks.deliveries WHERE endpoint_id = '$paused' AND state = 'held'"), BACKLOG, 'and is said to be held');
is(scalar @{ [ $receiver->requests('/x/hanging/hang') ] }, CAP, 'the hanging one has no more under way than it may');

# Resumed

{
	value($node, "SELECT webhooks.resume_endpoint('$paused')");
	wait_for_empty($paused);
	my @numbers = numbers($receiver->requests('/x/paused/ok'));
	is_deeply([ sort { $a <=> $b } @numbers ], [ 1 .. BACKLOG ], 'resumed, all of the backlog is sent, once each');
	my ($farthest) = sort { $b <=> $a } map { abs($numbers[$_] - 1 - $_) } 0 .. $#numbers;
	note("the farthest from its place is $farthest");
	cmp_ok($farthest, '<', 4 * CAP, 'in the order of its dispatch, but for what is under way together');
}

# A transaction that queues many and takes long: they stand before what others dispatch to the same endpoint meanwhile

{
	my ($busy) = register_endpoint($node, $receiver->url('/x/busy/ok'), event_types => q('{busy}'));
	my $session = $node->background_psql('postgres');
	$session->query_safe("BEGIN; SELECT count(webhooks.dispatch('busy', jsonb_build_object('n', n))) FROM generate_series(1, @{[BACKLOG]}) n");
	my $event_id = dispatch($node, 'busy', '{"n": 0}');
	wait_until(sub { $receiver->by_webhook_id('/x/busy/ok')->{$event_id} }, 'what was committed to be delivered');
	is(scalar @{ [ $receiver->requests('/x/busy/ok') ] }, 1, 'nothing else is sent before it is committed');
	$session->query_safe('COMMIT');
	$session->quit;
	wait_for_empty($busy);
	is_deeply([ sort { $a <=> $b } numbers($receiver->requests('/x/busy/ok')) ], [ 0 .. BACKLOG ], 'committed, all is sent, once each');
}

# The same at an ordered endpoint, where those that are replayed stand before all others

{
	my ($busy) = map { $_->{endpoint_id} } rows($node, q{SELECT endpoint_id FROM webhooks.endpoints WHERE event_types = '{busy}'});
	my $sent = @{ [ $receiver->requests('/x/busy/ok') ] };
	value($node, "SELECT webhooks.update_endpoint('$busy', ordering => 'endpoint')");
	value($node, qq{
		INSERT INTO webhooks.dead_letters (delivery_id, event_id, endpoint_id, tenant_id, reason, attempts, dead_at)
		SELECT delivery_id, event_id, endpoint_id, tenant_id, 'exhausted', 1, now() FROM webhooks.attempts WHERE endpoint_id = '$busy'});
	my $session = $node->background_psql('postgres');
	$session->query_safe("BEGIN; SELECT webhooks.replay_failed('$busy', '-infinity')");
	my @events = map { dispatch($node, 'busy', '{}') } 1 .. 3;
	$receiver->wait_for_requests($sent + 3, 30, '/x/busy/ok');
	$session->query_safe('ROLLBACK');
	$session->quit;
	push @events, map { dispatch($node, 'busy', '{}') } 1 .. 3;
	wait_for_empty($busy);
	my @got = map { $_->{headers}{'webhook-id'} } $receiver->requests('/x/busy/ok');
	is_deeply([ @got[ $sent .. $#got ] ], \@events, 'ordered: what is committed is sent while very many replays are not, and when they are rolled back');
}

# One request at a time keeps the order to the last

{
	my ($single) = register_endpoint($node, $receiver->url('/x/single/ok'), event_types => q('{single}'), max_in_flight => 1);
	value($node, "SELECT webhooks.pause_endpoint('$single')");
	dispatch($node, 'single', qq({"n": $_})) for 1 .. 10;
	value($node, q{SELECT count(webhooks.dispatch('single', jsonb_build_object('n', n))) FROM generate_series(11, 500) n});
	value($node, "SELECT webhooks.resume_endpoint('$single')");
	wait_for_empty($single);
	is_deeply([ numbers($receiver->requests('/x/single/ok')) ], [ 1 .. 500 ], 'with one request at a time the order is that of dispatch');
	is(path_max('/x/single/ok'), 1, 'and it is one at a time');
}

# An endpoint's row is changed by hand: first while it is paused, then while it delivers

{
	my ($moved) = register_endpoint($node, $receiver->url('/x/before/delay/0.02'), event_types => q('{moved}'));
	value($node, "SELECT webhooks.pause_endpoint('$moved')");
	dispatch_many('moved', 100);
	my $new = $receiver->url('/x/after/delay/0.02');
	value($node, qq{UPDATE webhooks.endpoints SET url = '$new', max_in_flight = 2, headers = '{"X-New": "yes"}' WHERE endpoint_id = '$moved'});
	value($node, "SELECT webhooks.resume_endpoint('$moved')");
	wait_for_empty($moved);
	is(scalar $receiver->requests('/x/before/delay/0.02'), 0, 'a new address applies to what is queued');
	my @requests = $receiver->requests('/x/after/delay/0.02');
	is_deeply([ sort { $a <=> $b } numbers(@requests) ], [ 1 .. 100 ], 'all is sent there, once each');
	is(path_max('/x/after/delay/0.02'), 2, 'a new limit likewise');
	is(scalar(grep { ($_->{headers}{'x-new'} // '') ne 'yes' } @requests), 0, 'and new headers');

	dispatch_many('moved', 300);
	$receiver->wait_for_requests(100 + 20, 30, '/x/after/delay/0.02');
	my $last = $receiver->url('/x/last/delay/0.02');
	value($node, qq{UPDATE webhooks.endpoints SET url = '$last', max_in_flight = 8 WHERE endpoint_id = '$moved'});
	my $before = @{ [ $receiver->requests('/x/after/delay/0.02') ] };
	wait_for_empty($moved);
	my @old = $receiver->requests('/x/after/delay/0.02');
	my @new = $receiver->requests('/x/last/delay/0.02');
	cmp_ok(scalar @old, '<=', $before + CAP, 'a change applies at once to what is not under way');
	splice @old, 0, 100;
	is_deeply([ sort { $a <=> $b } numbers(@old, @new) ], [ 1 .. 300 ], 'and nothing is lost or sent twice');
	is(path_max('/x/last/delay/0.02'), 8, 'a higher limit applies as well');

	value($node, "DELETE FROM webhooks.endpoints WHERE endpoint_id = '$moved'");
}

# Disabled and enabled, while it delivers

{
	my ($switched) = register_endpoint($node, $receiver->url('/x/switched/delay/0.02'), event_types => q('{switched}'));
	dispatch_many('switched', 400);
	for my $n (1, 2)
	{
		$receiver->wait_for_requests(50 * $n, 30, '/x/switched/delay/0.02');
		value($node, "SELECT webhooks.disable_endpoint('$switched')");
		wait_until(sub { value($node, "SELECT count(*) FROM webhooks.in_flight WHERE endpoint_id = '$switched'") == 0 }, 'what is under way to end');
		cmp_ok(queued($switched), '>', 0, 'disabled: the rest is held');
		my $sent = $receiver->count;
		my $event_id = dispatch($node, 'good', '{}');
		wait_until(sub { $receiver->by_webhook_id('/x/good/ok')->{$event_id} }, 'a neighbour to be delivered');
		is($receiver->count, $sent + 1, 'and not sent');
		value($node, "SELECT webhooks.enable_endpoint('$switched')");
	}
	wait_for_empty($switched);
	is_deeply([ sort { $a <=> $b } numbers($receiver->requests('/x/switched/delay/0.02')) ], [ 1 .. 400 ], 'enabled, it goes on: all is sent, once each');
}

is(scalar @{ [ $receiver->requests('/x/hanging/hang') ] }, CAP, 'the hanging one still has no more under way');
is_deeply([ crashes($node) ], [], 'nothing crashed');
$node->stop;
done_testing();
