
# Without shared_preload_libraries there is no worker, and everything else works; whoever misses the
# worker is told what to do.

use strict;
use warnings;

use Test::More;
use WebhooksTest;

my $node     = start_node(preload => 0, conf => { 'webhooks.retry_jitter' => 0 });
my $receiver = start_receiver();

my ($endpoint_id, $secret) = register_endpoint($node, $receiver->url('/x/good/ok'), event_types => q('{good}'));
register_endpoint($node, $receiver->url('/script/a/503,200'), event_types => q('{flaky}'), retry_schedule => q('{100ms}'));
register_endpoint($node, $receiver->url('/x/bad/status/404'), event_types => q('{bad}'));

# Calls deliver_due until what is due is done, and sums up what it tells.
sub deliver
{
	my ($arguments) = @_;
	my @names = qw(attempted succeeded retried dead_lettered);
	my %sum;
	@sum{@names} = split /\|/, value($node, 'CALL webhooks.deliver_due(' . ($arguments // '') . ')');
	return \%sum;
}

my $event_id = dispatch($node, 'good', '{"n": 1}');
dispatch($node, 'flaky', '{}');
dispatch($node, 'bad',   '{}');
is(value($node, 'SELECT count(*) FROM webhooks.queue'), 3, 'dispatch queues');
is(scalar worker_pids($node), 0, 'there is no worker');
is($receiver->count, 0, 'and nothing is sent');

is_deeply(deliver(), { attempted => 3, succeeded => 1, retried => 1, dead_lettered => 1 }, 'deliver_due tells what it did');
ok(verify_signature(($receiver->requests('/x/good/ok'))[0], $secret), 'what it sends is signed');
is(wait_for_state($node, $event_id, 'succeeded')->{attempts}, 1, 'and recorded');

wait_until(sub { value($node, 'SELECT count(*) FROM webhooks.queue WHERE due_at <= now()') }, 'the retry to be due');
is_deeply(deliver(), { attempted => 1, succeeded => 1, retried => 0, dead_lettered => 0 }, 'a later call makes the retry');
ok(queue_is_empty($node), 'then the queue is empty');
is_deeply(deliver(), { attempted => 0, succeeded => 0, retried => 0, dead_lettered => 0 }, 'with nothing due, nothing is done');

# Its limits

value($node, q{SELECT count(webhooks.dispatch('good', '{}')) FROM generate_series(1, 50)});
is(deliver('max_deliveries => 20')->{attempted}, 20, 'max_deliveries holds');
is(value($node, 'SELECT count(*) FROM webhooks.queue'), 30, 'the rest stays queued');
is(deliver()->{attempted}, 30, 'until the next call');
is(scalar @{ [ $receiver->requests('/x/good/ok') ] }, 51, 'each is sent once');

# Two callers at once send nothing twice

{
	my $before = $receiver->count;
	value($node, q{SELECT count(webhooks.dispatch('good', '{}')) FROM generate_series(1, 500)});
	my @sessions = map { $node->background_psql('postgres') } 1 .. 2;
	$_->query_until(qr/started/, "\\echo started\nCALL webhooks.deliver_due();\n") for @sessions;
	$_->quit for @sessions;
	wait_until(sub { deliver(); queue_is_empty($node) }, 'an empty queue');
	is($receiver->count, $before + 500, 'two sessions at once send nothing twice');
}

# It works in no transaction block, for it commits

{
	my ($result, undef, $stderr) = $node->psql('postgres', "\\set VERBOSITY verbose\nBEGIN; CALL webhooks.deliver_due(); COMMIT;");
	isnt($result, 0, 'deliver_due in a transaction block is refused');
	like($stderr, qr/ERROR:  (25001|2D000)/, 'as such');
}

# What is missing is told

{
	my (undef, undef, $stderr) = $node->psql('postgres', 'DROP EXTENSION webhooks; CREATE EXTENSION webhooks');
	like($stderr, qr/^\S*\s*WARNING:  webhooks is not preloaded.*HINT:  Add webhooks to shared_preload_libraries and restart the server/s, 'by CREATE EXTENSION');
	like(value($node, 'SELECT reason FROM webhooks.health()'), qr/not in shared_preload_libraries.*restart/, 'and by health');
	is(value($node, 'SELECT ok FROM webhooks.health()'), 'f', 'which is false');
}

$node->stop;
done_testing();
