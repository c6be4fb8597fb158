
# An event is sent once its transaction has committed, and never otherwise: whatever the way in
# which it committed or did not. What arrives is signed over the very bytes that arrive.

use strict;
use warnings;

use JSON::PP;
use Test::More;
use WebhooksTest;

my $uuid = qr/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

my $node     = start_node(conf => { max_prepared_transactions => 10, 'webhooks.max_payload_size' => '4MB' });
my $receiver = start_receiver();
my ($endpoint_id, $secret) = register_endpoint($node, $receiver->url('/ok'));

like($endpoint_id, $uuid, 'an endpoint has a UUIDv7');
like($secret, qr{^whsec_[A-Za-z0-9+/]{43}=$}, 'a generated secret is 32 bytes');

# Waits for the event's request, and gives it.
sub delivered
{
	my ($event_id, $timeout) = @_;
	my $requests;
	wait_until(sub { $requests = $receiver->by_webhook_id->{$event_id} }, "event $event_id at the receiver", $timeout);
	return $requests->[0];
}

# True when nothing of the event was sent, nor is left in the database. An event dispatched
# afterwards overtakes nothing, so when that one is in, the other had its chance.
sub left_no_trace
{
	my ($event_id, $what) = @_;
	delivered(dispatch($node, 'order.later', '{}'));
	is($receiver->by_webhook_id->{$event_id}, undef, "$what: nothing is sent");
	for my $table (qw(events queue attempts dead_letters))
	{
		is(value($node, "SELECT count(*) FROM webhooks.$table WHERE event_id = '$event_id'"),
			0, "$what: nothing in $table");
	}
	return;
}

# Commit

my $event_id = dispatch($node, 'order.created', '{"id": 7, "name": "Zoë ✓ \u0001 \"q\" \\\\", "amount": 1.10, "big": 12345678901234567890}');
like($event_id, $uuid, 'an event has a UUIDv7');

my $request = delivered($event_id);
my %header = %{ $request->{headers} };
is($request->{method}, 'POST', 'the method');
is($request->{target}, '/ok', 'the path');
is($header{'webhook-id'}, $event_id, 'webhook-id is the event');
cmp_ok(abs($header{'webhook-timestamp'} - $request->{time}), '<', 10, 'webhook-timestamp is now');
like($header{'webhook-signature'}, qr{^v1,[A-Za-z0-9+/]{43}=$}, 'there is one signature');
like($header{'content-type'}, qr{^application/json\b}, 'the content type');
ok(length $header{'user-agent'}, 'the sender tells its name');
is($header{'content-length'}, $request->{body_length}, 'the length is announced');
ok(!exists $header{expect}, 'no round trip is spent on asking for leave to send the body');
ok(!exists delivered(value($node, q{SELECT webhooks.dispatch('order.created', jsonb_build_object('text', repeat('x', 2000000)))}))->{headers}{expect}, 'nor with a large one');
ok(verify_signature($request, $secret), 'the signature is over the received bytes');

{
	my %changed = (%$request, body => "$request->{body} ");
	ok(!verify_signature(\%changed, $secret), 'and over nothing else');
}

my $body = JSON::PP->new->decode($request->{body});
is_deeply([ sort keys %$body ], [qw(data timestamp type)], 'the body has type, timestamp, data');
is($body->{type}, 'order.created', 'the type');
like($body->{timestamp}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)$/, 'the timestamp is ISO 8601 in UTC');
is($body->{data}{name}, "Zo\x{eb} \x{2713} \x{01} \"q\" \\", 'text comes through whole');
like($request->{body}, qr/1\.10\b/,             'numbers keep their digits');
like($request->{body}, qr/12345678901234567890\b/, 'big ones too');

my $status = wait_for_state($node, $event_id, 'succeeded');
is($status->{attempts},         1,            'dispatch_status counts the attempt');
is($status->{last_status_code}, 200,          'and has its status');
is($status->{endpoint_id},      $endpoint_id, 'and the endpoint');
is($status->{error_class},      undef,        'and no error');

# Not before the commit: the event is still unsent after another one, dispatched later, was sent

{
	my $session = $node->background_psql('postgres');
	$session->query_safe('BEGIN');
	my $open = $session->query_safe(q{SELECT webhooks.dispatch('order.created', '{"n": 1}')});
	delivered(dispatch($node, 'order.later', '{}'));
	is($receiver->by_webhook_id->{$open}, undef, 'before the commit nothing is sent');
	$session->query_safe('COMMIT');
	ok(verify_signature(delivered($open), $secret), 'at the commit it is');
	$session->quit;
}

