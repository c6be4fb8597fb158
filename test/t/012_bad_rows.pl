
# A row that cannot be read or recorded costs its neighbours nothing: it alone is put off, it is not
# sent again and again, and it goes on once the damage is repaired. Nothing secret gets into the log.

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;
use WebhooksTest;

use constant {
	ROUNDS            => 20,
	NEIGHBOUR_SECONDS => 5,		# recording is tried again after 10: its neighbours need not wait for that
};

my $payload_marker = 'payload-4711-marker';
my $header_marker  = 'Bearer header-4712-marker';
my $echoed_marker  = 'header-4716-marker';    # not masked where the receiver says it back, as Authorization is
my $payload        = qq({"text": "$payload_marker"});

# What the test says must not be in the log, so that what is there comes from the extension.
my $node     = start_node(conf => { log_statement => 'none', 'webhooks.retry_jitter' => 0 });
my $receiver = start_receiver();
my @secrets;

sub register
{
	my ($path, $event_types, %option) = @_;
	my ($id, $secret) = register_endpoint($node, $receiver->url($path), event_types => "'{$event_types}'",
		headers => qq('{"Authorization": "$header_marker", "X-Api-Key": "$echoed_marker"}'), %option);
	push @secrets, $secret;
	return $id;
}

sub delivery_of
{
	my ($event_id, $endpoint_id) = @_;
	return value($node, "SELECT delivery_id FROM webhooks.deliveries WHERE event_id = '$event_id' AND endpoint_id = '$endpoint_id'");
}

