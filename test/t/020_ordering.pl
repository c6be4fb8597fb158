
# Ordered deliveries arrive in the order in which they were committed: also when several sessions dispatch at once, over retries, and
# when the worker dies.

use strict;
use warnings;

use IPC::Run;
use Test::More;
use WebhooksTest;

use constant {
	SESSIONS => 4,
	EVENTS   => 40,		# of each session
	KEYS     => 3,
	MANY     => 40_000,	# rows: they are passed over in turns of at most 4096
	LOOK_SECONDS => 5,	# between two looks of the worker
};

my $node = start_node(conf => { restart_after_crash => 'on', track_commit_timestamp => 'on', 'webhooks.retry_jitter' => 0 });
my $receiver = start_receiver();

# Each event in a transaction of its own, with a row that tells its place among the commits.
value($node, q{
	CREATE TABLE committed (event_id uuid, key text);
	CREATE PROCEDURE dispatch_many(type text, events int, keys int) LANGUAGE plpgsql AS $$
	DECLARE
		k text;
	BEGIN
		FOR i IN 1 .. events LOOP
			k := CASE WHEN keys > 0 THEN 'k' || floor(random() * keys) END;
			INSERT INTO committed VALUES (webhooks.dispatch(type, jsonb_build_object('key', k), ordering_key => k), k);
			COMMIT;
		END LOOP;
	END $$});

sub dispatch_from_sessions
{
	my ($type, $keys) = @_;
	my @sessions = map {
		IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'),
			'-c', sprintf("CALL dispatch_many('%s', %d, %d)", $type, EVENTS, $keys) ])
	} 1 .. SESSIONS;
	return map { $_->finish ? 1 : 0 } @sessions;
}

sub wait_for_empty_queue { wait_until(sub { queue_is_empty($node) }, 'an empty queue', 120); return; }

sub commit_order
{
	my ($where) = @_;
	return map { $_->{event_id} } rows($node, "SELECT event_id FROM committed WHERE $where ORDER BY pg_xact_commit_timestamp(xmin)");
}

sub received
{
	my ($path) = @_;
	return map { $_->{headers}{'webhook-id'} } $receiver->requests($path);
}

