
# A transaction that holds rows of the queue, and stays open, holds up nobody but itself: what else there is is sent and recorded
# meanwhile. And what is replayed while its request is under way is sent once more, whatever became of that request.

use strict;
use warnings;

use Test::More;
use WebhooksTest;

use constant BACKLOG => 200;	# more than may be in hand

my $node     = start_node(conf => { 'webhooks.max_in_flight' => 64 });
my $receiver = start_receiver();
my $session  = $node->background_psql('postgres');

my ($slow) = register_endpoint($node, $receiver->url('/x/slow/delay/2'), event_types => q('{slow}'), tenant_id => q('a'));
my ($fast) = register_endpoint($node, $receiver->url('/x/fast/ok'), event_types => q('{fast}'), tenant_id => q('b'));
wait_until(sub { worker_pids($node) == 1 }, 'the worker');

# Dispatches to the fast one until so many more were recorded while the transaction is open.
sub others_go_on
{
	my ($what) = @_;
	for my $i (1 .. 3)
	{
		my $event = dispatch($node, 'fast', '{}', tenant_id => q('b'));
		wait_for_state($node, $event, 'succeeded');
	}
	is(scalar(log_lines($node, qr{(?:recording|fetching|giving up) .*failed})), 0, "$what: others are sent and recorded, and nothing waits for a lock");
	return;
}

sub outcomes
{
	my ($event) = @_;
	return value($node, qq{SELECT string_agg(outcome, ' ' ORDER BY attempted_at) FROM webhooks.attempts WHERE event_id = '$event'});
}

# In flight, and cancelled by a transaction that does not end

for my $case ([ 'COMMIT', 'succeeded cancelled' ], [ 'ROLLBACK', 'succeeded' ])
{
	my ($end, $outcomes) = @$case;
	my @before = $receiver->requests('/x/slow/delay/2');
	my $event = dispatch($node, 'slow', '{}', tenant_id => q('a'));

	wait_for_state($node, $event, 'in_flight');
	$session->query_safe("BEGIN; SELECT webhooks.cancel_event('$event')");
	$receiver->wait_for_requests(@before + 1, undef, '/x/slow/delay/2');
	sleep 3;		# it is answered
	others_go_on("cancelled in flight, before $end");
	is(outcomes($event), '', "$end: its own attempt is not recorded yet");
	$session->query_safe($end);
	wait_until(sub { outcomes($event) eq $outcomes }, "$end: the outcomes $outcomes");
	ok(queue_is_empty($node), "$end: and then it is");
}

# A backlog, cancelled by a transaction that does not end: what is in flight finishes, and the rest waits for that end. It takes no
# place that another delivery could have, nor does what stands behind it wait.

my ($backlog) = register_endpoint($node, $receiver->url('/x/backlog/delay/0.05'), event_types => q('{backlog}'), tenant_id => q('b'), max_in_flight => 8);

for my $end ('COMMIT', 'ROLLBACK')
{
	my @before = $receiver->requests('/x/backlog/delay/0.05');
	my $sent = sub { scalar(my @requests = $receiver->requests('/x/backlog/delay/0.05')) - @before };
	value($node, "SELECT count(webhooks.dispatch('backlog', '{}', tenant_id => 'b')) FROM generate_series(1, @{[BACKLOG]})");
	$receiver->wait_for_requests(@before + 20, undef, '/x/backlog/delay/0.05');
	$session->query_safe(q{BEGIN; SELECT count(webhooks.cancel_delivery(delivery_id)) FROM webhooks.deliveries WHERE event_type = 'backlog'});
	my $behind = dispatch($node, 'backlog', '{"n": 1}', tenant_id => q('b'));
	wait_for_state($node, $behind, 'succeeded');
	others_go_on("a backlog cancelled, before $end");
	my $sent_meanwhile = $sent->();
	cmp_ok($sent_meanwhile, '<', BACKLOG, "$end: what is being cancelled is not sent");
	$session->query_safe($end);
	wait_until(sub { queue_is_empty($node) }, "$end: the end of the backlog");
	is($sent->(), $end eq 'COMMIT' ? $sent_meanwhile : BACKLOG + 1, "$end: and then it is gone, or sent");
}

