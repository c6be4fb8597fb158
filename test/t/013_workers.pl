
# Workers come and go, by a reload, by a signal, with the server and with their launcher, while deliveries
# run: each delivery is sent, and none is sent twice.

use strict;
use warnings;

use Test::More;
use WebhooksTest;

use constant {
	ENDPOINTS    => 40,
	EVENTS       => 25,		# of one wave: 1,000 deliveries
	TERMINATIONS => 3,
};

# Answers come quickly, but late enough that requests are under way whenever something happens.
my $node = start_node(conf => { 'webhooks.max_in_flight_per_endpoint' => 2, 'webhooks.timeout' => '60s' });
my $receiver = start_receiver();
register_endpoint($node, $receiver->url("/x/$_/delay/0.05"), event_types => q('{wave}')) for 1 .. ENDPOINTS;
my $waves = 0;

# Dispatches a wave of deliveries, and returns when some of it has been sent.
sub start_wave
{
	my $before = $receiver->count;
	value($node, sprintf q{SELECT count(webhooks.dispatch('wave', jsonb_build_object('n', n))) FROM generate_series(1, %d) n}, EVENTS);
	$waves++;
	wait_until(sub { $receiver->count >= $before + 100 }, 'the wave to begin');
	return;
}

sub check_waves
{
	my ($what) = @_;
	wait_until(sub { queue_is_empty($node) }, "$what: the queue to be empty", 60);
	my $count = $receiver->by_delivery(qr{^/x/[0-9]+/});
	is(scalar keys %$count, $waves * EVENTS * ENDPOINTS, "$what: every delivery is sent");
	is(scalar(grep { $count->{$_} > 1 } keys %$count), 0, "$what: none is sent twice");
	is(value($node, q{SELECT count(*) FROM webhooks.delivery_log WHERE event_type = 'wave' AND outcome = 'succeeded'}), $waves * EVENTS * ENDPOINTS,
		"$what: and each is recorded");
	return;
}

# What is done to the workers is to come while there is work. On a slow machine a wave may be over before: so of several times one counts.
my $came_in_time = 0;

sub note_work
{
	$came_in_time++ unless queue_is_empty($node);
	return;
}

sub check_came_in_time
{
	my ($what) = @_;
	cmp_ok($came_in_time, '>', 0, "$what: it came while there was work");
	$came_in_time = 0;
	return;
}

# The shares that the processes hold: each as "number pid".
sub shares
{
	return split /\n/, value($node, q{
		SELECT l.objid || ' ' || l.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE l.locktype = 'advisory' AND l.objsubid = 22344 AND a.backend_type = 'webhooks worker' ORDER BY 1});
}

# Waits until just so many workers are there, none of them one of @old, and each has an equal share of the whole.
sub wait_for_workers
{
	my ($n, @old) = @_;
	my @pids;
	wait_until(
		sub {
			my %share;
			@pids = worker_pids($node);
			return 0 if @pids != $n || grep { my $pid = $_; grep { $_ == $pid } @old } @pids;
			$share{$_}++ for map { (split)[1] } shares();
			return keys %share == $n && !grep { $_ != 64 / $n } values %share;
		},
		"$n workers with an equal share each");
	return @pids;
}

# More and fewer of them

wait_for_workers(1);
for my $n (4, 2, 1)
{
	start_wave();
	note_work();
	change_settings($node, 'webhooks.workers' => $n);
	wait_for_workers($n);
}
check_came_in_time('more and fewer workers');
check_waves('more and fewer workers');

# A worker is told to end

change_settings($node, 'webhooks.workers' => 2);
my @workers = wait_for_workers(2);
for my $n (1 .. TERMINATIONS)
{
	start_wave();
	my $victim = $workers[ $n % 2 ];
	value($node, "SELECT pg_terminate_backend($victim)");
	note_work();
	@workers = wait_for_workers(2, $victim);
}
check_came_in_time('terminated workers');
check_waves('terminated workers');

# In the middle of a transaction, which here waits for a lock, while requests are under way

