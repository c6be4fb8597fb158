
# History goes after its time, by dropping partitions; what a delivery still needs never does.

use strict;
use warnings;

use Test::More;
use WebhooksTest;

# The first housekeeping may come at any time, and must not take what is old before all of it is there.
my $node     = start_node(conf => { 'webhooks.retry_jitter' => 0, map { ("webhooks.$_" => '36500 days') } qw(retention dead_letter_retention) });
my $receiver = start_receiver();

register_endpoint($node, $receiver->url('/x/good/ok'),         event_types => q('{good}'));
register_endpoint($node, $receiver->url('/x/bad/status/404'),  event_types => q('{bad}'));
my ($paused, $secret) = register_endpoint($node, $receiver->url('/x/paused/ok'), event_types => q('{held}'));
value($node, "SELECT webhooks.pause_endpoint('$paused')");
dispatch($node, $_, '{"n": 1}') for qw(good bad);
wait_until(sub { queue_is_empty($node) }, 'the first deliveries');
my $held = dispatch($node, 'held', '{"n": 1}');

# Makes an old one of each: copies with an id, and a time, of long ago. No function dates anything
# back, so this is done on the tables; 0x017000000000 ms after 1970 is February 2020.
my $old_time  = '2020-02-01 09:06:04+00';
my $old_event = '01700000-0000-7000-8000-000000000001';
my $old_held  = '01700000-0000-7000-8000-000000000002';
my $old_dead  = '01700000-0000-7000-8000-000000000003';

sub copy_back
{
	my ($table, $condition, %change) = @_;
	my $object = join ', ', map { "'$_', '$change{$_}'" } sort keys %change;
	value($node, "INSERT INTO webhooks.$table SELECT (jsonb_populate_record(t, jsonb_build_object($object))).* FROM webhooks.$table t WHERE $condition");
	return;
}

my $good_event = q{event_id = (SELECT event_id FROM webhooks.events WHERE event_type = 'good' LIMIT 1)};
my $bad_event  = q{event_id = (SELECT event_id FROM webhooks.events WHERE event_type = 'bad' LIMIT 1)};
copy_back('events', $good_event, event_id => $old_event, created_at => $old_time, occurred_at => $old_time);
copy_back('events', "event_id = '$held'", event_id => $old_held, created_at => $old_time, occurred_at => $old_time);
copy_back('events', $bad_event, event_id => $old_dead, created_at => $old_time, occurred_at => $old_time);
copy_back('attempts', $good_event, event_id => $old_event, attempted_at => $old_time, delivery_id => $old_event);
copy_back('dead_letters', $bad_event, event_id => $old_dead, delivery_id => $old_dead, dead_at => $old_time);
copy_back('queue', "event_id = '$held'", event_id => $old_held, delivery_id => $old_held);

my %count = map { $_ => value($node, "SELECT count(*) FROM webhooks.$_") } qw(events attempts dead_letters queue);
is_deeply(\%count, { events => 6, attempts => 3, dead_letters => 2, queue => 2 }, 'what there is before');

sub has
{
	my ($table, $event_id) = @_;
	return value($node, "SELECT EXISTS (SELECT FROM webhooks.$table WHERE event_id = '$event_id')") eq 't';
}

# A shorter retention, by reload; then the housekeeping has to come round by itself. It starts soon
# after a worker does, so a restart saves the wait.
$node->append_conf('postgresql.conf', "webhooks.retention = '7 days'\nwebhooks.dead_letter_retention = '60 days'");
$node->restart;

wait_until(sub { !has('events',       $old_event) }, 'the old event to go',       90);
wait_until(sub { !has('attempts',     $old_event) }, 'the old attempt to go',     90);
wait_until(sub { !has('dead_letters', $old_dead) },  'the old dead letter to go', 90);
ok(has('events', $old_held), 'an old event that a queued delivery needs stays');
ok(has('queue',  $old_held), 'and so does the delivery');
is(value($node, "SELECT count(*) FROM webhooks.events WHERE created_at > '2021-01-01'"),         3, 'new events stay');
is(value($node, "SELECT count(*) FROM webhooks.attempts WHERE attempted_at > '2021-01-01'"),     2, 'new attempts stay');
is(value($node, "SELECT count(*) FROM webhooks.dead_letters WHERE dead_at > '2021-01-01'"),      1, 'new dead letters stay');
ok(has('events', $held), 'what is held stays');

# There is room ahead: rows of the coming days find a partition of their own
cmp_ok(value($node, q{
	SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
	WHERE i.inhparent = 'webhooks.events'::regclass AND pg_get_expr(c.relpartbound, c.oid) <> 'DEFAULT'}),
	'>=', 2, 'partitions are made ahead');

# The old one can still be delivered
value($node, "SELECT webhooks.resume_endpoint('$paused')");
my @requests = $receiver->wait_for_requests(2, 30, '/x/paused/ok');
is_deeply([ sort map { $_->{headers}{'webhook-id'} } @requests ], [ sort $held, $old_held ], 'both held events are delivered');
is(scalar(grep { verify_signature($_, $secret) } @requests), 2, 'and signed');

$node->stop;
done_testing();
