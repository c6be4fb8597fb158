
# However an address is spelled, and whatever a resolver says: no connection is made to one that is
# not allowed, and what is refused up front is refused for the same reason when it is sent to.

use strict;
use warnings;

use File::Basename qw(dirname);
use IO::Select;
use IO::Socket::INET;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhooksTest;

# The server's look-ups go through a library of the test's own, which tells of all of them.

my $names = PostgreSQL::Test::Utils::tempdir();
system_or_bail('cc', '-shared', '-fPIC', '-O1', '-Wall', '-o', "$names/names.so", dirname(__FILE__) . '/../lib/names.c', '-ldl');
append_to_file("$names/all", '');
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
	my ($name, @addresses) = @_;
	append_to_file("$names/$name.new", "0 @addresses\n");
	rename "$names/$name.new", "$names/$name" or die "could not rename: $!";
	return;
}

# Whoever connects to any address of this machine is noticed, and waits for ever.

my $listener = IO::Socket::INET->new(Listen => 1000, LocalAddr => '0.0.0.0', Proto => 'tcp') or die "could not listen: $!";

sub connected_to
{
	return IO::Select->new($listener)->can_read(0) ? 1 : 0;
}

# An environment that libcurl would follow by itself

my $home = PostgreSQL::Test::Utils::tempdir();
append_to_file("$home/.netrc",  "default login netrc password netrc\n");
append_to_file("$home/.curlrc", sprintf qq(proxy = "http://127.0.0.1:%d"\n), $listener->sockport);
my @proxies = qw(http_proxy https_proxy HTTPS_PROXY all_proxy ALL_PROXY);

my $node = start_node(
	start => 0,
	conf  => {
		'webhooks.allowed_networks' => '127.0.0.5/32',
		'webhooks.retry_jitter'     => 0,
		'webhooks.timeout'          => '5s',
	});
{
	local @ENV{@proxies} = (sprintf 'http://127.0.0.1:%d', $listener->sockport) x @proxies;
	local $ENV{NO_PROXY} = local $ENV{no_proxy} = 'example.com';
	local $ENV{HOME}     = $home;
	local $ENV{CURL_HOME}  = $home;
	local $ENV{LD_PRELOAD} = "$names/names.so";
	local $ENV{TEST_NAMES} = $names;
	$node->start;
}
$node->safe_psql('postgres', 'CREATE EXTENSION webhooks');

# The table

