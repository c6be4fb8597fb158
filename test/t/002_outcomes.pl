
# Whatever a receiver does, the attempt ends with the outcome, the class and the words that the
# contract lists, the same in every place that tells them; and the worker lives on.

use strict;
use warnings;

use IO::Socket::INET;
use Test::More;
use Time::HiRes qw(time);
use WebhooksTest;

my $node     = start_node(conf => { 'webhooks.retry_jitter' => 0, 'webhooks.timeout' => '3s' });
my $receiver = start_receiver();

# A port on which nobody listens: bound, so that nobody else gets it, and never listened on.
my $deaf = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'tcp') or die "could not bind: $!";
my $refused = 'http://127.0.0.1:' . $deaf->sockport;

my $twice = q('{100ms,100ms}');
my $once  = q('{}');

# What each case expects: by default an event ends at its first attempt, in a dead letter.
my %case = (
	'a plain 200'         => { path => '/ok',          state => 'succeeded', status => 200 },
	'201'                 => { path => '/status/201',  state => 'succeeded', status => 201 },
	'204'                 => { path => '/status/204',  state => 'succeeded', status => 204 },
	'299'                 => { path => '/status/299',  state => 'succeeded', status => 299 },
	'a chunked answer'    => { path => '/chunked',     state => 'succeeded', status => 200 },
	'an early answer'     => { path => '/early',       state => 'succeeded', status => 200 },
	'NULs in the body'    => { path => '/nul',         state => 'succeeded', status => 200 },
	'broken headers'      => { path => '/badheaders',  state => 'succeeded', status => 200 },
	'an endless body'     => { path => '/endless-body', state => 'succeeded', status => 200 },
	'a large body'        => { path => '/body/1000000', state => 'succeeded', status => 200 },
	'a redirect' => { path => '/redirect?to=' . $receiver->url('/followed'), reason => 'permanent', class => 'redirect', status => 302 },
	'307' => { path => '/redirect?code=307&to=' . $receiver->url('/followed'), reason => 'permanent', class => 'redirect', status => 307 },
	'304'                 => { path => '/status/304',  reason => 'permanent', class => 'redirect', status => 304 },
	'400'                 => { path => '/status/400',  reason => 'permanent', class => 'status', status => 400 },
	'404'                 => { path => '/status/404',  reason => 'permanent', class => 'status', status => 404 },
	'410'                 => { path => '/status/410',  reason => 'gone',      class => 'status', status => 410, schedule => $twice },
	'429'                 => { path => '/status/429',  reason => 'exhausted', class => 'status', status => 429, schedule => $twice, attempts => 3 },
	'500'                 => { path => '/status/500',  reason => 'exhausted', class => 'status', status => 500, schedule => $twice, attempts => 3 },
	'503'                 => { path => '/status/503',  reason => 'exhausted', class => 'status', status => 503, schedule => $twice, attempts => 3 },
	'503 with no retries' => { path => '/x/once/status/503', reason => 'exhausted', class => 'status', status => 503 },
	'503, then 200' => { path => '/script/a/503,200', state => 'succeeded', status => 200, schedule => $twice, attempts => 2 },
	'404 under retry_on *' => { path => '/script/b/404,200', state => 'succeeded', status => 200, schedule => $twice, attempts => 2, retry_on => q('*') },
	'503 under retry_on 500' => { path => '/x/on/status/503', reason => 'permanent', class => 'status', status => 503, schedule => $twice, retry_on => q('500') },
	'Retry-After in seconds' => { path => '/script/c/503,200?retry_after=2', state => 'succeeded', status => 200, schedule => $twice, attempts => 2, wait => 2 },
	'Retry-After on 429'  => { path => '/script/d/429,200?retry_after=1', state => 'succeeded', status => 200, schedule => $twice, attempts => 2, wait => 1 },
	'Retry-After as a date' => { path => '/script/e/503,200?retry_after=in3', state => 'succeeded', status => 200, schedule => $twice, attempts => 2, wait => 1.5 },
	'Retry-After as a date of RFC 850' => { path => '/script/e850/503,200?retry_after=rfc850in3', state => 'succeeded', status => 200, schedule => $twice, attempts => 2, wait => 1.5 },
	'Retry-After as a date of asctime' => { path => '/script/easc/503,200?retry_after=asctimein3', state => 'succeeded', status => 200, schedule => $twice, attempts => 2, wait => 1.5 },
	'Retry-After on 500 is not honoured' => { path => '/script/f/500,200?retry_after=60', state => 'succeeded', status => 200, schedule => $twice, attempts => 2 },
	'Retry-After, broken' => { path => '/script/g/503,200?retry_after=soon%20-1%209999999999999999999', state => 'succeeded', status => 200, schedule => $twice, attempts => 2 },
	'no answer'           => { path => '/hang',         reason => 'exhausted', class => 'timeout', timeout => q('500ms') },
	'a late answer'       => { path => '/delay/2',      reason => 'exhausted', class => 'timeout', timeout => q('500ms') },
	'trickling headers'   => { path => '/slow-headers', reason => 'exhausted', class => 'timeout', timeout => q('500ms'), any_status => 1 },
	'a trickling body'    => { path => '/slow-body',    reason => 'exhausted', class => 'timeout', timeout => q('500ms'), any_status => 1 },
	'a timeout, retried'  => { path => '/x/again/hang', reason => 'exhausted', class => 'timeout', timeout => q('300ms'), schedule => $twice, attempts => 3 },
	'a reset'             => { path => '/reset',        reason => 'exhausted', class => qr/^(connect|protocol)$/ },
	'a closed connection' => { path => '/close',        reason => 'exhausted', class => qr/^(connect|protocol)$/ },
	'a short body'        => { path => '/short-body',   reason => 'exhausted', class => 'protocol', any_status => 1 },
	'garbage'             => { path => '/garbage',      reason => 'exhausted', class => 'protocol' },
	'endless headers'     => { path => '/endless-headers', reason => 'exhausted', class => 'protocol', any_status => 1 },
	'a long header'       => { path => '/long-header',  reason => 'exhausted', class => 'protocol', any_status => 1 },
	'connection refused'  => { url => "$refused/ok",    reason => 'exhausted', class => 'connect', schedule => $twice, attempts => 3 },
);

