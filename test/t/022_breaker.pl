
# An endpoint that fails for some time is left alone, save for a probe now and then: its deliveries wait and use up no attempts. Once it
# answers, all of them are delivered. Its neighbour notices nothing.

use strict;
use warnings;

use JSON::PP;
use Test::More;
use WebhooksTest;

use constant {
	FIRST  => 30,
	EVENTS => 300,
	PROBES => 2,
};

my $node = start_node(conf => { 'webhooks.max_in_flight_per_endpoint' => 100 });
my $receiver = start_receiver();
my $path = '/failing/hook';
my ($endpoint_id) = register_endpoint($node, $receiver->url($path), event_types => q('{failing}'),
	retry_schedule => q('{6s}' || array_fill('500ms'::interval, '{99}')));
my ($removed) = register_endpoint($node, $receiver->url('/x/removed/status/500'), event_types => q('{removed}'),
	retry_schedule => q('{6s}' || array_fill('500ms'::interval, '{99}')));
my ($good) = register_endpoint($node, $receiver->url('/ok'), event_types => q('{good}'));

sub wait_for_log
{
	my ($pattern) = @_;
	wait_until(sub { log_lines($node, qr/endpoint $endpoint_id $pattern/) }, "the log to tell: $pattern");
	return;
}

sub dispatch_many
{
	my ($n) = @_;
	value($node, "SELECT count(webhooks.dispatch(t, '{}')) FROM generate_series(1, $n), unnest('{failing,removed}'::text[]) t");
	return;
}

# It fails: often, and five seconds later again, when much has just been fetched for it

dispatch_many(FIRST);
wait_until(
	sub { value($node, "SELECT min(attempted_at) < now() - interval '5 s' FROM webhooks.attempts WHERE endpoint_id = '$endpoint_id'") eq 't' },
	'five seconds of failure');
dispatch_many(EVENTS - FIRST);
wait_for_log('fails; probing it until it answers');

# It is seen by sessions, save by another tenant's.
my @open = rows($node, "SELECT *, since <= now() AS since_ok, next_probe_at > since AS next_ok FROM webhooks.endpoint_breakers WHERE endpoint_id = '$endpoint_id'");
is_deeply([ map { [ @{$_}{qw(endpoint_id worker_pid since_ok)} ] } @open ], [ [ $endpoint_id, worker_pids($node), JSON::PP::true ] ], 'one breaker is open');
like($open[0]{state}, qr/^(open|probing)$/, 'with its state');
ok($open[0]{state} eq 'probing' ? !defined $open[0]{next_probe_at} : $open[0]{next_ok}, 'and its next probe');
is(value($node, "SET webhooks.tenant_id = 'another'; SELECT count(*) FROM webhooks.endpoint_breakers"), 0, 'another tenant does not see it');

# What was under way has its answer before the first probe may go.
my $in_flight = "SELECT count(*) FROM webhooks.in_flight WHERE endpoint_id = '$endpoint_id'";
wait_until(sub { value($node, $in_flight) == 0 }, 'no request under way');
my $before = @{ [ $receiver->requests($path) ] };
cmp_ok($before, '>=', FIRST, 'failures in a short time are not enough');

# The log tells to the millisecond when that was; a probe comes two seconds later.
my ($opened) = map { /^(\S+ \S+ \S+)/ } log_lines($node, qr/endpoint $endpoint_id fails/);
is(value($node, "SELECT count(*) FROM webhooks.attempts WHERE endpoint_id = '$endpoint_id'"
		. " AND attempted_at BETWEEN timestamptz '$opened' + interval '1 ms' AND timestamptz '$opened' + interval '1 s'"),
	0, 'then nothing more is sent');

my $event_id = dispatch($node, 'good', '{}');
wait_for_state($node, $event_id, 'succeeded');
pass('a neighbour is delivered to');

my @requests = $receiver->wait_for_requests($before + PROBES, 60, $path);
my @probes = @requests[ $before .. $#requests ];
is(scalar(grep { $_->{in_flight}{path} > 1 } @probes), 0, 'probes are sent one at a time');
is(scalar(grep { $probes[$_]{time} - $probes[ $_ - 1 ]{time} < 2 } 1 .. $#probes), 0, 'with time between them');
is(value($node, "SELECT count(*) FROM webhooks.queue WHERE endpoint_id = '$endpoint_id'"), EVENTS, 'all deliveries are still queued');

# Late as they are, nothing is wrong on this side; which endpoint holds them back is remarked.
my ($health) = map { [ split /\|/ ] } value($node, "BEGIN; UPDATE webhooks.queue SET due_at = due_at - interval '1 hour' WHERE endpoint_id = '$endpoint_id';"
	  . q{SELECT h.ok, m.value, h.oldest_due > '59 minutes', h.reason FROM webhooks.health() h, webhooks.metrics() m WHERE m.name = 'webhooks_up'; ROLLBACK});
is_deeply([ @$health[ 0 .. 2 ] ], [ 't', 1, 't' ], 'health finds all well');
like($health->[3], qr/^deliveries to endpoint $endpoint_id have waited for up to .* because it does not answer/, 'and says what waits');

# It answers

$receiver->get('/mend/hook');

# An endpoint that is removed is gone at once, whatever is under way to it, and a moment later from the worker's memory.
is(value($node, "SELECT count(*) FROM webhooks.endpoint_breakers WHERE endpoint_id = '$removed'"), 1, 'another breaker is open');
value($node, "SELECT webhooks.remove_endpoint('$removed')");
is(value($node, "SELECT count(*) FROM webhooks.endpoint_breakers WHERE endpoint_id = '$removed'"), 0, 'a removed endpoint has no breaker');
wait_until(sub { value($node, "SELECT count(*) FROM webhooks.endpoint_breakers() WHERE endpoint_id = '$removed'") == 0 }, 'the worker to forget it');
pass('nor does the worker keep it');

wait_for_log('answers again');
is(value($node, 'SELECT count(*) FROM webhooks.endpoint_breakers'), 0, 'no breaker is open any more');
wait_until(sub { queue_is_empty($node) }, 'all to be delivered', 60);
is(value($node, "SELECT count(*) FROM webhooks.deliveries WHERE endpoint_id = '$endpoint_id' AND state = 'succeeded'"), EVENTS,
	'answering again, it gets all that waited');

my $made = $receiver->by_delivery($path);
my %counted = map { ("$_->{event_id} $path" => $_->{attempts}) }
  rows($node, "SELECT event_id, max(attempt) AS attempts FROM webhooks.attempts WHERE endpoint_id = '$endpoint_id' GROUP BY event_id");
is_deeply(\%counted, $made, 'each counts the attempts that were made, and no more');

is(scalar @{ [ log_lines($node, qr/endpoint $endpoint_id (fails|answers)/) ] }, 2, 'the log tells of it twice');
is_deeply([ crashes($node) ], [], 'nothing crashed');
$node->stop;
done_testing();
