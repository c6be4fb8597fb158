
# A resolver that is slow or dead holds up nobody who does not need it, and a name's address is used
# for no longer than a minute.

use strict;
use warnings;

use File::Basename qw(dirname);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use WebhooksTest;

use constant {
	HANGING => 100,		# seconds that a look-up hangs: longer than all that must not wait for it
	NAMES   => 50,
	EVENTS  => 20,
};

# The server's look-ups go through a library of the test's own.

my $names = PostgreSQL::Test::Utils::tempdir();
system_or_bail('cc', '-shared', '-fPIC', '-O1', '-Wall', '-o', "$names/names.so", dirname(__FILE__) . '/../lib/names.c', '-ldl');
set_clock(0);

sub set_clock
{
	my ($seconds) = @_;
	open my $file, '+>>:raw', "$names/clock" or die "could not open $names/clock: $!";
	close $file;
	open $file, '+<:raw', "$names/clock" or die "could not open $names/clock: $!";
	print $file pack('q', $seconds);
	close $file;
	return;
}

sub set_name
{
	my ($name, $seconds, $address) = @_;
	append_to_file("$names/$name.new", "$seconds $address\n");
	rename "$names/$name.new", "$names/$name" or die "could not rename: $!";
	return;
}

sub looked_up
{
	my ($name) = @_;
	return -s "$names/$name.asked" // 0;
}

my $ca   = make_test_ca();
my $node = start_node(
	start => 0,
	conf  => {
		'webhooks.ca_file'         => $ca->{ca},
		'webhooks.retry_jitter'    => 0,
		'webhooks.connect_timeout' => '1s',
		'webhooks.allowed_ports'   => '',
	});
{
	local $ENV{LD_PRELOAD} = "$names/names.so";
	local $ENV{TEST_NAMES} = $names;
	$node->start;
}
$node->safe_psql('postgres', 'CREATE EXTENSION webhooks');
my $receiver = start_receiver();

sub url
{
	my ($name, $path) = @_;
	return $receiver->url($path, $name);
}

# Look-ups that hang, of many names, and one that does not

set_name("slow$_.names.test", HANGING, '127.0.0.1') for 1 .. NAMES;
set_name('well.names.test', 0, '127.0.0.1');
value($node, sprintf q{SELECT count(webhooks.register_endpoint(replace('%s', '$', n::text), '{slow}', retry_schedule => '{}')) FROM generate_series(1, %d) n},
	url('slow$.names.test', '/x/slow/ok'), NAMES);
register_endpoint($node, url('well.names.test', '/x/well/ok'), event_types => q('{well}'));
wait_until(sub { worker_pids($node) == 1 }, 'the worker');
my ($worker) = worker_pids($node);

dispatch($node, 'slow', '{}');
wait_until(sub { looked_up('slow1.names.test') }, 'the look-ups to begin');
for my $n (1 .. EVENTS)
{
	dispatch($node, 'well', '{}');
	$receiver->wait_for_requests($n, 30, '/x/well/ok');
}
wait_until(sub { queue_is_empty($node) }, 'an empty queue');
is(scalar @{ [ $receiver->requests('/x/well/ok') ] }, EVENTS, 'beside look-ups that hang, others are delivered');
is(value($node, q{SELECT count(*) FROM webhooks.dead_letters WHERE error_class = 'dns' AND last_error LIKE 'Resolving timed out%'}),
	NAMES, 'and those time out');

# One look-up for all who wait

