
# Workers that find no slot of a background worker free are started when one is; those that run serve
# the endpoints of those that do not; and one line tells of it.

use strict;
use warnings;

use Test::More;
use WebhooksTest;

# The launchers, this one's and logical replication's, take two of the slots.
my $node = start_node(conf => { 'max_worker_processes' => 4, 'max_parallel_workers' => 0 });
my $receiver = start_receiver();
wait_until(sub { worker_pids($node) == 1 }, 'the worker');

sub complaints
{
	return scalar log_lines($node, qr/LOG: .*no background worker slot is free/);
}

# Enough endpoints that each of sixteen workers would have some.
use constant ENDPOINTS => 64;
value($node, sprintf q{SELECT count(webhooks.register_endpoint('%s')) FROM generate_series(1, %d)}, $receiver->url('/ok'), ENDPOINTS);

sub check_delivery
{
	my ($what) = @_;
	my $before = $receiver->count;
	dispatch($node, 'some', '{}');
	wait_until(sub { queue_is_empty($node) }, "$what: an empty queue");
	is($receiver->count, $before + ENDPOINTS, "$what: deliveries are made");
	return;
}

# More workers than there are slots

is(complaints(), 0, 'enough slots: nothing is said');
change_settings($node, 'webhooks.workers' => 16);
wait_until(sub { complaints() }, 'the launcher to say so');
wait_until(sub { worker_pids($node) == 2 }, 'two of the workers');
check_delivery('too few slots for one database');
change_settings($node, 'webhooks.workers' => 1);
wait_until(sub { worker_pids($node) == 1 }, 'one worker');
check_delivery('fewer workers');

# More databases than there are slots: one waits for the slot of another

$node->safe_psql('postgres', "CREATE DATABASE db$_") for 1 .. 2;
for my $n (1 .. 2)
{
	$node->safe_psql("db$n", 'CREATE EXTENSION webhooks');
	$node->safe_psql("db$n", sprintf q{SELECT webhooks.register_endpoint('%s')}, $receiver->url("/x/db$n/ok"));
	$node->safe_psql("db$n", q{SELECT webhooks.dispatch('some', '{}')});
}
wait_until(sub { $receiver->requests(qr{^/x/db[12]/ok$}) == 1 }, 'one of two databases to be served');
check_delivery('and the first one still is');
my ($served) = ($receiver->requests(qr{^/x/db[12]/ok$}))[0]{path} =~ m{^/x/(db[12])/};
my ($waiting) = grep { $_ ne $served } qw(db1 db2);
$node->safe_psql('postgres', "DROP DATABASE $served");
$receiver->wait_for_requests(1, 30, "/x/$waiting/ok");
pass('the other is, once a slot is free');
cmp_ok(complaints(), '<=', 2, 'a line tells of it, and not one every try');

is_deeply([ crashes($node) ], [], 'nothing crashed');
$node->stop;
done_testing();
