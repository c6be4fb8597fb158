
# A worker that has nothing to do is woken by the commit that gives it something, and by the time for which a delivery was put
# off; it does not find them by looking now and then.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time);
use WebhooksTest;

use constant {
	LOOK_SECONDS => 5,		# between two of the worker's looks at the whole queue
	EVENTS       => 20,
};

my $node     = start_node(conf => { max_prepared_transactions => 10 });
my $receiver = start_receiver();
register_endpoint($node, $receiver->url('/ok'));
my $session = $node->background_psql('postgres');

sub request_of
{
	my ($event_id, $timeout) = @_;
	my $requests;
	wait_until(sub { $requests = $receiver->by_webhook_id->{$event_id} }, "event $event_id", $timeout);
	return $requests->[0];
}

request_of($session->query_safe(q{SELECT webhooks.dispatch('first', '{}')}));

# Commit: were they found by looking, each would wait for half a look's period, on average.

{
	my $started = time;
	for (1 .. EVENTS)
	{
		my $event_id = $session->query_safe(q{SELECT webhooks.dispatch('now', '{}')});
		wait_until(sub { queue_is_empty($node) }, 'the worker to be idle');
		request_of($event_id);
	}
	my $took = time - $started;
	note(sprintf '%d events one after another took %.2f s', EVENTS, $took);
	cmp_ok($took, '<', EVENTS * LOOK_SECONDS / 5, 'each commit wakes the worker');
}

# A commit within a procedure, while the statement that called it goes on

{
	value($node, q{
		CREATE PROCEDURE dispatch_and_wait() LANGUAGE plpgsql AS $$
		BEGIN
			PERFORM webhooks.dispatch('procedure', '{"n": 1}');
			COMMIT;
			PERFORM pg_advisory_xact_lock(1);
			PERFORM webhooks.dispatch('procedure', '{"n": 2}');
		END $$});
	$session->query_safe('SELECT pg_advisory_lock(1)');
	my $other = $node->background_psql('postgres');
	my $before = $receiver->count;
	$other->query_until(qr/started/, "\\echo started\nCALL dispatch_and_wait();\n");
	$receiver->wait_for_requests($before + 1);
	is($receiver->count, $before + 1, 'a commit within a procedure is enough');
	$session->query_safe('SELECT pg_advisory_unlock(1)');
	$receiver->wait_for_requests($before + 2);
	$other->quit;
}

# Rollback

{
	my $event_id = $session->query_safe(q{BEGIN; SELECT webhooks.dispatch('never', '{}'); ROLLBACK});
	my $later = $session->query_safe(q{SELECT webhooks.dispatch('now', '{}')});
	request_of($later);
	is($receiver->by_webhook_id->{$event_id}, undef, 'a rollback sends nothing');
}

# deliver_at, in the reverse order, and on an endpoint that has other things due

{
	my %due;
	for my $wait (1.5, 1, 0.5)
	{
		my ($event_id, $at) = split /\|/, $session->query_safe(qq{
			WITH t AS (SELECT now() + interval '$wait s' AS at)
			SELECT webhooks.dispatch('later', '{}', deliver_at => at), extract(epoch FROM at) FROM t});
		$due{$event_id} = { at => $at, wait => $wait };
		$session->query_safe(q{SELECT webhooks.dispatch('now', '{}')});
	}
	for my $event_id (sort { $due{$a}{at} <=> $due{$b}{at} } keys %due)
	{
		my $late = request_of($event_id)->{time} - $due{$event_id}{at};
		cmp_ok($late, '>=', 0, "a delivery put off by $due{$event_id}{wait} s is not sent before");
		cmp_ok($late, '<', LOOK_SECONDS / 2, 'nor much later');
	}
	my $past = $session->query_safe(q{SELECT webhooks.dispatch('past', '{}', deliver_at => now() - interval '1 day')});
	ok(request_of($past), 'a time in the past is now');
}

# Retries come at their time, too

{
	my ($endpoint_id) = register_endpoint($node, $receiver->url('/by-id/503,503,200'), event_types => q('{retry}'), retry_schedule => q('{300ms,300ms}'));
	my $event_id = $session->query_safe("SELECT webhooks.dispatch('retry', '{}', endpoint_ids => '{$endpoint_id}')");
	my @requests = $receiver->wait_for_requests(3, 30, '/by-id/503,503,200');
	cmp_ok($requests[$_]{time} - $requests[ $_ - 1 ]{time}, '>=', 0.3, "retry $_ waits") for 1, 2;
	cmp_ok($requests[2]{time} - $requests[0]{time}, '<', LOOK_SECONDS / 2, 'and no longer');
}

# What no commit tells of, the look finds

{
	my $event_id = $session->query_safe(q{BEGIN; SELECT webhooks.dispatch('prepared', '{}'); PREPARE TRANSACTION 'a'});
	$session->query_safe(q{COMMIT PREPARED 'a'});
	ok(request_of($event_id, 60), 'a prepared transaction');
	$event_id = $session->query_safe(q{SELECT webhooks.dispatch('by hand', '{}', deliver_at => now() + interval '1 day')} =~ s/by hand/by_hand/r);
	$session->query_safe("UPDATE webhooks.queue SET due_at = now() WHERE event_id = '$event_id'");
	ok(request_of($event_id, 60), 'a time that was changed by hand');
}

$session->quit;
is_deeply([ crashes($node) ], [], 'nothing crashed');
$node->stop;
done_testing();