wait_until(sub { worker_pids($node) == 1 }, 'the worker');
my ($worker) = worker_pids($node);

# All at once: the well-behaved ones stand between the others.
my $number = 0;
for my $name (sort keys %case)
{
	my $case = $case{$name};
	$case->{event_type} = 'case.' . $number++;
	$case->{state}    //= 'dead_letter';
	$case->{attempts} //= 1;
	$case->{url}      //= $receiver->url($case->{path});
	my %option = (
		event_types    => "'{$case->{event_type}}'",
		retry_schedule => $case->{schedule} // $once);
	$option{timeout}  = $case->{timeout}  if $case->{timeout};
	$option{retry_on} = $case->{retry_on} if $case->{retry_on};
	($case->{endpoint_id}) = register_endpoint($node, $case->{url}, %option);
	$case->{event_id} = dispatch($node, $case->{event_type}, '{"n": 1}');
}

wait_until(sub { queue_is_empty($node) }, 'all cases to end', 60);

for my $name (sort keys %case)
{
	my $case = $case{$name};

	subtest "case $name" => sub {
		my $failed = $case->{state} eq 'dead_letter';
		my $status = $case->{status};
		my $check_class = sub {
			my ($class, $place) = @_;
			if (!$failed) { is($class, undef, "no class in $place") }
			elsif (ref $case->{class}) { like($class // 'none', $case->{class}, "the class in $place") }
			else { is($class, $case->{class}, "the class in $place") }
		};

		for my $place ("dispatch_status('$case->{event_id}')", 'deliveries')
		{
			my $condition = $place eq 'deliveries' ? " WHERE event_id = '$case->{event_id}'" : '';
			my @found = rows($node, "SELECT * FROM webhooks.$place$condition");
			is(scalar @found, 1, "one row in $place");
			my $row = $found[0];
			is($row->{state},            $case->{state},    "state in $place");
			is($row->{attempts},         $case->{attempts}, "attempts in $place");
			is($row->{last_status_code}, $status,           "status in $place") unless $case->{any_status};
			is($row->{url},              $case->{url},      "url in $place");
			is($row->{next_attempt_at},  undef,             "no next attempt in $place");
			$check_class->($row->{error_class}, $place);
			ok(!$failed || length $row->{last_error}, "an error's text in $place");
		}

		my @attempts = rows($node, qq{
			SELECT *, octet_length(response_body) AS body_octets, extract(epoch FROM attempted_at) AS at
			FROM webhooks.attempts WHERE event_id = '$case->{event_id}' ORDER BY attempt});
		my @outcomes = (('retrying') x ($case->{attempts} - 1), $case->{state});
		is_deeply([ map { $_->{attempt} } @attempts ], [ 1 .. $case->{attempts} ], 'attempts are numbered from one');
		is_deeply([ map { $_->{outcome} } @attempts ], \@outcomes, 'the outcomes of the attempts');
		return unless @attempts;
		is_deeply([ grep { !defined $_->{duration_ms} || $_->{duration_ms} < 0 } @attempts ], [], 'each took its time');
		is_deeply([ grep { ($_->{body_octets} // 0) > 3 * 4096 } @attempts ], [], 'of the answer no more than the limit is kept');
		is($attempts[-1]{next_attempt_at}, undef, 'after the last attempt none follows');
		$check_class->($attempts[-1]{error_class}, 'attempts');
		is($attempts[-1]{status_code}, $status, 'the status in attempts') unless $case->{any_status};

		my @dead = rows($node, "SELECT * FROM webhooks.dead_letters WHERE event_id = '$case->{event_id}'");
		is(scalar @dead, $failed ? 1 : 0, 'dead letters');
		if ($failed && @dead)
		{
			is($dead[0]{reason},           $case->{reason},      'the reason');
			is($dead[0]{attempts},         $case->{attempts},    'attempts of the dead letter');
			is($dead[0]{endpoint_id},      $case->{endpoint_id}, 'endpoint of the dead letter');
			is($dead[0]{last_status_code}, $status,              'status of the dead letter') unless $case->{any_status};
			$check_class->($dead[0]{error_class}, 'dead_letters');
		}

		if (defined $case->{path})
		{
			my ($path) = $case->{path} =~ /^([^?]*)/;
			my @requests = grep { $_->{headers}{'webhook-id'} eq $case->{event_id} } $receiver->requests($path);
			is(scalar @requests, $case->{attempts}, 'so many requests were made');
			if (defined $case->{wait} && @requests == 2)
			{
				cmp_ok($requests[1]{time} - $requests[0]{time}, '>=', $case->{wait}, 'Retry-After is waited for');
			}
		}
	};
}

is(scalar $receiver->requests('/followed'), 0, 'no redirect was followed');

# What is kept of an answer

{
	my ($nul) = rows($node, "SELECT response_body FROM webhooks.attempts WHERE event_id = '$case{'NULs in the body'}{event_id}'");
	like($nul->{response_body}, qr/before.*after/, 'a body with NULs is kept around them');
	my ($plain) = rows($node, "SELECT * FROM webhooks.attempts WHERE event_id = '$case{'a plain 200'}{event_id}'");
	like($plain->{response_body}, qr/^ok$/m, 'a body is kept');
	is($plain->{remote_address}, '127.0.0.1', 'the address connected to is kept');
	my %headers = map { lc $_ => $plain->{response_headers}{$_} } keys %{ $plain->{response_headers} };
	is($headers{server}, 'receiver', 'headers are kept');
	my ($large) = rows($node, "SELECT octet_length(response_body) AS n FROM webhooks.attempts WHERE event_id = '$case{'a large body'}{event_id}'");
	is($large->{n}, 4096, 'a large body is cut at the limit');
}

# 410

{
	my $gone = $case{410}{endpoint_id};
	my ($endpoint) = rows($node, "SELECT * FROM webhooks.endpoints WHERE endpoint_id = '$gone'");
	is($endpoint->{state}, 'disabled', '410 disables the endpoint');
	ok(length $endpoint->{disabled_reason}, 'and tells why');
	my $event_id = dispatch($node, $case{410}{event_type}, '{}');
	is(value($node, "SELECT count(*) FROM webhooks.queue WHERE event_id = '$event_id'"), 0, 'nothing more is queued for it');
	is(value($node, "SELECT count(*) FROM webhooks.endpoints WHERE state <> 'active'"), 1, 'no other endpoint is disabled');
}

# What the worker says of itself

{
	my $counted = 'SELECT count(*) FILTER (WHERE outcome = $$%s$$) FROM webhooks.attempts';
	wait_until(sub { value($node, 'SELECT sum(attempted) FROM webhooks.pg_stat_webhooks') == value($node, 'SELECT count(*) FROM webhooks.attempts') },
		'every attempt to be counted');
	my ($stat) = rows($node, 'SELECT * FROM webhooks.pg_stat_webhooks');
	is($stat->{pid}, $worker, 'pg_stat_webhooks has the worker');
	is($stat->{$_->[0]}, value($node, sprintf $counted, $_->[1]), "and counts what $_->[0]")
	  for [ succeeded => 'succeeded' ], [ retried => 'retrying' ], [ dead_lettered => 'dead_letter' ];
	my $received = 0;
	$received += length WebhooksTest::Receiver::body_bytes($_) for $receiver->requests;
	# One that is reset may have gone out, and is not logged; three were refused a connection.
	my $unlogged = $stat->{bytes_sent} - $received;
	cmp_ok($unlogged, '>=', 0, 'and the bytes of all bodies that were received');
	cmp_ok($unlogged, '<', 100, 'and of none that had no connection');
	ok(length $stat->{last_error}, 'and tells the last error');
	is(value($node, 'SELECT ok FROM webhooks.health()'), 't', 'health() finds all well');
}

# The worker

{
	my ($good_id, $secret) = register_endpoint($node, $receiver->url('/x/after/ok'), event_types => q('{after}'));
	my $event_id = dispatch($node, 'after', '{}');
	wait_for_state($node, $event_id, 'succeeded');
	ok(verify_signature(($receiver->requests('/x/after/ok'))[0], $secret), 'it goes on delivering');
	is_deeply([ worker_pids($node) ], [$worker], 'the worker is still the same process');
	my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
	unlike($log, qr/terminated by signal|PANIC|TRAP|background worker "webhooks[^"]*" .*exited/, 'nothing in the log tells of a crash');
}

$node->stop;
done_testing();
