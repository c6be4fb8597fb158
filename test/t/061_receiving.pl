
# Two databases, effectively once: what one dispatches, the other applies, each message exactly once, although the
# receiving server and the HTTP front between them are killed again and again. MESSAGES in the environment says how many.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use WebhooksTest;

use constant { BATCHES => 3 };

my $messages = $ENV{MESSAGES} // 1000;
my $seed     = srand;
my $secret   = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
my $dir      = PostgreSQL::Test::Utils::tempdir();
my $receiver = start_node(name => 'receiver', conf => { 'webhooks.enabled' => 'off', 'max_connections' => 100 });
my $sender   = start_node(name => 'sender', conf => {
		'webhooks.max_in_flight_per_endpoint' => 16, 'webhooks.timeout' => '10s', 'webhooks.retry_jitter' => 1 });
my ($front, $port) = (0, 0);

diag("random seed $seed");

# There is no key on it: a message that came twice would stand in it twice.
value($receiver, 'CREATE TABLE applied (n integer, message_id text)');
value($receiver, q{CREATE FUNCTION apply(message_id text, event_type text, payload jsonb) RETURNS void LANGUAGE sql
	AS 'INSERT INTO applied VALUES ((payload -> ''data'' ->> ''n'')::integer, message_id)'});
value($receiver, "SELECT webhooks.add_source('sender', '$secret', tolerance => '10 minutes')");
value($receiver, q{SELECT webhooks.on_event('sender', 'item.*', 'apply(text, text, jsonb)')});

sub start_front
{
	my $file = "$dir/port";
	unlink $file;
	$front = fork // die "could not fork: $!";
	if (!$front)
	{
		open STDIN,  '<', '/dev/null';
		open STDOUT, '>>', "$PostgreSQL::Test::Utils::log_path/061_receiving_front.log";
		open STDERR, '>&', \*STDOUT;
		{ no warnings 'exec'; exec abs_path(dirname(__FILE__) . '/../front'), '--port', $port, '--port-file', $file, '--source', 'sender',
			'--database', $receiver->connstr('postgres') . ' connect_timeout=5'; }
		POSIX::_exit(1);
	}
	wait_until(sub { die "the front ended at once\n" if waitpid($front, POSIX::WNOHANG()) == $front; return -e $file }, 'the front to listen');
	chomp($port = slurp_file($file));
	return;
}

sub kill_front
{
	kill 'KILL', $front or return;
	waitpid $front, 0;
	$front = 0;
	return;
}

END
{
	my $status = $?;
	kill_front() if $front;
	$? = $status;
}

start_front();
register_endpoint($sender, "http://127.0.0.1:$port/", secret => "'$secret'", retry_schedule => q(array_fill('100ms'::interval, '{100}')),
	rate_limit => $messages > 5000 ? 800 : 120);

my $dispatched = 0;
my %killed = (front => 0, server => 0);

sub retried { return value($sender, q{SELECT count(*) FROM webhooks.attempts WHERE outcome = 'retrying'}) }

# What is down stays down until a request has failed for it, if there is one to be made.
sub wait_for_failure
{
	my ($before) = @_;
	wait_until(sub { retried() > $before || succeeded() == $dispatched }, 'a failure', 60);
	return;
}

sub succeeded { return value($sender, q{SELECT count(*) FROM webhooks.attempts WHERE outcome = 'succeeded'}) }

sub dispatch_batch
{
	my $upto = $dispatched + POSIX::ceil($messages / BATCHES);
	$upto = $messages if $upto > $messages;
	value($sender, sprintf q{SELECT count(webhooks.dispatch('item.added', jsonb_build_object('n', n))) FROM generate_series(%d, %d) n}, $dispatched + 1, $upto);
	$dispatched = $upto;
	return;
}

# Until everything is there: a batch more, and something killed while requests are under way.
while (($dispatched < $messages || succeeded() < $messages) && !value($sender, 'SELECT EXISTS (SELECT FROM webhooks.dead_letters)::int'))
{
	dispatch_batch() if $dispatched < $messages;
	my $before = succeeded();
	wait_until(sub { succeeded() > $before || succeeded() == $dispatched }, 'a delivery', 120);
	sleep rand 0.3;
	my $retried = retried();
	if (rand() < 0.5)
	{
		kill_front();
		wait_for_failure($retried);
		start_front();
		$killed{front}++;
	}
	else
	{
		$receiver->stop('immediate');
		wait_for_failure($retried);
		$receiver->start;
		$killed{server}++;
	}
}

diag(sprintf 'the front was killed %d times, the server %d times; %s requests for %d messages', $killed{front}, $killed{server},
	value($sender, 'SELECT count(*) FROM webhooks.attempts'), $messages);
cmp_ok($killed{front} + $killed{server}, '>=', BATCHES, 'enough was killed');
cmp_ok(value($sender, 'SELECT count(*) FROM webhooks.attempts'), '>', $messages, 'and messages had to be sent again');
is(value($sender, 'SELECT count(*) FROM webhooks.dead_letters'), 0, 'none was given up');
is(value($sender, 'SELECT count(*) FROM webhooks.queue'), 0, 'none is left');
is(value($receiver, 'SELECT count(*) FROM applied'), $messages, 'as many are applied as were dispatched');
is(value($receiver, "SELECT count(DISTINCT n) FROM applied WHERE n BETWEEN 1 AND $messages"), $messages, 'each of them once');
is(value($receiver, 'SELECT count(*) FROM webhooks.inbox'), $messages, 'and each stands in the inbox');
is(value($receiver, 'SELECT count(*) FROM applied a JOIN webhooks.inbox i USING (message_id)'), $messages, 'under its id');

# What the front makes of a stranger's request.
is(HTTP::Tiny->new->post("http://127.0.0.1:$port/", { content => '{}' })->{status}, 401, 'a request without a signature is refused');

kill_front();
is_deeply([ crashes($sender) ], [], 'nothing crashed');
$sender->stop;
$receiver->stop;
done_testing();
