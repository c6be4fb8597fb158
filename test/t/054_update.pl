
# Deliveries that are queued already follow what is changed of their endpoint, from their next attempt on; the log tells where each attempt
# really went; and a new ordering holds for them, too.

use strict;
use warnings;

use JSON::PP;
use Test::More;
use WebhooksTest;

my $node = start_node(conf => { 'webhooks.retry_jitter' => 0 });
my $receiver = start_receiver();

sub update
{
	my ($endpoint_id, %argument) = @_;
	return value($node, "SELECT webhooks.update_endpoint('$endpoint_id', " . join(', ', map { "$_ => $argument{$_}" } sort keys %argument) . ')');
}

# Changes it while its delivery waits for a retry, which is due at once then.
sub update_before_retry
{
	my ($endpoint_id, $event_id, %argument) = @_;
	wait_for_state($node, $event_id, 'retrying');
	value($node, "BEGIN; UPDATE webhooks.queue SET due_at = now() WHERE event_id = '$event_id'; SELECT webhooks.update_endpoint('$endpoint_id', "
		. join(', ', map { "$_ => $argument{$_}" } sort keys %argument) . '); COMMIT');
	return;
}

sub delivery
{
	my ($event_id) = @_;
	my ($status) = rows($node, "SELECT * FROM webhooks.dispatch_status('$event_id')");
	return $status;
}

# Queued and not yet sent: address and headers

{
	my ($id) = register_endpoint($node, $receiver->url('/x/old/ok'), event_types => q('{moved}'), headers => q('{"X-Version": "old"}'));
	value($node, "SELECT webhooks.pause_endpoint('$id')");
	my $event = dispatch($node, 'moved');
	update($id, url => "'" . $receiver->url('/x/new/ok') . "'", headers => q('{"X-Version": "new"}'));
	value($node, "SELECT webhooks.resume_endpoint('$id')");
	wait_for_state($node, $event, 'succeeded');
	is(scalar($receiver->requests('/x/old/ok')), 0, 'what is queued is not sent to the old address');
	is_deeply([ map { $_->{headers}{'x-version'} } $receiver->requests('/x/new/ok') ], ['new'], 'but to the new one, with the new headers');
}

# Between two attempts: the first to the old address, the second to the new one

{
	my ($id) = register_endpoint($node, $receiver->url('/x/first/status/503'), event_types => q('{between}'), retry_schedule => q('{1 hour}'));
	my $event = dispatch($node, 'between');
	update_before_retry($id, $event, url => "'" . $receiver->url('/x/second/ok') . "'");
	is(delivery($event)->{url}, $receiver->url('/x/second/ok'), 'a delivery shows where it goes next');
	wait_for_state($node, $event, 'succeeded');
	is_deeply([ map { $_->{url} } rows($node, "SELECT url FROM webhooks.delivery_log WHERE event_id = '$event' ORDER BY attempted_at") ],
		[ $receiver->url('/x/first/status/503'), $receiver->url('/x/second/ok') ], 'the log tells where each attempt went');
}

# The schedule, retry_on, the timeout: changed while a retry is waited for

{
	my %case = (
		schedule => { path => '/x/schedule/status/503', change => { retry_schedule => q('{1s}') } },
		on       => { path => '/x/on/status/503', change => { retry_on => q('429') } },
		slow     => { path => '/x/slow/status/503', change => { url => "'" . $receiver->url('/x/slow/delay/20') . "'", timeout => q('300 ms'), retry_schedule => q('{1s}') } },
	);
	for my $name (sort keys %case)
	{
		($case{$name}{id}) = register_endpoint($node, $receiver->url($case{$name}{path}), event_types => "'{$name}'", retry_schedule => q('{1 hour,1 hour}'));
		$case{$name}{event} = dispatch($node, $name);
	}
	update_before_retry($_->{id}, $_->{event}, %{ $_->{change} }) for values %case;
	$_->{status} = wait_for_state($node, $_->{event}, 'dead_letter', 60) for values %case;
	is($case{schedule}{status}{attempts}, 2, 'a shorter schedule ends a delivery that is under way by the old one');
	is(value($node, "SELECT reason FROM webhooks.dead_letters WHERE event_id = '$case{on}{event}'"), 'permanent', 'so does a status that is retried no longer');
	is($case{slow}{status}{error_class}, 'timeout', 'the timeout is the new one');
}

# A new ordering: of what is queued, too

sub received
{
	my ($path) = @_;
	return map { $_->{headers}{'webhook-id'} } $receiver->requests($path);
}

{
	my $path = '/x/ordered/by-id/503,200';
	my ($id) = register_endpoint($node, $receiver->url($path), event_types => q('{ordered}'), retry_schedule => q('{200ms,200ms}'));
	value($node, "SELECT webhooks.pause_endpoint('$id')");
	my @events = split /\n/, value($node, q{SELECT webhooks.dispatch('ordered', '{}') FROM generate_series(1, 5)});
	update($id, ordering => q('endpoint'));
	value($node, "SELECT webhooks.resume_endpoint('$id')");
	wait_until(sub { queue_is_empty($node) }, 'all of them');
	is_deeply([ received($path) ], [ map { ($_) x 2 } @events ], 'each is tried until it succeeds, then the next');
}

# What is under way when the ordering changes is sent once, and what is behind it waits for it
{
	my $path = '/x/under-way/delay/2';
	my ($id) = register_endpoint($node, $receiver->url($path), event_types => q('{underway}'), max_in_flight => 2);
	my @events = split /\n/, value($node, q{SELECT webhooks.dispatch('underway', '{}') FROM generate_series(1, 4)});
	$receiver->wait_for_requests(2, 30, $path);
	update($id, ordering => q('endpoint'), max_in_flight => 10);
	wait_until(sub { queue_is_empty($node) }, 'all of them', 60);
	my @got = $receiver->requests($path);
	is_deeply([ sort map { $_->{headers}{'webhook-id'} } @got ], [ sort @events ], 'each is sent once');
	is_deeply([ map { $_->{headers}{'webhook-id'} } @got[ 2, 3 ] ], [ @events[ 2, 3 ] ], 'in order from then on');
	is_deeply([ map { $_->{in_flight}{path} } @got[ 2, 3 ] ], [ 1, 1 ], 'one at a time');
}

# No longer ordered: nothing waits for what is waiting
{
	my $path = '/x/released/script/released/503,200';
	my ($id) = register_endpoint($node, $receiver->url($path), event_types => q('{released}'), ordering => q('endpoint'), retry_schedule => q('{1 hour}'));
	my @events = split /\n/, value($node, q{SELECT webhooks.dispatch('released', '{}') FROM generate_series(1, 3)});
	wait_for_state($node, $events[0], 'retrying');
	update($id, reset => q('{ordering}'));
	wait_for_state($node, $events[$_], 'succeeded') for 1, 2;
	is(delivery($events[0])->{state}, 'retrying', 'without an order, what waits for its retry holds nothing back');
	value($node, "SELECT webhooks.remove_endpoint('$id')");
}

is_deeply([ crashes($node) ], [], 'nothing crashed');
$node->stop;
done_testing();
