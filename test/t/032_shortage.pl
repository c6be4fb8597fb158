
# A worker that runs out of file descriptors or memory sends less, says so once, loses nothing, spends
# no attempt for it, and goes on by itself when there are some again.

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;
use WebhooksTest;

use constant {
	DELIVERIES => 100,
	SPARE      => 12,		# descriptors that the worker may open yet
	LARGE      => 200_000,	# bytes of a payload
};

my $node = start_node(
	conf => {
		'webhooks.max_in_flight_per_endpoint' => DELIVERIES,
		'webhooks.retry_schedule'             => '1h',
		'webhooks.timeout'                    => '60s',
		'webhooks.response_body_limit'        => '1MB',
	});
my $receiver = start_receiver();
my $other    = start_receiver(name => 'other');
register_endpoint($node, $receiver->url('/x/many/delay/0.2'), event_types => q('{many}'));
register_endpoint($node, $receiver->url('/x/large/body/1000000'), event_types => q('{large}'));
register_endpoint($node, $other->url('/x/other/ok'),          event_types => q('{other}'));
wait_until(sub { worker_pids($node) == 1 }, 'the worker');
my ($worker) = worker_pids($node);

# The worker has what it needs at hand: PostgreSQL's files are open.
sub warm_up
{
	for my $type (qw(many other))
	{
		wait_for_state($node, dispatch($node, $type, '{}'), 'succeeded');
	}
	return;
}

sub limit_worker
{
	my ($what, $soft) = @_;
	system_or_bail('prlimit', "--pid=$worker", "--$what=$soft:");
	return;
}

sub open_descriptors
{
	opendir my $directory, "/proc/$worker/fd" or die "could not open /proc/$worker/fd: $!";
	return scalar grep { /^[0-9]+$/ } readdir $directory;
}

sub soft_limit
{
	my ($what) = @_;
	return (split ' ', (grep { /^$what/ } split /\n/, slurp_file("/proc/$worker/limits"))[0] =~ s/^$what\s+//r)[0];
}

# Everything has been delivered at its first attempt, and nothing twice.
sub check_all
{
	my ($what, $type, $n) = @_;
	wait_until(sub { queue_is_empty($node) }, "$what: an empty queue", 60);
	is(value($node, "SELECT count(*) FILTER (WHERE outcome = 'succeeded' AND attempt = 1), count(*) FROM webhooks.delivery_log WHERE event_type = '$type'"),
		"$n|$n", "$what: all are delivered at the first attempt");
	return;
}

# Descriptors

warm_up();
my $usual = soft_limit('Max open files');
cmp_ok($usual, '>=', 4096, 'the worker may open as many connections as the settings allow')
  if (split ' ', qx(sh -c 'ulimit -Hn'))[0] =~ /unlimited/ || qx(sh -c 'ulimit -Hn') >= 8192;
limit_worker('nofile', open_descriptors() + SPARE);
value($node, sprintf q{SELECT count(webhooks.dispatch('many', '{}')) FROM generate_series(1, %d)}, DELIVERIES);
wait_until(sub { log_lines($node, qr/LOG: .*requests have to wait/) }, 'the worker to run short');
$receiver->wait_for_requests(SPARE * 3, 60, '/x/many/delay/0.2');
pass('short of descriptors, some are delivered');
wait_for_state($node, dispatch($node, 'other', '{}'), 'succeeded', 60);
pass('and others that need a new connection');
limit_worker('nofile', $usual);
check_all('descriptors again', 'many', DELIVERIES + 1);
check_all('descriptors again, others', 'other', 2);
is(scalar @{ [ $receiver->requests('/x/many/delay/0.2') ] }, DELIVERIES + 1, 'none is sent twice');
is(scalar(log_lines($node, qr/LOG: .*requests have to wait/)), 1, 'one line of the log tells of it');
is_deeply([ worker_pids($node) ], [$worker], 'it is the same worker');

wait_until(
	sub {
		value($node, sprintf q{SELECT count(webhooks.dispatch('many', '{}')) FROM generate_series(1, %d)}, DELIVERIES);
		wait_until(sub { queue_is_empty($node) }, 'an empty queue', 60);
		return ($receiver->requests('/x/many/delay/0.2'))[-1]{in_flight}{path_max} > DELIVERIES / 2;
	},
	'as many requests at once as the settings allow', 60);

# Memory

my ($size) = slurp_file("/proc/$worker/status") =~ /^VmSize:\s+([0-9]+) kB/m;
limit_worker('as', ($size + 8192) * 1024);
value($node, sprintf q{SELECT count(webhooks.dispatch('large', jsonb_build_object('text', repeat('x', %d)))) FROM generate_series(1, %d)},
	LARGE, DELIVERIES);
wait_until(sub { log_lines($node, qr/out of memory|have to wait: .*[Mm]emory/) }, 'the worker to run out of memory');
is(scalar(log_lines($node, qr/PANIC|FATAL:  out of memory/)), 0, 'which is no end of the server');
limit_worker('as', 'unlimited') if grep { $_ == $worker } worker_pids($node);
wait_until(sub { queue_is_empty($node) }, 'memory again: an empty queue', 120);
is(value($node, q{SELECT count(DISTINCT delivery_id) FROM webhooks.delivery_log WHERE event_type = 'large' AND outcome = 'succeeded'}),
	DELIVERIES, 'memory again: all are delivered');
is_deeply([ crashes($node) ], [], 'nothing crashed');

# A server that may open few files from the start

{
	my $bin = PostgreSQL::Test::Utils::tempdir();
	chomp(my $pg_ctl = qx(which pg_ctl));
	append_to_file("$bin/pg_ctl", "#!/bin/sh\nulimit -n 200 && exec $pg_ctl \"\$@\"\n");
	chmod 0755, "$bin/pg_ctl";
	local $ENV{PATH} = "$bin:$ENV{PATH}";
	$node->restart;
	my $before = $receiver->count;
	value($node, sprintf q{SELECT count(webhooks.dispatch('many', '{}')) FROM generate_series(1, %d)}, DELIVERIES);
	wait_until(sub { queue_is_empty($node) }, 'few from the start: an empty queue', 60);
	is($receiver->count, $before + DELIVERIES, 'few from the start: all are delivered');
	is(scalar(log_lines($node, qr/the limit of file descriptors allows [0-9]+ requests at once, not 512/)), 1, 'a line of the log tells of it');
}

$node->stop;
done_testing();
