
# Requests go through webhooks.proxy where it is set, in tunnels. What the proxy does wrong is not the
# endpoint's failure, and its password is shown to nobody.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use PostgreSQL::Test::Utils;
use Test::More;
use WebhooksTest;

my $ca  = make_test_ca();
my $dir = PostgreSQL::Test::Utils::tempdir();
my @proxies;

END
{
	my $status = $?;
	stop_proxy($_) for @proxies;
	$? = $status;
}

# Options: port, user, tls, socks. Gives pid, port and log.
sub start_proxy
{
	my (%option) = @_;
	my $name  = "$dir/proxy" . @proxies;
	my $proxy = { log => "$name.log", rules => "$name.rules" };

	append_to_file($proxy->{$_}, '') for qw(log rules);
	my @command = (
		abs_path(dirname(__FILE__) . '/../proxy'),
		'--port' => $option{port} // 0, '--port-file' => "$name.port", '--log' => $proxy->{log}, '--rules' => $proxy->{rules},
		$option{user}  ? ('--user', $option{user})      : (),
		$option{tls}   ? ('--tls', @{ $ca->{server} }) : (),
		$option{socks} ? '--socks' : ());
	$proxy->{pid} = fork // die "could not fork: $!";
	if (!$proxy->{pid})
	{
		open STDIN,  '<', '/dev/null';
		open STDOUT, '>', "$name.out";
		open STDERR, '>&', \*STDOUT;
		{ no warnings 'exec'; exec @command; }
		require POSIX;
		POSIX::_exit(1);
	}
	push @proxies, $proxy;
	wait_until(sub { -s "$name.port" }, 'the proxy to listen');
	chomp($proxy->{port} = slurp_file("$name.port"));
	return $proxy;
}

sub stop_proxy
{
	my ($proxy) = @_;
	my $pid = delete $proxy->{pid} or return;
	kill 'KILL', $pid;
	waitpid $pid, 0;
	return;
}

# What it does with targets: lines "TARGET RULE".
sub set_rules
{
	my ($proxy, @lines) = @_;
	append_to_file("$proxy->{rules}.new", join '', map { "$_\n" } @lines);
	rename "$proxy->{rules}.new", $proxy->{rules} or die "could not rename: $!";
	return;
}

sub asked
{
	my ($proxy, $target) = @_;
	return grep { !defined $target || $_->{target} eq $target } map { JSON::PP->new->decode($_) } split /\n/, slurp_file($proxy->{log});
}

my $proxy    = start_proxy(user => 'me:s3cret%');
my $plain    = start_receiver(name => 'plain');
my $tls      = start_receiver(name => 'tls', tls => $ca->{server});
my $refused  = start_receiver(name => 'refused');
my $node     = start_node(
	conf => {
		'webhooks.ca_file'          => $ca->{ca},
		'webhooks.allowed_networks' => '',
		'webhooks.retry_jitter'     => 0,
		'webhooks.proxy'            => "http://me:s3cret%25\@127.0.0.1:$proxy->{port}",
	});
wait_until(sub { worker_pids($node) == 1 }, 'the worker');

sub target
{
	my ($receiver) = @_;
	return 'here.names.test:' . $receiver->port;
}

sub attempts
{
	my ($type) = @_;
	return value($node, "SELECT count(*) FROM webhooks.delivery_log WHERE event_type = '$type'");
}

# Through the proxy

register_endpoint($node, $plain->url('/x/plain/ok', 'here.names.test'), event_types => q('{plain}'));
my (undef, $secret) = register_endpoint($node, $tls->url('/x/tls/ok', 'here.names.test'), event_types => q('{tls}'));
for my $case ([ 'plain', $plain ], [ 'tls', $tls ])
{
	my ($type, $receiver) = @$case;
	my $status = wait_for_state($node, dispatch($node, $type, '{}'), 'succeeded');
	my ($request) = $receiver->requests("/x/$type/ok");
	my ($connect) = asked($proxy, target($receiver));
	is($connect->{method}, 'CONNECT', "$type: the proxy is asked for a tunnel");
	ok(!(grep { /^(webhook-|content-)/ } keys %{ $connect->{headers} }), "$type: and gets none of the request's headers");
	ok(!(grep { /^proxy-/ } keys %{ $request->{headers} }), "$type: the receiver gets none of the proxy's");
	my ($attempt) = rows($node, "SELECT remote_address, response_headers FROM webhooks.attempts WHERE delivery_id = '$status->{delivery_id}'");
	is($attempt->{remote_address}, undef, "$type: where it went only the proxy knows");
	ok(!exists $attempt->{response_headers}{'x-proxy'}, "$type: the proxy's headers are not the receiver's answer");
}
ok(verify_signature(($tls->requests('/x/tls/ok'))[0], $secret), 'the signature is good');

# Literal addresses are judged all the same; localhost would be the proxy's machine.

