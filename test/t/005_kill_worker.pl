
# The worker is killed in the middle of 5,000 deliveries, twice. PostgreSQL restarts, and every
# event still arrives: none is lost, and sent twice are at most those that were under way.

use strict;
use warnings;

use Test::More;
use WebhooksTest;

use constant {
	EVENTS        => 5000,
	ENDPOINTS     => 5,
	MAX_IN_FLIGHT => 64,
	KILLS         => 2,
};

my $node = start_node(
	conf => {
		'restart_after_crash'                 => 'on',
		'webhooks.max_in_flight'              => MAX_IN_FLIGHT,
		'webhooks.max_in_flight_per_endpoint' => 32,
	});
my $receiver = start_receiver();
my %secret;

# Slow enough that there is something to interrupt, and several, so that shards matter.
for my $n (1 .. ENDPOINTS)
{
	(undef, $secret{"/x/$n/delay/0.02"}) = register_endpoint($node, $receiver->url("/x/$n/delay/0.02"), event_types => "'{kill.$n}'");
}

# As value(), but undef while the server is not there.
sub value_if_up
{
	my ($query) = @_;
	my ($result, $stdout) = $node->psql('postgres', $query);
	return defined $result && $result == 0 ? $stdout : undef;
}

# Of this database: elsewhere a worker comes up just to find no extension.
sub worker_if_up
{
	return value_if_up(q{SELECT pid FROM pg_stat_activity
		WHERE backend_type = 'webhooks worker' AND datname = current_database()}) || undef;
}

my $worker = wait_until(\&worker_if_up, 'the worker');
my @event_ids = split /\n/, value($node, sprintf
	q{SELECT webhooks.dispatch('kill.' || 1 + n %% %d, jsonb_build_object('n', n)) FROM generate_series(1, %d) n},
	ENDPOINTS, EVENTS);
is(scalar @event_ids, EVENTS, 'all events are dispatched');

for my $kill (1 .. KILLS)
{
	wait_until(sub { $receiver->count >= $kill * EVENTS / (KILLS + 2) }, "the time for kill $kill", 60);
	my $before = value($node, 'SELECT count(*) FROM webhooks.queue');
	cmp_ok($before, '>', 0, "kill $kill comes while there is work");
	is(kill('KILL', $worker), 1, "kill $kill hits the worker");
	my $killed = $worker;
	$worker = wait_until(
		sub { my $now = worker_if_up(); return $now && $now ne $killed ? $now : undef },
		"another worker after kill $kill", 60);
	isnt($worker, $killed, "after kill $kill another worker is there");
}

wait_until(sub { (value_if_up('SELECT NOT EXISTS (SELECT FROM webhooks.queue)') // '') eq 't' }, 'the queue to be empty', 120);

my $by_id = $receiver->by_webhook_id;
my @lost = grep { !$by_id->{$_} } @event_ids;
is(scalar @lost, 0, 'no event is lost') or diag("such as $lost[0]");
is(scalar keys %$by_id, EVENTS, 'and none came that was not dispatched');

my $duplicates = $receiver->count - EVENTS;
note("$duplicates duplicates");
cmp_ok($duplicates, '<=', KILLS * MAX_IN_FLIGHT, 'sent twice are at most those under way when the worker was killed');

is(scalar(grep { !verify_signature($_, $secret{ $_->{path} }) } $receiver->requests), 0, 'every request is signed');

is(value($node, 'SELECT count(DISTINCT delivery_id) FROM webhooks.attempts'), EVENTS, 'every delivery has its attempt recorded');
is(value($node, q{SELECT count(*) FROM webhooks.attempts WHERE outcome = 'succeeded'}), EVENTS, 'and succeeded once');
is(value($node, 'SELECT count(*) FROM webhooks.attempts'), EVENTS, 'with no attempt besides');
is(value($node, 'SELECT count(*) FROM webhooks.dead_letters'), 0, 'there is no dead letter');
is(value($node, 'SELECT count(*) FROM webhooks.in_flight'), 0, 'nothing is said to be in flight');

# And it works as before.
my $event_id = dispatch($node, 'kill.1', '{}');
wait_for_state($node, $event_id, 'succeeded');
is_deeply([ worker_pids($node) ], [$worker], 'the new worker goes on');

# While nobody else flushes the WAL, the worker sees to it that what it has recorded is on disk.
{
	register_endpoint($node, $receiver->url('/x/late/delay/2'), event_types => q('{late}'));
	my $walwriter = value($node, q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'});
	kill 'STOP', $walwriter;
	my $sent = dispatch($node, 'late', '{}');
	my $flushed = value($node, 'SELECT pg_current_wal_flush_lsn()');
	wait_for_state($node, $sent, 'succeeded');
	my $went_on = eval { wait_until(sub { value($node, "SELECT pg_current_wal_flush_lsn() > '$flushed'") eq 't' }, 'the flush', 30) };
	kill 'CONT', $walwriter;
	ok($went_on, 'what is recorded is flushed');
}

# Replayed before that: the slow look, which would find it, comes once in five seconds.
{
	use constant REPLAYS => 20;
	my ($endpoint_id) = register_endpoint($node, $receiver->url('/x/gone/status/404'), event_types => q('{gone}'));
	my $sent = dispatch($node, 'gone', '{}');
	is($node->safe_psql('postgres', sprintf(<<'END', $sent, REPLAYS)), REPLAYS, 'a delivery is replayed when it has just been given up');
SET synchronous_commit = off;
SET statement_timeout = '50s';
DO $$
DECLARE
	event constant uuid = '%s';
BEGIN
	FOR i IN 1 .. %d LOOP
		WHILE webhooks.replay_event(event) = 0 LOOP
			PERFORM pg_sleep(0.002);
		END LOOP;
		COMMIT;
		WHILE (SELECT count(*) FROM webhooks.attempts WHERE event_id = event) <= i LOOP
			PERFORM pg_sleep(0.002);
		END LOOP;
	END LOOP;
END $$;
SELECT count(*) - 1 FROM webhooks.attempts WHERE event_id = (SELECT event_id FROM webhooks.events WHERE event_type = 'gone');
END
}

$node->stop;
done_testing();
