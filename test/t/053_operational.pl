
# Endpoints that fail are disabled, and their tenants are told: by operational events and by NOTIFY. What becomes of an operational event
# raises no other.

use strict;
use warnings;

use JSON::PP;
use Test::More;
use WebhooksTest;

my $node = start_node(conf => { 'webhooks.retry_jitter' => 0, 'webhooks.failing_alert' => 3 });
my $receiver = start_receiver();
my $json = JSON::PP->new->canonical;

# Who listens, and whom the events go to
my $listener = $node->background_psql('postgres', on_error_die => 1);
$listener->query_safe('LISTEN webhooks');
register_endpoint($node, $receiver->url('/x/told/ok'), event_types => q('{webhooks.*}'), description => q('told'));
register_endpoint($node, $receiver->url('/x/stranger/ok'), event_types => q('{webhooks.*}'), tenant_id => q('stranger'));

sub failing
{
	my ($type, $path, %option) = @_;
	my ($endpoint_id) = register_endpoint($node, $receiver->url($path), event_types => "'{$type}'", retry_schedule => q('{}'), %option);
	return $endpoint_id;
}

sub endpoint
{
	my ($endpoint_id) = @_;
	my ($row) = rows($node, "SELECT e.state, e.disabled_reason, h.failing_since, h.alerted_at FROM webhooks.endpoints e
		LEFT JOIN webhooks.endpoint_health h USING (endpoint_id) WHERE endpoint_id = '$endpoint_id'");
	return $row;
}

# What the receiver was told of an endpoint, of one kind; the queue is empty.
sub told
{
	my ($kind, $endpoint_id) = @_;
	wait_until(sub { queue_is_empty($node) }, 'an empty queue', 60);
	return grep { $_->{endpoint_id} eq $endpoint_id }
	  map { $_->{data} } grep { $_->{type} eq "webhooks.$kind" }
	  map { $json->decode($_->{body}) } $receiver->requests('/x/told/ok');
}

my @notified;
sub notified
{
	my ($kind, $endpoint_id) = @_;
	my $text = $listener->query_safe('SELECT 1');
	push @notified, map { $json->decode($_) } $text =~ /"webhooks" with payload "(\{.*\})" received/g;
	return grep { $_->{type} eq "webhooks.$kind" && $_->{endpoint_id} eq $endpoint_id } @notified;
}

# 410

{
	my $id = failing('gone', '/x/gone/status/410');
	my $event = dispatch($node, 'gone');
	wait_until(sub { endpoint($id)->{state} eq 'disabled' }, 'a 410 to disable');
	is(endpoint($id)->{disabled_reason}, 'gone', 'the reason is told');
	my @told = told('endpoint_disabled', $id);
	is(scalar @told, 1, 'its being disabled is told once');
	is_deeply([ @{ $told[0] }{qw(url reason)} ], [ $receiver->url('/x/gone/status/410'), 'gone' ], 'with its address and the reason');
	my ($given_up) = told('delivery_exhausted', $id);
	is_deeply([ @{$given_up}{qw(event_id event_type reason attempts last_status_code error_class)} ], [ $event, 'gone', 'gone', 1, 410, 'status' ],
		'so is the delivery that was given up');
	is_deeply([ map { delete @{$_}{qw(type)}; $_ } notified('endpoint_disabled', $id) ],
		[ { endpoint_id => $id, tenant_id => '', reason => 'gone' } ], 'a listener is notified, with ids alone');
	is((notified('delivery_exhausted', $id))[0]{event_id}, $event, 'of the delivery, too');
}

# A ping goes to its endpoint alone

{
	my ($id) = register_endpoint($node, $receiver->url('/x/pinged/ok'), event_types => q('{none}'));
	my $event = value($node, "SELECT webhooks.ping_endpoint('$id')");
	wait_for_state($node, $event, 'succeeded');
	my ($request) = $receiver->requests('/x/pinged/ok');
	is_deeply([ @{ $json->decode($request->{body}) }{qw(type data)} ], [ 'webhooks.ping', { endpoint_id => $id } ], 'a ping is delivered');
}

# Retried, and a success at last

{
	my $id = failing('flaky', '/x/flaky/script/flaky/503,200', retry_schedule => q('{100ms}'));
	my $event = dispatch($node, 'flaky');
	wait_for_state($node, $event, 'succeeded');
	my @told = told('delivery_recovered', $id);
	is_deeply([ map { [ @{$_}{qw(event_id attempts)} ] } @told ], [ [ $event, 2 ] ], 'a delivery that succeeds after failing is told as recovered');
	is(scalar(notified('delivery_recovered', $id)), 1, 'and notified');
	is(endpoint($id)->{failing_since}, undef, 'a success ends failing');
	is(scalar(told('delivery_exhausted', $id)), 0, 'what is retried is not given up');
}

# Failing for long

{
	my $id = failing('long', '/x/long/status/500');
	wait_for_state($node, dispatch($node, 'long'), 'dead_letter');
	my $since = endpoint($id)->{failing_since};
	ok($since, 'since when it fails is kept');
	wait_for_state($node, dispatch($node, 'long'), 'dead_letter');
	is(endpoint($id)->{failing_since}, $since, 'and stays');

	value($node, "UPDATE webhooks.endpoint_health SET failing_since = now() - interval '119 hours' WHERE endpoint_id = '$id'");
	wait_for_state($node, dispatch($node, 'long'), 'dead_letter');
	is(endpoint($id)->{state}, 'active', 'for less than five days: it stays');
	is(scalar(told('endpoint_failing', $id)), 1, 'three dead letters in an hour are told');
	wait_for_state($node, dispatch($node, 'long'), 'dead_letter');
	is(scalar(told('endpoint_failing', $id)), 1, 'once');
	is(scalar(notified('endpoint_failing', $id)), 1, 'and notified');

	value($node, "UPDATE webhooks.endpoint_health SET failing_since = now() - interval '5 days' WHERE endpoint_id = '$id'");
	wait_for_state($node, dispatch($node, 'long'), 'dead_letter');
	is_deeply([ @{ endpoint($id) }{qw(state disabled_reason)} ], [ 'disabled', 'failing for 5 days' ], 'for five days: it is disabled');
	is((told('endpoint_disabled', $id))[0]{reason}, 'failing for 5 days', 'and that is told');

	value($node, "SELECT webhooks.enable_endpoint('$id')");
	is(endpoint($id)->{failing_since}, undef, 'enabling forgets it');
	wait_for_state($node, dispatch($node, 'long'), 'dead_letter');
	is(endpoint($id)->{state}, 'active', 'so that the next failure does not disable it again');
}

# A success in between

{
	my $id = failing('between', '/x/between/script/between/500,200,500');
	wait_for_state($node, dispatch($node, 'between'), 'dead_letter');
	value($node, "UPDATE webhooks.endpoint_health SET failing_since = now() - interval '6 days' WHERE endpoint_id = '$id'");
	wait_for_state($node, dispatch($node, 'between'), 'succeeded');
	wait_for_state($node, dispatch($node, 'between'), 'dead_letter');
	is(endpoint($id)->{state}, 'active', 'not nothing but failures: it stays');
}

# Too many dead letters

{
	my $id = failing('many', '/x/many/status/404');
	change_settings($node, 'webhooks.auto_disable_dead_letters' => 2, 'webhooks.failing_alert' => 0);
	wait_until(sub { value($node, 'SHOW webhooks.auto_disable_dead_letters') == 2 }, 'the setting');
	# the worker's reload is a moment later: until it has counted to two, one failure follows another
	wait_for_state($node, dispatch($node, 'many'), 'dead_letter');
	wait_until(sub {
		my $event = dispatch($node, 'many');
		wait_until(sub { queue_is_empty($node) }, 'the delivery to end');
		return endpoint($id)->{state} eq 'disabled';
	}, 'dead letters to disable');
	is(endpoint($id)->{disabled_reason}, '2 dead letters in 24 hours', 'the reason says so');
	value($node, "SELECT webhooks.enable_endpoint('$id')");
	wait_for_state($node, dispatch($node, 'many'), 'dead_letter');
	is(endpoint($id)->{state}, 'active', 'enabled, it is counted anew');
	wait_for_state($node, dispatch($node, 'many'), 'dead_letter');
	is(endpoint($id)->{state}, 'disabled', 'and to the same number');
	change_settings($node, 'webhooks.auto_disable_dead_letters' => 0);
}

# An operational event that fails

{
	my ($id) = register_endpoint($node, $receiver->url('/x/feeds-itself/status/500'), tenant_id => q('itself'),
		event_types => q('{*,webhooks.*}'), retry_schedule => q('{}'));
	my $event = dispatch($node, 'any', '{}', tenant_id => q('itself'));
	wait_for_state($node, $event, 'dead_letter');
	wait_until(sub { queue_is_empty($node) }, 'its event to fail, too');
	is_deeply([ map { $_->{event_type} } rows($node, "SELECT event_type FROM webhooks.events WHERE tenant_id = 'itself' ORDER BY event_id") ],
		[ 'any', 'webhooks.delivery_exhausted' ], 'raises no other');
	is(scalar(notified('delivery_exhausted', $id)), 1, 'nor is it notified');

	# one that disables its endpoint
	my ($gone) = register_endpoint($node, $receiver->url('/x/gone-too/status/410'), event_types => q('{webhooks.ping}'));
	value($node, "SELECT webhooks.ping_endpoint('$gone')");
	wait_until(sub { endpoint($gone)->{state} eq 'disabled' }, 'a ping to be answered with 410');
	is(scalar(told('endpoint_disabled', $gone)), 0, 'nor does an endpoint that it finds gone');
	is(scalar(notified('endpoint_disabled', $gone)), 1, 'which is notified all the same');
}

# Who is told nothing

{
	register_endpoint($node, $receiver->url('/x/star/ok'), event_types => q('{*}'));
	my $id = failing('none', '/ok');
	value($node, "SELECT webhooks.disable_endpoint('$id')");
	is(scalar(told('endpoint_disabled', $id)), 1, 'that an endpoint is disabled by hand is told');
	is(scalar($receiver->requests('/x/star/ok')), 0, 'not to a bare *');
	is(scalar($receiver->requests('/x/stranger/ok')), 0, 'nor to another tenant');
}

# Healthy: nothing is written

{
	my $before = value($node, 'SELECT count(*) FROM webhooks.endpoint_health');
	wait_for_state($node, dispatch($node, 'healthy'), 'succeeded') for 1 .. 3;
	is(value($node, 'SELECT count(*) FROM webhooks.endpoint_health'), $before, 'a success leaves no trace of health');
}

$listener->quit;
is_deeply([ crashes($node) ], [], 'nothing crashed');
is(scalar(log_lines($node, qr/could not raise|recording attempts failed/)), 0, 'nothing failed on the way');
$node->stop;
done_testing();
