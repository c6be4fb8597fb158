
# A receiver that speaks HTTP/2 gets it, over few connections; what goes wrong with one request there
# costs its neighbours nothing, and an attempt is still one request.

use strict;
use warnings;

use Test::More;
use WebhooksTest;

use constant {
	EVENTS  => 200,
	BURST   => 32,		# what max_in_flight_per_endpoint allows
};

my $ca   = make_test_ca();
my $node = start_node(
	conf => {
		'webhooks.ca_file'      => $ca->{ca},
		'webhooks.retry_jitter' => 0,
		'webhooks.timeout'      => '10s',
	});
my $receiver = start_receiver(http2 => 1, tls => $ca->{server}, name => 'h2');
wait_until(sub { worker_pids($node) == 1 }, 'the worker');

sub dispatch_many
{
	my ($type, $n) = @_;
	value($node, "SELECT count(webhooks.dispatch('$type', jsonb_build_object('n', n))) FROM generate_series(1, $n) n");
	return;
}

sub connections
{
	my %connection = map { $_->{connection} => 1 } @_;
	return scalar keys %connection;
}

sub attempts
{
	my ($type) = @_;
	return rows($node, "SELECT * FROM webhooks.delivery_log WHERE event_type = '$type' ORDER BY attempted_at");
}

# Many requests, few connections

{
	my (undef, $secret) = register_endpoint($node, $receiver->url('/x/many/delay/0.1'), event_types => q('{many}'));
	dispatch_many('many', EVENTS);
	my @requests = $receiver->wait_for_requests(EVENTS, 60, '/x/many/delay/0.1');
	is(scalar(grep { $_->{protocol} ne 'HTTP/2' } @requests), 0, 'HTTP/2 is spoken');
	is(scalar(grep { !verify_signature($_, $secret) } @requests), 0, 'all are signed');
	is(connections(@requests), 1, EVENTS . ' requests, from the first burst on, share one connection');
	my ($most) = sort { $b <=> $a } map { $_->{in_flight}{path_max} } @requests;
	cmp_ok($most, '>', BURST / 2, 'on which many are under way at once');
	cmp_ok($most, '<=', BURST, 'and not more than may be');
	wait_until(sub { queue_is_empty($node) }, 'an empty queue');
	is(scalar @{ [ $receiver->requests('/x/many/delay/0.1') ] }, EVENTS, 'none comes twice');
}

# An answer's rest that is not wanted ends its own stream only