sub requests_of
{
	my ($event_id, $path) = @_;
	my @requests = grep { ($_->{headers}{'webhook-id'} // '') eq $event_id } $receiver->requests($path);
	return scalar @requests;
}

sub is_put_off
{
	my ($delivery_id) = @_;
	return value($node, "SELECT due_at > now() + interval '10 seconds' FROM webhooks.queue WHERE delivery_id = '$delivery_id'") eq 't';
}

# The constraint below is one of the parent's: partitions made later could not be attached.
sub partitions_are_made
{
	my $count = value($node, q{SELECT count(*) FROM pg_inherits WHERE inhparent IN ('webhooks.events'::regclass, 'webhooks.attempts'::regclass)});
	return $count >= 18;
}

register("/x/good$_/ok", 'teapot, toast, missing, broken') for 1 .. 5;
register('/x/token-4714-marker/status/418', 'teapot');
register('/x/echo/echo-headers', 'teapot');
register('/x/again/by-id/418,200', 'teapot', retry_on => q('*'), retry_schedule => q('{10ms}'));
my @reader  = map { register("/x/reader$_/ok", 'toast, small') } 1 .. 2;
my $missing = register('/x/missing/ok', 'missing');
wait_until(\&partitions_are_made, 'all partitions');

# A payload that cannot be read: the file of its TOAST table is emptied while the server is down. The two endpoints have events
# before and behind it.

my (@small, $unreadable);
{
	my $noise = q{SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 2000)};
	value($node, "SELECT webhooks.pause_endpoint(endpoint_id) FROM webhooks.endpoints WHERE event_types \@> '{toast}'");
	push @small, dispatch($node, 'small', $payload);
	$unreadable = value($node, qq{SELECT webhooks.dispatch('toast', jsonb_build_object('text', '$payload_marker' || ($noise)))});
	push @small, dispatch($node, 'small', $payload) for 1 .. 10;

	my $file = value($node, qq{
		SELECT pg_relation_filepath(c.reltoastrelid) FROM webhooks.events e JOIN pg_class c ON c.oid = e.tableoid
		WHERE e.event_id = '$unreadable'});
	my $path = $node->data_dir . "/$file";
	$node->stop;
	my $size = -s $path;
	cmp_ok($size // 0, '>', 8192, 'the payload is stored out of line');
	open my $toast, '+<:raw', $path or die "could not open $path: $!";
	print $toast "\0" x $size;
	close $toast;
	$node->start;
}
wait_until(sub { worker_pids($node) == 1 }, 'the worker');
my ($worker) = worker_pids($node);
value($node, "SELECT webhooks.resume_endpoint(endpoint_id) FROM webhooks.endpoints WHERE event_types \@> '{toast}'");
push @small, dispatch($node, 'small', $payload);

for my $n (1, 2)
{
	my $delivery_id = delivery_of($unreadable, $reader[ $n - 1 ]);
	$receiver->wait_for_requests(scalar @small, 30, "/x/reader$n/ok");
	wait_until(sub { is_put_off($delivery_id) }, 'the unreadable delivery to be put off');
	is_deeply([ map { requests_of($_, "/x/reader$n/ok") } @small ], [ map { 1 } @small ],
		"reader $n: all that can be read is sent, once");
	is(requests_of($unreadable, "/x/reader$n/ok"), 0, "reader $n: the unreadable event is not");
	is(scalar(log_lines($node, qr/WARNING: .*\Q$delivery_id\E/)), 1, 'a warning names the delivery, once');
}
is(value($node, qq{SELECT count(*) FROM webhooks.queue WHERE event_id <> '$unreadable'}), 0, 'nothing else is put off');

# A queued row without its event

my $lost = value($node, 'SELECT gen_random_uuid()');
my $lost_delivery;
{
	$lost_delivery = value($node, qq{
		INSERT INTO webhooks.queue (delivery_id, event_id, endpoint_id, due_at)
		VALUES (gen_random_uuid(), '$lost', '$missing', now()) RETURNING delivery_id});
	my @events = map { dispatch($node, 'missing', $payload) } 1 .. 10;
	$receiver->wait_for_requests(10, 30, '/x/missing/ok');
	wait_until(sub { is_put_off($lost_delivery) }, 'the row without an event to be put off');
	push @events, dispatch($node, 'missing', $payload);
	$receiver->wait_for_requests(11, 30, '/x/missing/ok');
	is_deeply([ map { requests_of($_, '/x/missing/ok') } @events ], [ map { 1 } @events ], 'its neighbours are sent, once');
	is(scalar(log_lines($node, qr/\Q$lost_delivery\E/)), 1, 'the log names it');
}

# A result that cannot be recorded

# One of them tells in its answer what it was sent: the failing row would be a detail of the error.
value($node, qq{ALTER TABLE webhooks.attempts ADD CONSTRAINT no_teapots
	CHECK (status_code <> 418 AND response_body NOT LIKE '%$echoed_marker%') NOT VALID});
my @teapots = split /\n/,
  value($node, sprintf q{SELECT webhooks.dispatch('teapot', '%s') FROM generate_series(1, %d)}, $payload, ROUNDS);
$receiver->wait_for_requests(ROUNDS, 30, "/x/$_") for 'token-4714-marker/status/418', 'echo/echo-headers', 'again/by-id/418,200';
wait_until(
	sub { value($node, q{SELECT count(*) FROM webhooks.delivery_log WHERE event_type = 'teapot' AND outcome = 'succeeded'}) == ROUNDS * 5 },
	'the neighbours to be recorded', NEIGHBOUR_SECONDS);
is(value($node, q{SELECT count(*) FROM webhooks.delivery_log WHERE event_type = 'teapot'}), ROUNDS * 5, 'the neighbours are recorded, once each');

# What the worker does with the rest of the queue in the meantime: a slow look or two and another try
# to record, after which what is stuck would be sent again if it ever were.
my $failures = log_lines($node, qr/recording attempts failed/);
cmp_ok($failures, '>', 0, 'the failure is in the log');
wait_until(sub { log_lines($node, qr/recording attempts failed/) >= $failures + 3 * ROUNDS }, 'another try to record', 60);
my $event_id = dispatch($node, 'small', $payload);
wait_for_state_of($event_id, 2);

is_deeply([ map { requests_of($_, '/x/token-4714-marker/status/418') } @teapots ], [ map { 1 } @teapots ],
	'what could not be recorded is not sent again');
is_deeply([ map { requests_of($_, '/x/again/by-id/418,200') } @teapots ], [ map { 1 } @teapots ],
	'nor is what should be retried after it');
is_deeply([ map { requests_of($_, '/x/echo/echo-headers') } @teapots ], [ map { 1 } @teapots ], 'nor is what was a success');
is_deeply([ map { requests_of($_, '/x/good1/ok') } @teapots ], [ map { 1 } @teapots ], 'nor are the neighbours');
is(value($node, q{SELECT count(*) FROM webhooks.queue q JOIN webhooks.events e USING (event_id) WHERE event_type = 'teapot'}),
	3 * ROUNDS, 'their rows stay queued');

# What all deliveries of an event came to.
sub wait_for_state_of
{
	my ($event, $count) = @_;
	wait_until(
		sub { value($node, "SELECT count(*) FROM webhooks.dispatch_status('$event') WHERE state = 'succeeded'") == $count },
		"$count deliveries of $event");
	return;
}

# Repaired, everything goes on

value($node, 'ALTER TABLE webhooks.attempts DROP CONSTRAINT no_teapots');
value($node, qq{UPDATE webhooks.events SET payload = '$payload' WHERE event_id = '$unreadable'});
value($node, qq{
	INSERT INTO webhooks.events SELECT '$lost', '', 'missing', '$payload', now(), now();
	UPDATE webhooks.queue SET due_at = now() WHERE delivery_id = '$lost_delivery'});
value($node, "SELECT webhooks.replay_delivery(delivery_id) FROM webhooks.dispatch_status('$unreadable')");
wait_until(sub { queue_is_empty($node) }, 'the queue to be empty', 60);

is(value($node, q{SELECT count(*) FROM webhooks.dead_letters WHERE reason = 'permanent' AND last_status_code = 418}), ROUNDS,
	'what could not be recorded is recorded now');
is_deeply([ map { requests_of($_, '/x/token-4714-marker/status/418') } @teapots ], [ map { 1 } @teapots ], 'without being sent again');
is_deeply([ map { requests_of($_, '/x/again/by-id/418,200') } @teapots ], [ map { 2 } @teapots ], 'and the retries are made');
is(requests_of($lost, '/x/missing/ok'), 1, 'the row whose event came after it is sent');
is(requests_of($unreadable, "/x/reader$_/ok"), 1, "reader $_: what could not be read is sent when it can be and is replayed") for 1, 2;

# An endpoint that cannot be read, with much in its queue

{
	my $broken = register('/x/broken/ok', 'broken');
	value($node, "UPDATE webhooks.endpoint_secrets SET secret = 'whsec_broken-4713-marker' WHERE endpoint_id = '$broken'");
	value($node, "SELECT count(webhooks.dispatch('broken', '$payload')) FROM generate_series(1, 300)");
	$receiver->wait_for_requests(300 + ROUNDS + 1, 30, "/x/good$_/ok") for 1 .. 5;
	wait_until(sub { log_lines($node, qr/cannot be decoded/) }, 'the broken endpoint to be tried');
	is(scalar $receiver->requests('/x/broken/ok'), 0, 'nothing is sent unsigned');
	is(value($node, "SELECT count(*) FROM webhooks.queue WHERE endpoint_id = '$broken'"), 300, 'and nothing is lost');

	# It cannot become readable by being read again at once: a worker that tries in a circle does so hundreds of times.
	ok(eval {
			wait_until(
				sub {
					my $tried = log_lines($node, qr/fetching deliveries failed/);
					wait_for_state_of(dispatch($node, 'small', $payload), 2) for 1 .. 3;
					return log_lines($node, qr/fetching deliveries failed/) - $tried < 10;
				},
				'the worker to let it be', 10);
		},
		'the worker does not try in a circle');

	value($node, "SELECT webhooks.rotate_secret('$broken')");
	wait_until(sub { queue_is_empty($node) }, 'the queue to be empty', 60);
	is(scalar @{ [ $receiver->requests('/x/broken/ok') ] }, 300, 'with a new secret all of it is delivered');
}

is_deeply([ worker_pids($node) ], [$worker], 'all this time it was the same worker');

my $log = slurp_file($node->logfile);
ok(index($log, $payload_marker) < 0, 'no payload is in the log');
ok(index($log, '4714-marker') < 0,   'nor is a URL, which may hold a token');
ok(index($log, $header_marker) < 0,  'nor is a header');
ok(index($log, $echoed_marker) < 0,  'nor is one that a receiver says back');
is(scalar(grep { index($log, substr $_, 6) >= 0 } @secrets), 0, 'nor is a secret');
ok(index($log, '4713-marker') < 0, 'not even a broken one');
is_deeply([ crashes($node) ], [], 'nothing crashed');

$node->stop;
done_testing();
