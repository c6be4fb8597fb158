
# dispatch_to_urls: what becomes of each target is told for each, whatever fails; requests are signed with the key that was named, or not
# at all; a target has the limits of an endpoint.

use strict;
use warnings;

use Test::More;
use WebhooksTest;

my $ca = make_test_ca();
my $node = start_node(conf => { 'webhooks.ca_file' => $ca->{ca}, 'webhooks.max_in_flight_per_endpoint' => 2, 'webhooks.retry_jitter' => 0 });
my $receiver = start_receiver();
my $secure = start_receiver(tls => $ca->{server});
my $impostor = start_receiver(tls => $ca->{wrong_name});

# The first partitions are made: what moves into one meanwhile cannot be read for a moment.
register_endpoint($node, $receiver->url('/x/nobody/ok'), event_types => q('{nobody}'));
wait_until(sub { value($node, q{SELECT count(*) FROM pg_inherits WHERE inhparent IN ('webhooks.events'::regclass, 'webhooks.attempts'::regclass)}) >= 18 }, 'partitions');

sub dispatch_to_urls
{
	my ($targets, %argument) = @_;
	my $arguments = join '', map { ", $_ => $argument{$_}" } sort keys %argument;
	return value($node, sprintf "SELECT webhooks.dispatch_to_urls('t', '{\"a\": 1}', ARRAY['%s'] %s)", join("', '", @$targets), $arguments);
}

sub wait_for_end
{
	my ($event_id) = @_;
	wait_until(sub { value($node, "SELECT count(*) FROM webhooks.queue WHERE event_id = '$event_id'") == 0 }, 'all targets to be done with');
	return { map { ($_->{url} => [ @$_{qw(state error_class last_status_code attempts)} ]) } rows($node, "SELECT * FROM webhooks.dispatch_status('$event_id')") };
}

# A result for each target

my %expected = (
	$receiver->url('/x/results/ok')         => [ 'succeeded',   undef,      200,   1 ],
	$secure->url('/x/results/ok', 'localhost') => [ 'succeeded', undef,     200,   1 ],
	'https://nowhere.invalid/'              => [ 'dead_letter', 'dns',      undef, 1 ],
	'http://127.0.0.1:1/'                   => [ 'dead_letter', 'connect',  undef, 1 ],
	$impostor->url('/x/results/ok', 'localhost') => [ 'dead_letter', 'tls', undef, 1 ],
	$receiver->url('/x/results/status/404') => [ 'dead_letter', 'status',   404,   1 ],
	$receiver->url('/x/results/status/410') => [ 'dead_letter', 'status',   410,   1 ],
	$receiver->url('/x/results/status/503') => [ 'dead_letter', 'status',   503,   1 ],
	$receiver->url('/redirect?to=http://127.0.0.1/') => [ 'dead_letter', 'redirect', 302, 1 ],
);
my $event_id = dispatch_to_urls([ sort keys %expected ]);
is_deeply(wait_for_end($event_id), \%expected, 'each target has its result');
my ($request) = $receiver->requests('/x/results/ok');
is($request->{headers}{'webhook-id'}, $event_id, 'the request has the id');
like($request->{headers}{'webhook-timestamp'}, qr/^[0-9]+$/, 'and a timestamp');
ok(!exists $request->{headers}{'webhook-signature'}, 'without a key it has no signature');
is(value($node, q{SELECT count(*) FROM webhooks.endpoints WHERE state <> 'active'}), 0, '410 disables no target');
is_deeply(wait_for_end(dispatch_to_urls([ $receiver->url('/x/results/status/410') ])), { $receiver->url('/x/results/status/410') => [ 'dead_letter', 'status', 410, 1 ] },
	'who names it again gets the same result');

# Retries, when they are asked for

is_deeply(wait_for_end(dispatch_to_urls([ $receiver->url('/x/retry/by-id/503,503,200') ], retry_schedule => q('{0,0}'))),
	{ $receiver->url('/x/retry/by-id/503,503,200') => [ 'succeeded', undef, 200, 3 ] }, 'it is tried again as often as the call says');

# Headers

wait_for_end(dispatch_to_urls([ $receiver->url('/x/headers/ok') ], headers => q('{"X-Job": "7", "Authorization": "Bearer key"}')));
($request) = $receiver->requests('/x/headers/ok');
is($request->{headers}{'x-job'}, '7', 'the headers of the call are sent');
is($request->{headers}{authorization}, 'Bearer key', 'with the authorization');

# Signatures

my $secret = value($node, q{SELECT webhooks.add_signing_key('key')});
wait_for_end(dispatch_to_urls([ $receiver->url('/x/signed/ok') ], signing_key_id => q('key')));
ok(verify_signature($receiver->requests('/x/signed/ok'), $secret), 'signed with the key');
value($node, q{SELECT webhooks.add_signing_key('given', 'whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=', 'T')});
wait_for_end(dispatch_to_urls([ $receiver->url('/x/given/ok') ], signing_key_id => q('given'), tenant_id => q('T')));
ok(verify_signature($receiver->requests('/x/given/ok'), 'whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE='), 'each tenant has its own');
value($node, qq{
	SELECT webhooks.dispatch_to_urls('t', '{}', ARRAY['${\ $receiver->url('/x/retired/ok') }'], signing_key_id => 'key');
	SELECT webhooks.retire_signing_key('key')});
$receiver->wait_for_requests(1, 30, '/x/retired/ok');
ok(verify_signature($receiver->requests('/x/retired/ok'), $secret), 'what was dispatched with a key that is retired then is signed with it');

# Limits and states are those of an endpoint, and kept from call to call

dispatch_to_urls([ $receiver->url('/x/limit/delay/0.3') ]) for 1 .. 6;
$receiver->wait_for_requests(6, 30, '/x/limit/delay/0.3');
is(scalar(grep { $_->{in_flight}{path} > 2 } $receiver->requests('/x/limit/delay/0.3')), 0, 'no more are in flight than to an endpoint');

my $target = sprintf "(SELECT endpoint_id FROM webhooks.endpoints WHERE url = '%s')", $receiver->url('/x/limit/delay/0.3');
value($node, "SELECT webhooks.pause_endpoint($target)");
my $held = dispatch_to_urls([ $receiver->url('/x/limit/delay/0.3') ]);
is((rows($node, "SELECT state FROM webhooks.dispatch_status('$held')"))[0]{state}, 'held', 'a paused target holds what comes');
value($node, "SELECT webhooks.remove_endpoint($target)");
is_deeply(wait_for_end(dispatch_to_urls([ $receiver->url('/x/limit/delay/0.3') ])), { $receiver->url('/x/limit/delay/0.3') => [ 'succeeded', undef, 200, 1 ] },
	'removed and named again, it is as new');

my $broken = $receiver->url('/x/broken/status/500');
value($node, "SELECT count(webhooks.dispatch_to_urls('t', '{}', ARRAY['$broken'], retry_schedule => array_fill(interval '0.2 s', ARRAY[30]))) FROM generate_series(1, 10)");
wait_until(sub { log_lines($node, qr/endpoint [0-9a-f-]+ fails; probing/) }, 'the breaker to open');
pass('a target that fails has a breaker');
value($node, "SELECT webhooks.remove_endpoint(endpoint_id) FROM webhooks.endpoints WHERE url = '$broken'");

is_deeply([ crashes($node) ], [], 'nothing crashed');
$node->stop;
done_testing();
