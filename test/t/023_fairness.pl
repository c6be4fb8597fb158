
# Tenants take turns: one with many endpoints gets no more than one with a single endpoint. And neither many endpoints that hang, nor one
# that may have as many requests under way as all together, take every place from the others.

use strict;
use warnings;

use Test::More;
use WebhooksTest;

use constant {
	BIG     => 50,		# endpoints of the big tenant
	EVENTS  => 20,
	PLACES  => 16,
	HANGING => 60,
};

my $node = start_node(conf => { 'webhooks.max_in_flight' => PLACES, 'webhooks.timeout' => '120s' });
my $receiver = start_receiver();

sub register
{
	my ($tenant, $path, %argument) = @_;
	my ($endpoint_id) = register_endpoint($node, $receiver->url($path), tenant_id => "'$tenant'", %argument);
	return $endpoint_id;
}

sub dispatch_many
{
	my ($tenant, $n) = @_;
	value($node, "SELECT count(webhooks.dispatch('e', '{}', tenant_id => '$tenant')) FROM generate_series(1, $n)");
	return;
}

sub turn_off
{
	change_settings($node, 'webhooks.enabled' => 'off');
	wait_until(sub { !worker_pids($node) }, 'the workers to go');
	return;
}

# The places in the order of arrival at which the small tenant's requests came in.
sub positions
{
	my @requests = @_;
	return grep { $requests[$_]{path} =~ m{^/x/small} } 0 .. $#requests;
}

# Turns

register('big', "/x/big$_/ok") for 1 .. BIG;
register('small', '/x/small/ok');
turn_off();
dispatch_many('big',   EVENTS);
dispatch_many('small', EVENTS);
change_settings($node, 'webhooks.enabled' => 'on');
my @requests = $receiver->wait_for_requests((BIG + 1) * EVENTS, 60);
my @positions = positions(@requests);
note("the small tenant's last request is number $positions[-1] of " . @requests);
is(scalar @positions, EVENTS, 'all of the small tenant\'s are sent');
cmp_ok($positions[-1], '<', BIG * EVENTS / 4, 'before a quarter of the big tenant\'s');

# Hanging endpoints

register('hanging', "/x/hang$_/hang") for 1 .. HANGING;
dispatch_many('hanging', EVENTS);
$receiver->wait_for_requests((BIG + 1) * EVENTS + PLACES / 2, 30);
for (1 .. 3)
{
	dispatch_many('small', EVENTS);
	$receiver->wait_for_requests(EVENTS * ($_ + 1), 30, '/x/small/ok');
}
pass('beside endpoints that hang another tenant is delivered to');
my $hanging = value($node, "SELECT count(*) FROM webhooks.in_flight f JOIN webhooks.endpoints e USING (endpoint_id) WHERE e.tenant_id = 'hanging'");
note("$hanging places of " . PLACES . ' are taken by those that hang');
cmp_ok($hanging, '<', PLACES, 'they do not take all places');

# One endpoint that hangs, and a neighbour of the same tenant that has not been heard of before

turn_off();
value($node, q{SELECT count(webhooks.remove_endpoint(endpoint_id)) FROM webhooks.endpoints});
change_settings($node, 'webhooks.enabled' => 'on');
register('', '/x/single/hang', event_types => q('{hang}'), max_in_flight => 2 * PLACES);
register('', '/x/neighbour/ok', event_types => q('{ok}'));
value($node, sprintf q{SELECT count(webhooks.dispatch('hang', '{}')) FROM generate_series(1, %d)}, 2 * PLACES);
$receiver->wait_for_requests(PLACES / 2, 30, '/x/single/hang');
my $event_id = dispatch($node, 'ok', '{}');
wait_for_state($node, $event_id, 'succeeded');
is(scalar @{ [ $receiver->requests('/x/single/hang') ] }, PLACES / 2, 'an endpoint alone takes no more than half of the places');

is_deeply([ crashes($node) ], [], 'nothing crashed');
$node->stop;
done_testing();