for my $host ('127.0.0.1', '0x7f.1', '[::1]', '10.0.0.1', 'localhost', 'x.localhost')
{
	my $url = $plain->url('/x/literal/ok', $host);
	my ($check) = rows($node, "SELECT * FROM webhooks.check_url('$url')");
	is($check->{allowed}, JSON::PP::false, "$host is refused");
	my ($id) = register_endpoint($node, 'http://example.com/', event_types => q('{literal}'));
	value($node, "UPDATE webhooks.endpoints SET url = '$url' WHERE endpoint_id = '$id'");
}
dispatch($node, 'literal', '{}');
wait_until(sub { queue_is_empty($node) }, 'an empty queue');
is(value($node, q{SELECT count(*) FROM webhooks.dead_letters WHERE error_class = 'blocked_address' AND last_error LIKE 'its address is not allowed: %'}),
	6, 'and when it is sent to, too');
is(scalar asked($proxy), 2, 'the proxy is asked for none of them');

# A receiver's own failures are its own

register_endpoint($node, $plain->url('/x/status/status/502', 'here.names.test'), event_types => q('{status}'), retry_schedule => q('{}'));
{
	my $status = wait_for_state($node, dispatch($node, 'status', '{}'), 'dead_letter');
	is("$status->{error_class} $status->{last_status_code}", 'status 502', 'a status in the tunnel is the receiver\'s');
}
register_endpoint($node, $plain->url('/x/wrong/ok', 'here.names.test') =~ s/^http:/https:/r, event_types => q('{wrong}'), retry_schedule => q('{}'));
{
	my $status = wait_for_state($node, dispatch($node, 'wrong', '{}'), 'dead_letter');
	is($status->{error_class}, 'tls', 'so is a failure of TLS in it');
}

# Refusals of one receiver: they count once another has been connected to since

set_rules($proxy, target($refused) . ' 403');
register_endpoint($node, $refused->url('/x/refused/ok', 'here.names.test'), event_types => q('{refused}'));
my $id = dispatch($node, 'refused', '{}');
wait_until(sub { scalar asked($proxy, target($refused)) }, 'the refusal');
wait_until(sub { log_lines($node, qr/LOG:  webhooks: requests have to wait: proxy: CONNECT was answered with status 403/) }, 'a line of the log');
is(attempts('refused'), 0, 'a refusal alone is no attempt');
is((rows($node, "SELECT state, attempts FROM webhooks.dispatch_status('$id')"))[0]{state}, 'pending', 'the delivery waits');

# Each time to another origin, so that a connection is opened.
sub pass_another
{
	my $receiver = start_receiver();
	my $type     = 'another' . $receiver->port;
	register_endpoint($node, $receiver->url('/x/another/ok', 'here.names.test'), event_types => "'{$type}'");
	wait_for_state($node, dispatch($node, $type, '{}'), 'succeeded');
	return;
}

pass_another();
{
	my $status = wait_for_state($node, $id, 'dead_letter');
	is($status->{error_class}, 'blocked_address', 'refused while others pass, with 403: the class is blocked_address');
	is($status->{last_error}, 'proxy: CONNECT was answered with status 403', 'and the error says who refused');
	is($status->{last_status_code}, undef, 'there is no status');
}
for my $rule ('502', 'close')
{
	my $receiver = start_receiver();
	set_rules($proxy, target($receiver) . " $rule");
	register_endpoint($node, $receiver->url('/x/other/ok', 'here.names.test'), event_types => "'{r$rule}'", retry_schedule => q('{}'));
	my $event = dispatch($node, "r$rule", '{}');
	wait_until(sub { scalar asked($proxy, target($receiver)) }, 'the refusal');
	is(attempts("r$rule"), 0, "$rule alone is no attempt");
	pass_another();
	my $status = wait_for_state($node, $event, 'dead_letter');
	is($status->{error_class}, 'connect', "$rule while others pass: the class is connect");
	like($status->{last_error}, qr/^proxy: /, 'and the error says who refused');
}

# Nobody passes: the proxy's failure alone, whatever it is. A new set of connections, since open ones go on.

sub restart_worker
{
	my ($worker) = worker_pids($node);
	value($node, "SELECT pg_terminate_backend($worker)");
	wait_until(sub { my ($new) = worker_pids($node); $new && $new != $worker }, 'another worker');
	return;
}

# What fails, from when on, and until when
sub check_failure
{
	my ($name, $begin, $end, $shown) = @_;
	my $before = attempts('plain');
	$begin->();
	restart_worker();
	my $logged = () = log_lines($node, qr/requests have to wait: $shown/);
	my $event  = dispatch($node, 'plain', '{}');
	wait_until(sub { my $n = () = log_lines($node, qr/requests have to wait: $shown/); $n > $logged }, "$name: a line of the log");
	my ($status) = rows($node, "SELECT state, attempts FROM webhooks.dispatch_status('$event')");
	is("$status->{state} $status->{attempts}", 'pending 0', "$name: no attempt is used up");
	$end->();
	$status = wait_for_state($node, $event, 'succeeded', 90);
	is(attempts('plain'), $before + 1, "$name: then it is delivered at the first attempt");
	return;
}