{
	my ($endpoint_id) = register_endpoint($node, $receiver->url('/x/told/delay/0.5'), event_types => q('{told}'));
	my $session = $node->background_psql('postgres');
	value($node, "SELECT webhooks.dispatch('told', '{}', endpoint_ids => '{$endpoint_id}')");
	$receiver->wait_for_requests(1, 30, '/x/told/delay/0.5');
	$session->query_safe('BEGIN; LOCK TABLE webhooks.events IN ACCESS EXCLUSIVE MODE');
	value($node, "SELECT webhooks.pause_endpoint('$endpoint_id')");
	value($node, "SELECT webhooks.resume_endpoint('$endpoint_id')");
	my $victim = wait_until(
		sub { value($node, q{SELECT a.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND a.backend_type = 'webhooks worker' LIMIT 1}) },
		'the worker to wait for the lock');
	value($node, "SELECT pg_terminate_backend($victim)");
	wait_until(sub { !grep { $_ == $victim } worker_pids($node) }, 'the worker to end');
	$session->query_safe('COMMIT');
	$session->quit;
	@workers = wait_for_workers(2, $victim);
	wait_until(sub { queue_is_empty($node) }, 'the delivery to be recorded', 60);
	is(scalar @{ [ $receiver->requests('/x/told/delay/0.5') ] }, 1, 'told to end within a transaction, the worker still records what it sent');
	value($node, "SELECT webhooks.remove_endpoint('$endpoint_id')");
}

# The launcher is

{
	my $launcher_query = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'webhooks launcher'};
	my $launcher = value($node, $launcher_query);
	start_wave();
	value($node, "SELECT pg_terminate_backend($launcher)");
	wait_until(sub { my $now = value($node, $launcher_query); $now && $now ne $launcher }, 'another launcher');
	@workers = wait_for_workers(2, @workers);
}
start_wave();
check_waves('terminated launcher');

# The server restarts

for my $n (1, 2)
{
	start_wave();
	$node->restart;
	note_work();
	wait_for_workers(2, @workers);
}
check_came_in_time('restarts');
check_waves('restarts');

# Off and on

{
	start_wave();
	change_settings($node, 'webhooks.enabled' => 'off');
	wait_until(sub { !worker_pids($node) }, 'the workers to go');
	note_work();
	my $sent = $receiver->count;
	value($node, sprintf q{SELECT count(webhooks.dispatch('wave', '{}')) FROM generate_series(1, %d)}, EVENTS);
	$waves++;
	is($receiver->count, $sent, 'off: nothing is sent');
	change_settings($node, 'webhooks.enabled' => 'on');
	wait_for_workers(2);
	check_came_in_time('off');
	check_waves('off and on');
}

# Sessions that deliver by hand: while workers run, and while they come back and want what the session has

{
	my @sessions = map { $node->background_psql('postgres') } 1 .. 3;
	start_wave();
	$_->query_until(qr/started/, "\\echo started\nCALL webhooks.deliver_due();\n") for @sessions;
	start_wave();
	$_->query_safe('SELECT 1') for @sessions;
	check_waves('deliver_due beside workers');

	change_settings($node, 'webhooks.enabled' => 'off');
	wait_until(sub { !worker_pids($node) }, 'the workers to go');
	my $before = $receiver->count;
	value($node, sprintf q{SELECT count(webhooks.dispatch('wave', '{}')) FROM generate_series(1, %d)}, EVENTS);
	$waves++;
	$sessions[0]->query_until(qr/started/, "\\echo started\nCALL webhooks.deliver_due(500);\n");
	wait_until(sub { $receiver->count >= $before + 100 }, 'the session to begin');
	change_settings($node, 'webhooks.enabled' => 'on');
	$sessions[1]->query_until(qr/started/, "\\echo started\nCALL webhooks.deliver_due(500);\n");
	check_waves('workers that come beside deliver_due');
	$_->quit for @sessions;
	wait_for_workers(2);
}

is_deeply([ crashes($node) ], [], 'nothing crashed');

$node->stop;
done_testing();