# The list without what repeats the entry before it.
sub without_repeats
{
	my @list = @_;
	return @list[ grep { $_ == 0 || $list[$_] ne $list[ $_ - 1 ] } 0 .. $#list ];
}

# An endpoint with all of its events in order

{
	register_endpoint($node, $receiver->url('/x/all/ok'), event_types => q('{all}'), ordering => q('endpoint'));
	is_deeply([ dispatch_from_sessions('all', 0) ], [ (1) x SESSIONS ], 'sessions that dispatch at once do not fail');
	wait_for_empty_queue();
	is_deeply([ received('/x/all/ok') ], [ commit_order('true') ], 'what several sessions dispatch arrives in the order of the commits');
	value($node, 'TRUNCATE committed');
}

# One in order for each key

{
	register_endpoint($node, $receiver->url('/x/keys/ok'), event_types => q('{keys}'), ordering => q('key'));
	is_deeply([ dispatch_from_sessions('keys', KEYS) ], [ (1) x SESSIONS ], 'the same with keys');
	wait_for_empty_queue();
	my %by_key;
	push @{ $by_key{ JSON::PP->new->decode($_->{body})->{data}{key} } }, $_->{headers}{'webhook-id'}
	  for $receiver->requests('/x/keys/ok');
	is(scalar keys %by_key, KEYS, 'all keys came');
	is_deeply($by_key{$_}, [ commit_order("key = '$_'") ], "key $_ arrives in the order of the commits") for sort keys %by_key;
	value($node, 'TRUNCATE committed');
}

# Over retries: what waits for its retry holds back what is behind it, and only that

{
	my $path = '/by-id/503,503,200';
	register_endpoint($node, $receiver->url("/x/retry$path"), event_types => q('{retry}'), ordering => q('key'),
		retry_schedule => q('{300ms,300ms,300ms}'));
	my @dispatched = split /\n/, value($node, q{
		SELECT webhooks.dispatch('retry', '{}', ordering_key => k) FROM generate_series(1, 3), unnest('{a,b,NULL}'::text[]) k});
	my @events = @dispatched[ grep { $_ % 3 < 2 } 0 .. $#dispatched ];
	my @unordered = @dispatched[ grep { $_ % 3 == 2 } 0 .. $#dispatched ];
	wait_for_empty_queue();

	my @got = received("/x/retry$path");
	for my $key (0, 1)
	{
		my @own = @events[ grep { $_ % 2 == $key } 0 .. $#events ];
		my %own = map { $_ => 1 } @own;
		is_deeply([ grep { $own{$_} } @got ], [ map { ($_) x 3 } @own ], 'each is tried until it succeeds, then the next');
	}
	my ($second_attempt) = (grep { $got[$_] eq $events[0] } 0 .. $#got)[1];
	my %before = map { $_ => 1 } @got[ 0 .. $second_attempt ];
	ok($before{ $events[1] }, 'another key is not held back');
	is(scalar(grep { $before{$_} } @unordered), 3, 'nor are events without a key');
}

# Over the end of one: a dead letter lets the next go, and can be replayed

{
	my ($endpoint_id) = register_endpoint($node, $receiver->url('/x/dead/script/dead/404,200'), event_types => q('{dead}'), ordering => q('endpoint'));
	my @events = split /\n/, value($node, q{SELECT webhooks.dispatch('dead', '{}') FROM generate_series(1, 3)});
	wait_for_empty_queue();
	is_deeply([ received('/x/dead/script/dead/404,200') ], \@events, 'the next goes when one is given up');
	is(value($node, "SELECT webhooks.replay_failed('$endpoint_id', '-infinity')"), 1, 'a dead letter is replayed');
	wait_for_empty_queue();
	is_deeply([ received('/x/dead/script/dead/404,200') ], [ @events, $events[0] ], 'and sent');
}

# What is replayed while a later one is under way comes before those that are later still

{
	my ($endpoint_id) = register_endpoint($node, $receiver->url('/x/place/ok'), event_types => q('{place}'), ordering => q('endpoint'));
	my $first = dispatch($node, 'place', '{}');
	wait_for_empty_queue();
	kill 'STOP', $receiver->pid;	# no answer leaves it
	my @events = split /\n/, value($node, q{SELECT webhooks.dispatch('place', '{}') FROM generate_series(1, 3)});
	wait_until(sub { value($node, 'SELECT count(*) FROM webhooks.in_flight') == 1 }, 'the first of them to be under way');
	value($node, "SELECT webhooks.replay_event('$first')");
	kill 'CONT', $receiver->pid;
	wait_for_empty_queue();
	is_deeply([ received('/x/place/ok') ], [ $first, $events[0], $first, @events[ 1, 2 ] ], 'a replay takes its place among those that are queued');
}

# A backlog of one endpoint, with one of its deliveries not yet due

{
	my $later = value($node, q{SELECT webhooks.register_endpoint(}
		  . "'" . $receiver->url('/x/later/ok') . q{', '{later}', ordering => 'endpoint')}) =~ /^\(([^,]+)/ ? $1 : die;
	my @events = (
		value($node, q{SELECT webhooks.dispatch('later', '{}', deliver_at => now() + interval '1.5 s')}),
		split /\n/, value($node, q{SELECT webhooks.dispatch('later', '{}') FROM generate_series(1, 600)}));
	wait_until(sub { $receiver->requests('/x/later/ok') >= @events }, 'all of them', 60);
	is_deeply([ received('/x/later/ok') ], \@events, 'one that is put off holds back a long queue behind it');
	wait_for_empty_queue();
}

# What stands behind one that is not yet due comes right after it, and does not wait for the worker to look by itself

{
	my ($endpoint) = register_endpoint($node, $receiver->url('/x/behind/ok'), event_types => q('{behind}'), ordering => q('endpoint'));
	my ($longest, $sent) = (0, 0);
	for (1 .. 3)
	{
		dispatch($node, 'behind', '{}', deliver_at => q(now() + interval '1 s'));
		dispatch($node, 'behind', '{}');
		$receiver->wait_for_requests($sent += 2, 30, '/x/behind/ok');
		my @times = map { $_->{time} } $receiver->requests('/x/behind/ok');
		$longest = $times[-1] - $times[-2] if $times[-1] - $times[-2] > $longest;
	}
	note(sprintf 'the longest wait was %.3f s', $longest);
	cmp_ok($longest, '<', LOOK_SECONDS / 2, 'what is behind one that is not yet due comes right after it');
}

# Very many that are not to be sent stand in the way: they are passed over in turns, and not overtaken by what is behind them

{
	my $path = '/x/many/delay/0.02';
	register_endpoint($node, $receiver->url($path), event_types => q('{many}'), ordering => q('endpoint'));
	my @first = map { dispatch($node, 'many', '{"n": 0}') } 1, 2;
	wait_for_empty_queue();

	# when the second of them is done, the lane is read on
	my $replay_first = sub { value($node, "SELECT sum(webhooks.replay_event(e)) FROM unnest('{$first[0],$first[1]}'::uuid[]) e") };
	my $serve = sub {
		my ($on) = @_;
		change_settings($node, 'webhooks.enabled' => $on ? 'on' : 'off');
		wait_until(sub { !!worker_pids($node) == $on }, $on ? 'a worker' : 'no worker');
	};
	my $turns = sub { value($node, q{SELECT idx_scan FROM pg_stat_all_indexes WHERE indexrelname = 'queue_lane_idx'}) };
	my $deliver = sub {
		my $before = $turns->();
		value($node, 'CALL webhooks.deliver_due(); SELECT pg_stat_force_next_flush()');
		return $turns->() - $before;
	};
	my $session = $node->background_psql('postgres');

	# with savepoints, so that it has many transaction ids
	my $begin_and_dispatch = sprintf <<'END', MANY / 100;
BEGIN;
DO $$
BEGIN
	FOR i IN 1 .. 100 LOOP
		BEGIN
			PERFORM webhooks.dispatch('many', jsonb_build_object('n', n)) FROM generate_series((i - 1) * %1$d + 1, i * %1$d) n;
		EXCEPTION WHEN division_by_zero THEN
			RAISE;
		END;
	END LOOP;
END $$
END

	$serve->(0);
	$session->query_safe($begin_and_dispatch);
	$replay_first->();
	cmp_ok($deliver->(), '>=', MANY / 4096, 'what is not committed is passed over in turns');
	is_deeply([ received($path) ], [ @first, @first ], 'and what is, is sent');

	# what is deleted stays in the index for as long as somebody may see it
	my $old = $node->background_psql('postgres');
	$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM webhooks.queue');
	$session->query_safe('DELETE FROM webhooks.queue; COMMIT');
	my $event_id = dispatch($node, 'many', '{"n": 0}');
	cmp_ok($deliver->(), '>=', MANY / 4096, 'what is deleted is passed over in turns, too');
	is((received($path))[-1], $event_id, 'and what stands behind it is sent');
	$old->quit;
	value($node, 'VACUUM webhooks.queue');	# of what would be passed over first

	# committed when those before are sent and the lane is being read
	$serve->(1);
	$session->query_safe($begin_and_dispatch);
	$session->query_until(qr/ready/, <<'END');
\echo ready
DO $$
DECLARE
	done constant bigint = (SELECT count(*) FROM webhooks.attempts) + 2;
BEGIN
	FOR i IN 1 .. 10000 LOOP
		EXIT WHEN (SELECT count(*) >= done FROM webhooks.attempts)
			AND EXISTS (SELECT FROM pg_locks WHERE relation = 'webhooks.queue_lane_idx'::regclass AND pid <> pg_backend_pid());
	END LOOP;
END $$;
COMMIT;
END
	$replay_first->();
	my @numbers = map { JSON::PP->new->decode($_->{body})->{data}{n} } $receiver->wait_for_requests(57, 60, $path);
	$session->quit;
	value($node, 'DELETE FROM webhooks.queue');
	is_deeply([ @numbers[ 7 .. 56 ] ], [ 1 .. 50 ], 'committed while they are passed over, they are sent in their order');
}

# Over the worker's death

{
	register_endpoint($node, $receiver->url('/x/killed/delay/0.01'), event_types => q('{killed}'), ordering => q('endpoint'));
	my @events = split /\n/, value($node, q{SELECT webhooks.dispatch('killed', '{}') FROM generate_series(1, 100)});
	for my $enough (20, 50)
	{
		$receiver->wait_for_requests($enough, 30, '/x/killed/delay/0.01');
		my ($pid) = worker_pids($node);
		kill 'KILL', $pid if $pid;
		wait_until(sub { eval { value($node, 'SELECT 1') } }, 'the server to come back', 60);
	}
	wait_until(sub { eval { queue_is_empty($node) } }, 'an empty queue', 60);
	is_deeply([ without_repeats(received('/x/killed/delay/0.01')) ], \@events, 'a delivery repeated after a crash is repeated in its place');
}

$node->stop;
done_testing();