set_rules($proxy);
check_failure('403 for all', sub { set_rules($proxy, '* 403') }, sub { set_rules($proxy) }, qr/proxy: CONNECT was answered with status 403/);
check_failure('a wrong password',
	sub { change_settings($node, 'webhooks.proxy' => "http://me:wr0ng\@127.0.0.1:$proxy->{port}") },
	sub { change_settings($node, 'webhooks.proxy' => "http://me:s3cret%25\@127.0.0.1:$proxy->{port}") },
	qr/proxy: CONNECT was answered with status 407/);
check_failure('no proxy there',
	sub { stop_proxy($proxy) },
	sub { $proxy = start_proxy(port => $proxy->{port}, user => 'me:s3cret%') },
	qr/proxy: Failed to connect/);
check_failure('a name that is none',
	sub { change_settings($node, 'webhooks.proxy' => 'http://none.invalid:3128') },
	sub { change_settings($node, 'webhooks.proxy' => "http://me:s3cret%25\@127.0.0.1:$proxy->{port}") },
	qr/proxy: Could not resolve proxy/);
is(value($node, q{SELECT string_agg(state, ',') FROM (SELECT DISTINCT state FROM webhooks.endpoints) s}), 'active', 'no endpoint is disabled');

# Other kinds of proxies

for my $kind ([ 'https', tls => 1 ], [ 'socks5h', socks => 1, user => 'me:s3cret' ])
{
	my ($scheme, %option) = @$kind;
	my $other = start_proxy(%option);
	my $user  = $option{user} ? "$option{user}@" : '';
	change_settings($node, 'webhooks.proxy' => "$scheme://${user}localhost:$other->{port}");
	wait_until(
		sub {
			wait_for_state($node, dispatch($node, 'tls', '{}'), 'succeeded');
			return scalar asked($other, target($tls));
		},
		"the $scheme proxy to be used");
	pass("through a $scheme proxy");
	if ($scheme eq 'socks5h')
	{
		set_rules($other, target($refused) . ' deny');
		$id = dispatch($node, 'refused', '{}');
		wait_until(sub { scalar asked($other, target($refused)) }, 'the refusal');
		pass_another();
		my $status = wait_for_state($node, $id, 'dead_letter');
		is($status->{error_class}, 'blocked_address', 'what its rules do not allow is a blocked address');
	}
}

# The setting

for my $value ('proxy.example', 'proxy.example:3128', 'http://proxy.example', 'ftp://proxy.example:21', 'socks5://proxy.example:1080',
	'http://proxy.example:3128/path', 'http://proxy.example:3128/?q', 'http://:3128', 'http://me:s3cret@proxy.example:0', 'http://me:s3cret@:3128', "http://me:s3cret\@256.0.0.1:1")
{
	my ($result, $stdout, $stderr) = $node->psql('postgres', "ALTER SYSTEM SET webhooks.proxy = '$value'");
	like($stderr, qr/ERROR:  invalid value for parameter "webhooks.proxy"$/m, "\"$value\" is refused");
	unlike($stderr, qr/s3cret/, 'without being repeated') if $value =~ /s3cret/;
}
for my $value ('', 'http://proxy.example:3128', 'https://me@proxy.example:443/', 'socks5h://[::1]:1080')
{
	my ($result, $stdout, $stderr) = $node->psql('postgres', "ALTER SYSTEM SET webhooks.proxy = '$value'");
	is($result, 0, "\"$value\" is taken");
}
$node->safe_psql('postgres', 'ALTER SYSTEM RESET webhooks.proxy; CREATE ROLE watcher LOGIN');
{
	my ($result, $stdout, $stderr) = $node->psql('postgres', 'SET ROLE watcher; SHOW webhooks.proxy');
	isnt($result, 0, 'only superusers may see it');
	is(value($node, q{SET ROLE watcher; SELECT count(*) FROM pg_settings WHERE name = 'webhooks.proxy'}), 0, 'in pg_settings neither');
}
change_settings($node, 'webhooks.proxy' => 'http://me:s3cret@proxy.example:port');
wait_until(sub { log_lines($node, qr/invalid value for parameter "webhooks.proxy"/) }, 'a bad value to be noticed');
change_settings($node, 'webhooks.proxy' => '');
wait_until(sub { log_lines($node, qr/parameter "webhooks.proxy" changed/) > 1 }, 'the changes to be logged');
is_deeply([ grep { !/ALTER SYSTEM/ } log_lines($node, qr/s3cret|wr0ng/) ], [], 'the log shows no password');
is(value($node, q{SELECT count(*) FROM webhooks.attempts WHERE error ~ 's3cret|wr0ng'}), 0, 'nor does an attempt');

is_deeply([ crashes($node) ], [], 'nothing crashed');
$node->stop;
done_testing();