# The same in order: what stands behind it waits

my ($ordered) = register_endpoint($node, $receiver->url('/x/ordered/ok'), event_types => q('{ordered}'), ordering => q('endpoint'));

for my $end ('COMMIT', 'ROLLBACK')
{
	my @before = $receiver->requests('/x/ordered/ok');
	value($node, "SELECT webhooks.pause_endpoint('$ordered')");
	my @events = map { dispatch($node, 'ordered', qq({"n": $_})) } 1 .. 4;
	$session->query_safe("BEGIN; SELECT webhooks.cancel_event('$events[1]')");
	value($node, "SELECT webhooks.resume_endpoint('$ordered')");
	$receiver->wait_for_requests(@before + 1, undef, '/x/ordered/ok');
	others_go_on("in order, before $end");
	is(scalar(my @requests = $receiver->requests('/x/ordered/ok')), @before + 1, "$end: no more than what stands before it is sent");
	$session->query_safe($end);
	wait_until(sub { queue_is_empty($node) }, "$end: the end of what waited");
	my @ids = map { $_->{headers}{'webhook-id'} } $receiver->requests('/x/ordered/ok');
	is_deeply([ @ids[ @before .. $#ids ] ], [ @events[ $end eq 'COMMIT' ? (0, 2, 3) : (0 .. 3) ] ], "$end: the order");
}

# Expired, and held

my $expired = dispatch($node, 'fast', '{}', tenant_id => q('b'), deliver_at => q(now() + interval '1 hour'), expires_at => q(now() + interval '2 hours'));
$session->query_safe("BEGIN; UPDATE webhooks.queue SET due_at = now(), expires_at = now() WHERE event_id = '$expired'; COMMIT;"
	. " BEGIN; SELECT FROM webhooks.queue WHERE event_id = '$expired' FOR UPDATE");
others_go_on('expired and held');
$session->query_safe('COMMIT');
wait_for_state($node, $expired, 'dead_letter', 60);
is(outcomes($expired), '', 'what has expired is given up when it is let go, and was not sent');

# Replayed in flight

my ($failing) = register_endpoint($node, $receiver->url('/x/failing/delay/2'), event_types => q('{failing}'),
	timeout => q('1s'), retry_schedule => q('{}'));
my $event = dispatch($node, 'failing', '{}');
my $status = wait_for_state($node, $event, 'in_flight');
value($node, "SELECT webhooks.replay_delivery('$status->{delivery_id}')");
wait_for_state($node, $event, 'dead_letter');
is(outcomes($event), 'retrying dead_letter', 'replayed while the last attempt was under way: one more, which ends it');

($failing) = register_endpoint($node, $receiver->url('/x/later/delay/2'), event_types => q('{later}'), timeout => q('1s'), retry_schedule => q('{1h}'));
$event = dispatch($node, 'later', '{}');
$status = wait_for_state($node, $event, 'in_flight');
value($node, "SELECT webhooks.replay_event('$event')");
wait_until(sub { outcomes($event) eq 'retrying retrying' }, 'the second attempt');
($status) = rows($node, "SELECT * FROM webhooks.dispatch_status('$event')");
is("$status->{state} $status->{attempts}", 'retrying 1', 'with a schedule: at once, and its attempts are counted anew');

$event = dispatch($node, 'slow', '{}', tenant_id => q('a'));
wait_for_state($node, $event, 'in_flight');
value($node, "SELECT webhooks.cancel_event('$event'), webhooks.replay_event('$event')");
wait_until(sub { queue_is_empty($node) || value($node, "SELECT NOT EXISTS (SELECT FROM webhooks.queue WHERE event_id = '$event')") eq 't' },
	'the end of what was cancelled and replayed');
is(outcomes($event), 'succeeded cancelled succeeded', 'cancelled and replayed in flight, and answered: it is sent once more');

is(scalar(crashes($node)), 0, 'nothing crashed');
$session->quit;
$node->stop;
done_testing();
