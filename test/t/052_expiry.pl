
# Deliveries that end without being sent, while workers deliver: expired, cancelled, replaced. What is in flight finishes, and an
# ordered endpoint goes on with the next at once.

use strict;
use warnings;

use Test::More;
use WebhooksTest;

# Two workers: neither may give up what the other has in flight.
my $node = start_node(conf => { 'webhooks.workers' => 2, 'webhooks.retry_jitter' => 0 });
my $receiver = start_receiver();
wait_until(sub { worker_pids($node) == 2 }, 'two workers');

sub endpoint
{
	my ($path, %option) = @_;
	my ($endpoint_id) = register_endpoint($node, $receiver->url("/x$path"), event_types => "ARRAY[split_part('$path', '/', 2)]", %option);
	return $endpoint_id;
}

sub dead_letter
{
	my ($event_id) = @_;
	my ($row) = rows($node, "SELECT reason, attempts, error_class, last_status_code FROM webhooks.dead_letters WHERE event_id = '$event_id'");
	return $row;
}

sub soon
{
	my ($seconds) = @_;
	return "clock_timestamp() + interval '$seconds s'";
}

my $unsent = { reason => 'expired', attempts => 0, error_class => undef, last_status_code => undef };

# An endpoint that fails until its breaker opens: that takes seconds, so others go on meanwhile.
my $broken = endpoint('/broken/status/500', retry_schedule => q('{0.2s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1 hour}'));
value($node, "SELECT count(webhooks.dispatch('broken', '{}')) FROM generate_series(1, 30)");

# While it is in flight

{
	endpoint('/slow/delay/2');
	my @events = map { dispatch($node, 'slow', '{}', expires_at => soon(1)) } 1 .. 5;
	wait_for_state($node, $_, 'succeeded') for @events;
	is(value($node, 'SELECT count(*) FROM webhooks.dead_letters'), 0, 'one that is in flight when it expires can still succeed');

	endpoint('/hang/hang', timeout => q('2 seconds'), retry_schedule => q('{0}'));
	my $event = dispatch($node, 'hang', '{}', expires_at => soon(1));
	wait_for_state($node, $event, 'dead_letter');
	is_deeply(dead_letter($event), { reason => 'expired', attempts => 1, error_class => 'timeout', last_status_code => undef },
		'and when it fails it is not tried again');
}

# While it waits, for whatever it is

{
	my $paused = endpoint('/paused/ok');
	value($node, "SELECT webhooks.pause_endpoint('$paused')");
	endpoint('/rate/ok', rate_limit => '0.001');
	endpoint('/retry/status/503', retry_schedule => q('{1 hour}'));
	endpoint('/later/ok', ordering => q('endpoint'));
	dispatch($node, 'later', '{}', deliver_at => soon(3600));
	wait_for_state($node, dispatch($node, 'rate', '{}'), 'succeeded');

	wait_until(sub { log_lines($node, qr/endpoint $broken fails/) }, 'the breaker to open');

	my %waiting = map { $_ => dispatch($node, $_, '{}', expires_at => soon(2)) } qw(paused rate retry later broken);
	is((rows($node, "SELECT state FROM webhooks.dispatch_status('$waiting{paused}')"))[0]{state}, 'held', 'a paused endpoint holds it');
	wait_for_state($node, $waiting{$_}, 'dead_letter') for sort keys %waiting;
	is_deeply(dead_letter($waiting{$_}), $unsent, "unsent when it expires: $_") for qw(paused rate later broken);
	is_deeply(dead_letter($waiting{retry}), { reason => 'expired', attempts => 1, error_class => 'status', last_status_code => 503 },
		'one that waits for its retry has the last error');
	is(scalar(my @once = $receiver->requests('/x/retry/status/503')), 1, 'and was sent once');
	is(value($node, "SELECT count(*) FROM webhooks.dead_letters WHERE endpoint_id = '$broken'"), 1, 'those without a time wait on');
	value($node, "SELECT webhooks.remove_endpoint('$broken')");
}

