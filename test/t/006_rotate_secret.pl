
# A secret is replaced without a gap: during the overlap both sign, afterwards the new one alone. A
# delivery keeps its webhook-id over retries and replays, each signed anew with its own time.

use strict;
use warnings;

use Test::More;
use WebhooksTest;

my $node     = start_node(conf => { 'webhooks.retry_jitter' => 0 });
my $receiver = start_receiver();

# Dispatches an event and gives its request.
sub send_one
{
	my ($type) = @_;
	my $event_id = dispatch($node, $type, '{}');
	my $requests;
	wait_until(sub { $requests = $receiver->by_webhook_id->{$event_id} }, "$type at the receiver");
	return $requests->[0];
}

sub signatures
{
	return scalar split / /, $_[0]{headers}{'webhook-signature'};
}

# Rotation

my ($endpoint_id, $old) = register_endpoint($node, $receiver->url('/x/rotate/ok'), event_types => q('{rotate}'));
is(signatures(send_one('rotate')), 1, 'before the rotation there is one signature');

my $new = value($node, "SELECT webhooks.rotate_secret('$endpoint_id', overlap => '1 hour')");
like($new, qr{^whsec_[A-Za-z0-9+/]{43}=$}, 'the new secret is told');
isnt($new, $old, 'and is another');
my $request = send_one('rotate');
is(signatures($request), 2, 'during the overlap there are two signatures');
ok(verify_signature($request, $old), 'one by the old secret');
ok(verify_signature($request, $new), 'one by the new secret');

my $third = 'whsec_' . MIME::Base64::encode_base64('0123456789abcdef0123456789abcdef', '');
is(value($node, "SELECT webhooks.rotate_secret('$endpoint_id', overlap => '2 seconds', secret => '$third')"), $third, 'a secret can be given');
$request = send_one('rotate');
ok(verify_signature($request, $new),   'during the second overlap the one before signs');
ok(verify_signature($request, $third), 'and the given one');

wait_until(sub { !verify_signature($request = send_one('rotate'), $new) }, 'the overlap to end');
ok(verify_signature($request, $third), 'after the overlap the new secret signs');
ok(!verify_signature($request, $new),  'and the one before no more');

my $last = value($node, "SELECT webhooks.rotate_secret('$endpoint_id', overlap => '0')");
wait_until(sub { !verify_signature($request = send_one('rotate'), $third) }, 'the rotation without an overlap');
is(signatures($request), 1, 'without an overlap there is one signature');
ok(verify_signature($request, $last), 'by the new secret');

{
	my ($result, $stdout, $stderr) = $node->psql('postgres', "SELECT webhooks.rotate_secret('$endpoint_id', secret => 'whsec_c2hvcnQ=')");
	isnt($result, 0, 'a short secret is refused');
	unlike($stderr, qr/c2hvcnQ/, 'and not repeated in the error');
}

# What stays over attempts

my (undef, $secret) = register_endpoint($node, $receiver->url('/flaky/2/retry'),
	event_types => q('{retry}'), retry_schedule => q('{100ms,1100ms}'));
my $event_id = dispatch($node, 'retry', '{"n": 1}');
wait_for_state($node, $event_id, 'succeeded');
my @requests = $receiver->requests('/flaky/2/retry');
is(scalar @requests, 3, 'three attempts');
is_deeply([ map { $_->{headers}{'webhook-id'} } @requests ], [ ($event_id) x 3 ], 'have the same webhook-id');
is(scalar(grep { verify_signature($_, $secret) } @requests), 3, 'and each its own valid signature');
cmp_ok($requests[2]{headers}{'webhook-timestamp'}, '>', $requests[0]{headers}{'webhook-timestamp'}, 'with the time of the attempt');
is($requests[2]{body}, $requests[0]{body}, 'over the same body');
cmp_ok($requests[2]{time} - $requests[1]{time}, '>=', 1.1, 'which the schedule tells');

# Replays

{
	my ($before) = rows($node, "SELECT delivery_id FROM webhooks.dispatch_status('$event_id')");
	my $replayed = value($node, "SELECT webhooks.replay_delivery('$before->{delivery_id}')");
	is($replayed, $before->{delivery_id}, 'a replay is of the same delivery');
	my @all = $receiver->wait_for_requests(4, 30, '/flaky/2/retry');
	is($all[3]{headers}{'webhook-id'}, $event_id, 'it keeps the webhook-id');
	ok(verify_signature($all[3], $secret), 'and is signed');
	cmp_ok($all[3]{headers}{'webhook-timestamp'}, '>=', $all[2]{headers}{'webhook-timestamp'}, 'with a fresh time');
	is($all[3]{body}, $all[0]{body}, 'the same body');
	is(wait_for_state($node, $event_id, 'succeeded')->{attempts}, 1, 'its attempts are counted anew');
}

{
	my (undef, $dead_secret) = register_endpoint($node, $receiver->url('/by-id/404,503,200'),
		event_types => q('{dead}'), retry_schedule => q('{100ms}'));
	my $dead = dispatch($node, 'dead', '{}');
	my $status = wait_for_state($node, $dead, 'dead_letter');
	value($node, "SELECT webhooks.replay_delivery('$status->{delivery_id}')");
	is(wait_for_state($node, $dead, 'succeeded')->{attempts}, 2, 'a replayed dead letter gets the full schedule');
	is(value($node, 'SELECT count(*) FROM webhooks.dead_letters'), 0, 'and is no dead letter any more');
	my @dead_requests = $receiver->requests('/by-id/404,503,200');
	is_deeply([ map { $_->{headers}{'webhook-id'} } @dead_requests ], [ ($dead) x 3 ], 'its webhook-id stays too');
	is(scalar(grep { verify_signature($_, $dead_secret) } @dead_requests), 3, 'and each request is signed');
}

# No secret is to be had from what may be read

is(value($node, q{SELECT count(*) FROM information_schema.columns WHERE table_schema = 'webhooks' AND table_name IN ('endpoints', 'deliveries', 'delivery_log', 'attempts') AND column_name ~ 'secret'}),
	0, 'no column that others may read has secrets');

$node->stop;
done_testing();
