# The place of a queue row may be gone when its attempt is recorded: cancelled meanwhile, and cut off by VACUUM together with the end
# of the table.

use strict;
use warnings;

use Test::More;
use WebhooksTest;

my $node     = start_node(conf => { autovacuum => 'off' });
my $receiver = start_receiver();

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

is(scalar(crashes($node)), 0, 'nothing crashed');
$node->stop;
done_testing();