# Rollback

left_no_trace(value($node, q{BEGIN; SELECT webhooks.dispatch('order.created', '{}'); ROLLBACK;}), 'rollback');

{
	my ($result, $stdout) =
	  $node->psql('postgres', q{BEGIN; SELECT webhooks.dispatch('order.created', '{}'); SELECT 1/0; COMMIT;});
	left_no_trace((split /\n/, $stdout)[0], 'error');
}

# Savepoints

{
	my ($kept, $undone, $released, $lost) = split /\n/, value($node, q{
		BEGIN;
		SELECT webhooks.dispatch('order.created', '{"n": "kept"}');
		SAVEPOINT a;
		SELECT webhooks.dispatch('order.created', '{"n": "undone"}');
		ROLLBACK TO a;
		SAVEPOINT b;
		SELECT webhooks.dispatch('order.created', '{"n": "released"}');
		RELEASE b;
		SAVEPOINT c;
		SAVEPOINT d;
		SELECT webhooks.dispatch('order.created', '{"n": "released, then undone"}');
		RELEASE d;
		ROLLBACK TO c;
		COMMIT;
	});
	ok(verify_signature(delivered($kept),     $secret), 'savepoints: what stands before is sent');
	ok(verify_signature(delivered($released), $secret), 'savepoints: what was released is sent');
	left_no_trace($undone, 'rollback to savepoint');
	left_no_trace($lost,   'release, then rollback of the outer savepoint');
}

# Prepared transactions: they commit in a session that did not dispatch, so no commit callback tells
# the worker, which finds the row by its own slow look around.

{
	my $undone = value($node, q{
		BEGIN; SELECT webhooks.dispatch('order.created', '{"n": "prepared"}'); PREPARE TRANSACTION 'a';});
	my $kept = value($node, q{
		BEGIN; SELECT webhooks.dispatch('order.created', '{"n": "prepared"}'); PREPARE TRANSACTION 'b';});
	delivered(dispatch($node, 'order.later', '{}'));
	is($receiver->by_webhook_id->{$kept}, undef, 'prepared: nothing is sent before the commit');
	value($node, q{ROLLBACK PREPARED 'a'});
	value($node, q{COMMIT PREPARED 'b'});
	ok(verify_signature(delivered($kept, 90), $secret), 'prepared: sent after the commit');
	left_no_trace($undone, 'rollback prepared');
}

# From a trigger

{
	value($node, q{
		CREATE TABLE orders (id int PRIMARY KEY);
		CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			PERFORM webhooks.dispatch('order.created', to_jsonb(NEW));
			RETURN NULL;
		END $$;
		CREATE TRIGGER tell AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION tell();
	});
	my $before = () = $receiver->requests;
	value($node, 'BEGIN; INSERT INTO orders SELECT generate_series(101, 103); ROLLBACK');
	value($node, 'INSERT INTO orders SELECT generate_series(1, 3)');
	my @requests = $receiver->wait_for_requests($before + 3);
	splice @requests, 0, $before;
	delivered(dispatch($node, 'order.later', '{}'));
	is_deeply(
		[ sort map { JSON::PP->new->decode($_->{body})->{data}{id} } @requests ],
		[ 1, 2, 3 ],
		'a trigger sends a request for each committed row, and for no other');
}

# Once each

{
	wait_until(sub { queue_is_empty($node) }, 'an empty queue');
	my $by_id = $receiver->by_webhook_id;
	is_deeply([ grep { @{ $by_id->{$_} } != 1 } keys %$by_id ], [], 'every event was sent exactly once');
	is(value($node, 'SELECT count(*) FROM webhooks.attempts'), scalar keys %$by_id, 'and is recorded exactly once');
	is(value($node, 'SELECT count(*) FROM webhooks.events'),   scalar keys %$by_id, 'and is there as an event');
	is(scalar(grep { $_->{malformed} } $receiver->requests), 0, 'nothing malformed was sent');
}

# Headers of the endpoint

{
	register_endpoint($node, $receiver->url('/x/headers/ok'), event_types => q('{with.headers}'),
		headers => q('{"X-Api-Key": "k 1: 2", "X-Empty": ""}'));
	dispatch($node, 'with.headers', '{}');
	my ($request) = $receiver->wait_for_requests(1, 30, '/x/headers/ok');
	my $with_headers = $request->{headers};
	is($with_headers->{'x-api-key'}, 'k 1: 2', "an endpoint's own headers are sent");
	is($with_headers->{'x-empty'}, '', 'an empty one too');
}

$node->stop;
done_testing();