{
	register_endpoint($node, $receiver->url('/x/beside/delay/0.3'), event_types => q('{beside}'));
	register_endpoint($node, $receiver->url('/x/endless/endless-body'), event_types => q('{beside}'));
	register_endpoint($node, $receiver->url('/x/large/body/300000'),    event_types => q('{beside}'));
	register_endpoint($node, $receiver->url('/x/slow/hang'), event_types => q('{beside}'), timeout => q('500ms'), retry_schedule => q('{}'));
	dispatch_many('beside', 10);
	wait_until(sub { queue_is_empty($node) }, 'an empty queue');
	my @attempts = attempts('beside');
	is(scalar @attempts, 40, 'each is tried once');
	for my $path (qw(beside/delay/0.3 endless/endless-body large/body/300000))
	{
		is(scalar(grep { $_->{url} =~ m{/x/\Q$path\E$} && $_->{outcome} eq 'succeeded' } @attempts), 10, "$path: all succeed");
	}
	is(scalar(grep { $_->{url} =~ m{/hang$} && $_->{error_class} eq 'timeout' } @attempts), 10, 'those without an answer time out');
	wait_until(sub { grep { ($_->{reset} // '') eq '/x/endless/endless-body' } $receiver->requests }, 'an endless answer to be reset');
	is(connections(grep { defined $_->{path} && $_->{path} =~ m{^/x/(beside|endless|large|slow)/} } $receiver->requests), 1, 'all over one connection');
	dispatch_many('many', 1);
	my @all = $receiver->wait_for_requests(EVENTS + 1, 30, '/x/many/delay/0.1');
	is($all[-1]{connection}, $all[0]{connection}, 'which is used further');
}

# What the receiver refuses unseen is sent again, as the same attempt

for my $case ([ 'refused', '/refuse/1' ], [ 'goaway', '/goaway' ], [ 'downgraded', '/http11' ])
{
	my ($type, $path) = @$case;
	my (undef, $secret) = register_endpoint($node, $receiver->url("$path"), event_types => qq('{$type}'));
	dispatch_many($type, 5);
	wait_until(sub { queue_is_empty($node) }, 'an empty queue');
	my @attempts = attempts($type);
	is(scalar(grep { $_->{outcome} eq 'succeeded' && $_->{attempt} == 1 } @attempts), 5, "$type: the first attempt succeeds");
	is(scalar @attempts, 5, "$type: and there is no other");
	is(scalar(grep { !verify_signature($_, $secret) } $receiver->requests($path)), 0, "$type: all are signed");
}
is(scalar(grep { $_->{protocol} eq 'HTTP/1.1' } $receiver->requests('/http11')), 5, 'downgraded: HTTP/1.1 is spoken then');

# What it may have acted upon is not

for my $case ([ 'reset', '/reset', 'protocol' ], [ 'close', '/close', 'connect' ])
{
	my ($type, $path, $class) = @$case;
	register_endpoint($node, $receiver->url($path), event_types => qq('{$type}'), retry_schedule => q('{100ms}'));
	dispatch($node, 'many', '{}');		# so that there is a connection that others have used
	wait_until(sub { queue_is_empty($node) }, 'an empty queue');
	my $status = wait_for_state($node, dispatch($node, $type, '{}'), 'dead_letter');
	is($status->{error_class}, $class, "$type: the class is $class");
	is($status->{attempts}, 2, "$type: it is tried again as scheduled");
	is(scalar @{ [ $receiver->requests($path) ] }, 2, "$type: and an attempt is one request");
}

# Neither is it, when the connection ends, what was under way beside. (At a receiver of their own: to the other one
# connections are kept that were downgraded, and some would go there.)

{
	my $ending = start_receiver(http2 => 1, tls => $ca->{server}, name => 'ending');
	register_endpoint($node, $ending->url('/x/victim/hang'), event_types => q('{victim}'), retry_schedule => q('{}'));
	register_endpoint($node, $ending->url('/x/killer/close'), event_types => q('{killer}'), retry_schedule => q('{}'));
	dispatch_many('victim', 10);
	$ending->wait_for_requests(10, 30, '/x/victim/hang');
	dispatch($node, 'killer', '{}');
	wait_until(sub { queue_is_empty($node) }, 'an empty queue');
	is(connections($ending->requests), 1, 'all go over one connection');
	is(scalar @{ [ $ending->requests('/x/victim/hang') ] }, 10, 'a connection that ends: each was sent once');
	is(scalar(grep { $_->{error_class} eq 'connect' && $_->{outcome} eq 'dead_letter' } attempts('victim')), 10, 'and has failed');
}

# The address rules hold on a connection that is kept

{
	dispatch($node, 'many', '{}');
	wait_until(sub { queue_is_empty($node) }, 'an empty queue');
	change_settings($node, 'webhooks.allowed_networks' => '');
	my $status;
	wait_until(
		sub {
			my $event_id = dispatch($node, 'many', '{}');
			wait_until(sub { ($status) = rows($node, "SELECT * FROM webhooks.dispatch_status('$event_id')"); $status->{state} =~ /^(succeeded|dead_letter)$/ },
				'an end of the delivery');
			return $status->{state} eq 'dead_letter';
		},
		'the rules to take effect');
	is($status->{error_class}, 'blocked_address', 'an address no longer allowed is refused');
	my $before = $receiver->count;
	dispatch_many('many', 20);
	wait_until(sub { queue_is_empty($node) }, 'an empty queue');
	is($receiver->count, $before, 'nothing reaches the receiver');
}

is_deeply([ crashes($node) ], [], 'nothing crashed');
$node->stop;
done_testing();
