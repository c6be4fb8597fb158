# A place in a table that an earlier transaction noted may be another row's by now, or be cut off with the end of the table.

use strict;
use warnings;

use JSON::PP;
use Test::More;
use WebhooksTest;

my $node     = start_node(conf => { autovacuum => 'off' });
my $receiver = start_receiver();

# The queue row's: it is cancelled while its request is under way, and VACUUM cuts off the end of the table.

register_endpoint($node, $receiver->url('/x/slow/delay/5'), event_types => q('{slow}'));
register_endpoint($node, $receiver->url('/x/later/ok'), event_types => q('{later}'));
wait_until(sub { worker_pids($node) == 1 }, 'the worker');

value($node, "SELECT count(webhooks.dispatch('later', '{}', deliver_at => '2999-01-01')) FROM generate_series(1, 2000)");
my $event = dispatch($node, 'slow', '{}');
wait_for_state($node, $event, 'in_flight');
my $before = value($node, q{SELECT pg_relation_size('webhooks.queue')});
value($node, 'SELECT count(webhooks.cancel_delivery(delivery_id)) FROM webhooks.queue');
$node->safe_psql('postgres', 'VACUUM webhooks.queue');
cmp_ok(value($node, q{SELECT pg_relation_size('webhooks.queue')}), '<', $before, 'the table is cut off');
wait_until(sub { value($node, "SELECT count(*) FROM webhooks.attempts WHERE event_id = '$event'") == 2 }, 'the attempt');
is(scalar(log_lines($node, qr{recording .*failed})), 0, 'it is recorded at once');

# The events': a part of them is deleted, and VACUUM FULL moves the others to the front.

my ($endpoint) = register_endpoint($node, $receiver->url('/x/moved/ok'), event_types => q('{moved}'));
value($node, "SELECT webhooks.pause_endpoint('$endpoint')");
value($node, "SELECT count(webhooks.dispatch('moved', jsonb_build_object('n', n, 'text', repeat('x', 500)))) FROM generate_series(1, 80) n");
$node->safe_psql('postgres', q{
	CREATE TEMPORARY TABLE gone AS SELECT event_id FROM webhooks.events WHERE event_type = 'moved' AND (payload->>'n')::int <= 20;
	DELETE FROM webhooks.queue WHERE event_id IN (TABLE gone);
	DELETE FROM webhooks.events WHERE event_id IN (TABLE gone)});
$node->safe_psql('postgres', "VACUUM FULL $_")
	for value($node, q{SELECT string_agg(DISTINCT tableoid::regclass::text, ',') FROM webhooks.events});
is(value($node, q{SELECT count(*) FROM webhooks.queue q JOIN webhooks.events e ON e.ctid = q.event_place AND e.event_id <> q.event_id}), 40,
	'the places of 40 events are those of others');
value($node, "SELECT webhooks.resume_endpoint('$endpoint')");
my @requests = $receiver->wait_for_requests(60, undef, '/x/moved/ok');
is_deeply({ map { $_->{headers}{'webhook-id'} => decode_json($_->{body})->{data}{n} } @requests },
	{ map { @$_{qw(id n)} } rows($node, q{SELECT event_id AS id, (payload->>'n')::int AS n FROM webhooks.events WHERE event_type = 'moved'}) },
	'each is sent with its own body');

is(scalar(crashes($node)), 0, 'nothing crashed');
$node->stop;
done_testing();