# In a lane

for my $end (qw(expire cancel replace))
{
	endpoint($end eq 'replace' ? '/replace/ok' : "/$end/script/$end/503,200", ordering => q('endpoint'), retry_schedule => q('{1 hour}'));
	if ($end ne 'replace')
	{
		my $head = dispatch($node, $end, '{}', $end eq 'expire' ? (expires_at => soon(3)) : ());
		wait_for_state($node, $head, 'retrying');
		my $next = dispatch($node, $end, '{}');
		value($node, "SELECT webhooks.cancel_event('$head')") if $end eq 'cancel';
		wait_for_state($node, $next, 'succeeded');
		wait_for_state($node, $head, $end eq 'expire' ? 'dead_letter' : 'cancelled');
		pass("ordered: after $end of the one that waits for its retry, the next goes at once");
	}
	else
	{
		# the first to come waits for its time, and is replaced by one that comes after the second
		my $head = dispatch($node, $end, '{}', coalesce_key => q('k'), deliver_at => soon(3600));
		my $next = dispatch($node, $end, '{}');
		is((rows($node, "SELECT state FROM webhooks.dispatch_status('$next')"))[0]{state}, 'pending', 'ordered: one whose time has not come holds back the next');
		my $latest = dispatch($node, $end, '{}', coalesce_key => q('k'), deliver_at => soon(3600));
		wait_for_state($node, $next, 'succeeded');
		wait_for_state($node, $head, 'cancelled');
		is((rows($node, "SELECT state FROM webhooks.dispatch_status('$latest')"))[0]{state}, 'pending', 'replaced, the next goes at once');
	}
}

# Cancelled and replaced while in flight

{
	endpoint('/coalesce/delay/1.5');
	my $first = dispatch($node, 'coalesce', '{}', coalesce_key => q('k'));
	$receiver->wait_for_requests(1, 30, '/x/coalesce/delay/1.5');
	my $second = dispatch($node, 'coalesce', '{}', coalesce_key => q('k'));
	wait_for_state($node, $_, 'succeeded') for $first, $second;
	is(value($node, "SELECT count(*) FROM webhooks.attempts WHERE event_id IN ('$first', '$second')"), 2, 'one that is in flight is not replaced');

	my $event = dispatch($node, 'coalesce', '{}');
	$receiver->wait_for_requests(3, 30, '/x/coalesce/delay/1.5');
	is(value($node, "SELECT webhooks.cancel_event('$event')"), 1, 'one that is in flight can be cancelled');
	wait_for_state($node, $event, 'succeeded');
	is(value($node, "SELECT string_agg(outcome, ', ' ORDER BY attempt) FROM webhooks.attempts WHERE event_id = '$event'"), 'cancelled, succeeded',
		'and finishes: both are recorded');

	endpoint('/failing/hang', timeout => q('1.5 seconds'), retry_schedule => q('{0}'));
	$event = dispatch($node, 'failing', '{}');
	$receiver->wait_for_requests(1, 30, '/x/failing/hang');
	is(value($node, "SELECT webhooks.cancel_event('$event')"), 1, 'also one that is going to fail');
	wait_until(sub { value($node, "SELECT count(*) FROM webhooks.attempts WHERE event_id = '$event'") == 2 }, 'its attempt');
	is((rows($node, "SELECT state FROM webhooks.dispatch_status('$event')"))[0]{state}, 'cancelled', 'which is not tried again');
	is(scalar(my @once = $receiver->requests('/x/failing/hang')), 1, 'nor sent again');
}

# Nothing else is in the queue than what waits for its time

is(value($node, 'SELECT count(*) FROM webhooks.queue WHERE due_at < now()'), 0, 'nothing stays behind');
is_deeply([ crashes($node) ], [], 'nothing crashed');
$node->stop;
done_testing();
