
# An endpoint is sent no more than its rate_limit over any ten seconds: with a backlog, below one a second, with other workers. A change
# of the limit applies at once, and neighbours are not held up.

use strict;
use warnings;

use Test::More;
use WebhooksTest;

use constant {
	SECONDS => 10,
	MOVES   => 8,
};

my $node = start_node();
my $receiver = start_receiver();

sub path { return "/x/$_[0]/ok" }

# An endpoint of its own for the name, and events for it. Of two workers the one of that number is its owner: the ids of the first one's
# endpoints are even.
sub start_endpoint
{
	my ($name, $worker, $events, %argument) = @_;
	my ($endpoint_id) = register_endpoint($node, $receiver->url(path($name)), event_types => "'{$name}'", %argument);
	while (hex(substr $endpoint_id, -1) % 2 != $worker)
	{
		value($node, "SELECT webhooks.remove_endpoint('$endpoint_id')");
		($endpoint_id) = register_endpoint($node, $receiver->url(path($name)), event_types => "'{$name}'", %argument);
	}
	value($node, "SELECT count(webhooks.dispatch('$name', '{}')) FROM generate_series(1, $events)");
	return $endpoint_id;
}

sub wait_for_requests
{
	my ($name, $n, $timeout) = @_;
	return $receiver->wait_for_requests($n, $timeout // 60, path($name));
}

sub most_in_window
{
	my @times = sort { $a <=> $b } @_;
	my ($most, $first) = (0, 0);
	for my $last (0 .. $#times)
	{
		$first++ while $times[$last] - $times[$first] >= SECONDS;
		$most = $last - $first + 1 if $last - $first + 1 > $most;
	}
	return $most;
}

# By the receiver's clock, and by the worker's.
sub check_rate
{
	my ($name, $most) = @_;
	my %times = (
		received => [ map { $_->{time} } $receiver->requests(path($name)) ],
		sent     => [
			split /\n/,
			value($node, "SELECT extract(epoch FROM attempted_at) FROM webhooks.attempts WHERE url = '" . $receiver->url(path($name)) . q{'})
		]);
	cmp_ok(most_in_window(@{ $times{$_} }), '<=', $most, "$name: no more than $most are $_ in any ten seconds") for qw(received sent);
	return;
}

# A limit is ten seconds' worth and a burst of one second, or of one request

start_endpoint('twenty', 0, 1000, rate_limit => 20);
start_endpoint('half',   0, 1000, rate_limit => 0.5);
start_endpoint('moving', 1, 2000, rate_limit => 50);
my $slowest = start_endpoint('slowest', 0, 100, rate_limit => 0.0001);
start_endpoint('free', 0, 2000);

wait_for_requests('free', 2000);
pass('an endpoint without a limit is sent all at once');

# With each other number of workers it has another owner, who begins with one token, not with a burst.
for my $n (1 .. MOVES)
{
	wait_for_requests('moving', 60 * $n);
	my $workers = 1 + $n % 2;
	change_settings($node, 'webhooks.workers' => $workers);
	wait_until(sub { worker_pids($node) == $workers }, "$workers workers");
}
wait_for_requests('moving', 700);
wait_for_requests('twenty', 300);
wait_for_requests('half',   7);
check_rate('twenty', SECONDS * 20 + 20);
check_rate('half',   SECONDS * 0.5 + 1);
check_rate('moving', SECONDS * 50 + 50 + MOVES);

is(scalar @{ [ $receiver->requests(path('slowest')) ] }, 1, 'a very low limit holds the endpoint for hours');
value($node, "UPDATE webhooks.endpoints SET rate_limit = NULL WHERE endpoint_id = '$slowest'");
wait_for_requests('slowest', 100, 30);
pass('and no longer once it is taken away');

# In a session: what is due is sent as the limit allows

change_settings($node, 'webhooks.enabled' => 'off');
wait_until(sub { !worker_pids($node) }, 'the workers to go');
value($node, "DELETE FROM webhooks.queue");
start_endpoint('called', 0, 10, rate_limit => 20);
is(value($node, 'CALL webhooks.deliver_due()'), '10|10|0|0', 'deliver_due waits for the limit');

is_deeply([ crashes($node) ], [], 'nothing crashed');
$node->stop;
done_testing();