{
	set_name('dead.names.test', HANGING, '127.0.0.1');
	register_endpoint($node, url('dead.names.test', '/x/dead/ok'), event_types => q('{dead}'), retry_schedule => q('{}'));
	value($node, q{SELECT count(webhooks.dispatch('dead', '{}')) FROM generate_series(1, 32)});
	wait_until(sub { queue_is_empty($node) }, 'an empty queue');
	is(value($node, q{SELECT count(*) FROM webhooks.delivery_log WHERE event_type = 'dead' AND error_class = 'dns'}), 32, 'a dead name: each delivery fails');
	cmp_ok(looked_up('dead.names.test'), '<=', 2, 'but it is not asked for by each');
	my $status = wait_for_state($node, dispatch($node, 'dead', '{}', endpoint_ids => sprintf q(ARRAY['%s']::uuid[]),
		(register_endpoint($node, url('none.names.test', '/'), event_types => q('{none}'), retry_schedule => q('{}')))[0]), 'dead_letter');
	is($status->{error_class}, 'dns', 'a name that does not exist: the class is dns');
}

# In a session, too

{
	change_settings($node, 'webhooks.enabled' => 'off');
	wait_until(sub { !worker_pids($node) }, 'the worker to go');
	dispatch($node, 'slow', '{}');
	my $started = time;
	value($node, 'CALL webhooks.deliver_due()');
	cmp_ok(time - $started, '<', HANGING / 2, 'deliver_due waits for none that hangs');
	is(value($node, q{SELECT count(*) FROM webhooks.dead_letters WHERE last_error LIKE 'Resolving timed out%'}), 2 * NAMES + 32, 'and all have timed out');
	change_settings($node, 'webhooks.enabled' => 'on');
	wait_until(sub { worker_pids($node) == 1 }, 'the worker');
}

# An address that changes: over connections kept alive, and over one that is never without a request

my %pair = (
	http  => [ $receiver, start_receiver(host => '127.0.0.2', port => $receiver->port, name => 'moved') ],
	https => do
	{
		my $first = start_receiver(http2 => 1, tls => $ca->{server}, name => 'h2');
		[ $first, start_receiver(http2 => 1, tls => $ca->{server}, host => '127.0.0.2', port => $first->port, name => 'h2_moved') ];
	});
for my $scheme (sort keys %pair)
{
	my ($first, $second) = @{ $pair{$scheme} };
	my $name = "moving-$scheme.names.test";
	set_name($name, 0, '127.0.0.1');
	register_endpoint($node, $first->url('/x/moving/ok', $name), event_types => q('{moving}'));
	register_endpoint($node, $first->url('/x/busy/hang', $name), event_types => q('{busy}'), timeout => q('1h'), retry_schedule => q('{}'))
	  if $scheme eq 'https';
}
dispatch($node, 'busy', '{}');
$pair{https}[0]->wait_for_requests(1, 30, '/x/busy/hang');
dispatch($node, 'moving', '{}') for 1 .. 3;
for my $scheme (sort keys %pair)
{
	my @requests = $pair{$scheme}[0]->wait_for_requests(3, 30, '/x/moving/ok');
	my %connections = map { $_->{connection} => 1 } @requests;
	is(scalar keys %connections, 1, "$scheme: the connection is kept");
	is(looked_up("moving-$scheme.names.test"), 1, "$scheme: one look-up for all");
	set_name("moving-$scheme.names.test", 0, '127.0.0.2');
}
set_clock(61);
dispatch($node, 'moving', '{}');
for my $scheme (sort keys %pair)
{
	my ($first, $second) = @{ $pair{$scheme} };
	wait_until(sub { ($first->requests('/x/moving/ok') + $second->requests('/x/moving/ok')) == 4 }, 'the request after a minute');
	is(scalar @{ [ $second->requests('/x/moving/ok') ] }, 1, "$scheme: after a minute the new address is used");
}

# The server stops, whoever hangs

dispatch($node, 'slow', '{}');
wait_until(sub { looked_up('slow1.names.test') >= 3 }, 'the look-ups to begin');
{
	my $started = time;
	$node->stop('fast');
	cmp_ok(time - $started, '<', HANGING / 2, 'a shutdown does not wait for look-ups');
}
is_deeply([ crashes($node) ], [], 'nothing crashed');
done_testing();