sub read_table
{
	my @cases;
	for my $line (split /\n/, slurp_file(dirname(__FILE__) . '/../spellings.txt'))
	{
		last if $line =~ /^# libcurl 7 only/ && libcurl_major() > 7;
		next if $line =~ /^(#|$)/;
		my ($verdict, $spelling, $reason) = split /\t/, $line;
		(my $url = $spelling) =~ s/\{port\}/$listener->sockport/ge;
		$url =~ s/\\x([0-9a-f]{2})/chr hex $1/ge;
		utf8::decode(my $text = $url) or next;	# such bytes do not get into a database
		push @cases, { verdict => $verdict, spelling => $spelling, url => $url, reason => $reason };
	}
	return @cases;
}

my @cases = read_table();
cmp_ok(scalar @cases, '>=', 150, 'there are at least 150 spellings');
$node->safe_psql('postgres', join "\n",
	'CREATE TABLE spellings (n int PRIMARY KEY, url text, verdict text, reason text, endpoint_id uuid);',
	map { sprintf q{INSERT INTO spellings VALUES (%d, convert_from(decode('%s', 'hex'), 'UTF8'), '%s', %s);},
		$_, unpack('H*', $cases[$_]{url}), $cases[$_]{verdict}, WebhooksTest::literal($cases[$_]{reason}) } 0 .. $#cases);
$node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION refusal(url text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM webhooks.register_endpoint(url, '{registered}');
	RETURN NULL;
EXCEPTION WHEN invalid_parameter_value THEN
	RETURN regexp_replace(SQLERRM, '^url is refused: ', '');
END
$$;
SQL

# The cases that a query gives, for a test that wants none
sub none
{
	my ($query, $name) = @_;
	my @found = split /\n/, value($node, $query);
	ok(@found == 0, $name) or diag join "\n", map { my ($n, @rest) = split /\|/; "$cases[$n]{spelling}: @rest" } @found;
	return;
}

# Up front

none(q{SELECT n, c.* FROM spellings s, webhooks.check_url(s.url) c WHERE allowed <> (verdict = 'allowed') OR c.reason <> s.reason},
	'check_url decides each on what it means');
none(q{SELECT n, c.reason, refusal(s.url) FROM spellings s, webhooks.check_url(s.url) c WHERE refusal(s.url) IS DISTINCT FROM c.reason},
	'register_endpoint does too, for the same reason');

# Sent to nevertheless: the rows are what somebody made of them who does not ask

$node->safe_psql('postgres', <<'SQL');
DO $$
DECLARE
	s record;
BEGIN
	FOR s IN SELECT * FROM spellings WHERE verdict <> 'allowed' LOOP
		UPDATE spellings SET endpoint_id = (SELECT r.endpoint_id FROM webhooks.register_endpoint('https://example.com/', '{forced}', retry_schedule => '{}') r)
		WHERE n = s.n;
	END LOOP;
END $$;
UPDATE webhooks.endpoints e SET url = s.url FROM spellings s WHERE s.endpoint_id = e.endpoint_id;
DELETE FROM webhooks.endpoints WHERE event_types = '{registered}';
SQL
my $forced = value($node, 'SELECT count(DISTINCT endpoint_id) FROM spellings');
cmp_ok($forced, '>=', 150, 'at least 150 are sent to nevertheless');
dispatch($node, 'forced', '{}');
wait_until(sub { queue_is_empty($node) }, 'an empty queue');
is(value($node, 'SELECT count(*) FROM webhooks.dead_letters'), $forced, 'all end as dead letters');
none(q{SELECT n, d.error_class, d.last_error FROM spellings s JOIN webhooks.dead_letters d USING (endpoint_id)
	WHERE d.error_class <> CASE verdict WHEN 'malformed' THEN 'protocol' ELSE 'blocked_address' END},
	'the worker refuses each: blocked_address, or protocol for what is no URL');
none(q{SELECT n, c.reason, d.last_error FROM spellings s JOIN webhooks.dead_letters d USING (endpoint_id), webhooks.check_url(s.url) c
	WHERE d.last_error <> c.reason}, 'for the reason that check_url gives');
is(connected_to(), 0, 'no connection is made');
is(slurp_file("$names/all"), '', 'and no resolver is asked');

# A name with several addresses

my $public  = start_receiver(host => '127.0.0.5', name => 'public');
my $private = start_receiver(host => '127.0.0.1', port => $public->port, name => 'private');
my %answer  = (
	'first.test'  => [qw(127.0.0.5 127.0.0.1 10.0.0.1)],
	'last.test'   => [qw(127.0.0.1 127.0.0.2 10.0.0.1 127.0.0.5)],
	'middle.test' => [qw(127.0.0.1 127.0.0.5 ::1)]);
for my $name (sort keys %answer)
{
	set_name($name, @{ $answer{$name} });
	register_endpoint($node, $public->url("/x/$name/ok", $name), event_types => qq('{$name}'));
	my $status = wait_for_state($node, dispatch($node, $name, '{}'), 'succeeded');
	is(value($node, "SELECT host(remote_address) FROM webhooks.attempts WHERE delivery_id = '$status->{delivery_id}'"),
		'127.0.0.5', "@{$answer{$name}}: the public one is connected to");
}
set_name('none.test', qw(127.0.0.1 127.0.0.2));
register_endpoint($node, $public->url('/x/none/ok', 'none.test'), event_types => q('{none}'));
{
	my $status = wait_for_state($node, dispatch($node, 'none', '{}'), 'dead_letter');
	is($status->{error_class}, 'blocked_address', 'none of them is public: the class is blocked_address');
	like($status->{last_error}, qr/^its address 127\.0\.0\.[12] is not allowed: loopback address$/, 'and the error says which address, and why');
}

# A name that has another address by the next look-up

set_name('moves.test', '127.0.0.5');
register_endpoint($node, $public->url('/x/moves/ok', 'moves.test'), event_types => q('{moves}'));
wait_for_state($node, dispatch($node, 'moves', '{}'), 'succeeded');
set_name('moves.test', '127.0.0.1');
set_clock(61);
{
	my $status = wait_for_state($node, dispatch($node, 'moves', '{}'), 'dead_letter');
	is($status->{error_class}, 'blocked_address', 'a name that becomes private: the class is blocked_address');
	is($status->{last_error}, 'its address 127.0.0.1 is not allowed: loopback address', 'and the error says so');
}
cmp_ok(-s "$names/moves.test.asked", '>=', 2, 'it was looked up again');
is($private->count, 0, 'nothing came to a private address');

# A redirect

register_endpoint($node, $public->url('/x/redirect/redirect?to=/x/redirect/ok'), event_types => q('{redirect}'));
{
	my $status = wait_for_state($node, dispatch($node, 'redirect', '{}'), 'dead_letter');
	is($status->{error_class}, 'redirect', 'a redirect is a failure');
	is(scalar(grep { $_->{path} =~ m{/x/redirect} } $public->requests), 1, 'and not followed');
}

# A port that the settings no longer allow

register_endpoint($node, $public->url('/x/port/ok'), event_types => q('{port}'));
wait_for_state($node, dispatch($node, 'port', '{}'), 'succeeded');
change_settings($node, 'webhooks.allowed_ports' => '80');
{
	my $status;
	wait_until(
		sub {
			my $id = dispatch($node, 'port', '{}');
			wait_until(sub { ($status) = rows($node, "SELECT * FROM webhooks.dispatch_status('$id')"); $status->{state} =~ /^(succeeded|dead_letter)$/ }, 'its end');
			return $status->{state} eq 'dead_letter';
		},
		'the setting to take effect');
	is($status->{error_class}, 'blocked_address', 'a port that is no longer allowed: the class is blocked_address');
	is($status->{last_error}, 'its port is not among webhooks.allowed_ports', 'and the error says so');
}
change_settings($node, 'webhooks.allowed_ports' => '');

is(scalar(grep { exists $_->{headers}{authorization} } $public->requests), 0, 'no password comes from ~/.netrc');
is(connected_to(), 0, 'no proxy of the environment is used, nor one of ~/.curlrc');

# The listener would have noticed: all the same, allowed.

change_settings($node, 'webhooks.allowed_networks' => '127.0.0.0/8');
wait_until(sub { dispatch($node, 'forced', '{}'); return connected_to() }, 'a connection, once it is allowed');
pass('once allowed, connections are made');

is_deeply([ crashes($node) ], [], 'nothing crashed');
$node->stop('immediate');
done_testing();
