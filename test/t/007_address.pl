
# Nothing is sent to a private address unless the settings allow it: asked of the address that is
# really connected to, at every request, over kept connections too.

use strict;
use warnings;

use Test::More;
use WebhooksTest;

my $node     = start_node(conf => { 'webhooks.retry_jitter' => 0 });
my $receiver = start_receiver();

# Registered while allowed, and one connection is kept open
my ($by_address) = register_endpoint($node, $receiver->url('/x/address/ok'), event_types => q('{address}'));
my ($by_name) = register_endpoint($node, $receiver->url('/x/name/ok', 'localhost'), event_types => q('{name}'));
wait_for_state($node, dispatch($node, 'address', '{}'), 'succeeded');
wait_for_state($node, dispatch($node, 'name',    '{}'), 'succeeded');
is($receiver->count, 2, 'while allowed, both are delivered');

# Changes the policy by reload, and dispatches until a worker follows it: how soon a reload comes
# through is nobody's promise, but once it has, it holds for everything.
sub change_policy
{
	my ($networks, $type, $state) = @_;
	$node->append_conf('postgresql.conf', "webhooks.allowed_networks = '$networks'");
	$node->reload;
	my $status;
	wait_until(
		sub {
			my $event_id = dispatch($node, $type, '{}');
			wait_until(
				sub {
					($status) = rows($node, "SELECT * FROM webhooks.dispatch_status('$event_id')");
					return $status->{state} =~ /^(succeeded|dead_letter)$/;
				}, 'an end of the delivery');
			return $status->{state} eq $state;
		}, "the policy \"$networks\" to take effect");
	return $status;
}

my $status = change_policy('', 'address', 'dead_letter');
is($status->{error_class}, 'blocked_address', 'then the class is blocked_address');
is($status->{attempts}, 1, 'it is not tried again');
is($status->{last_status_code}, undef, 'there is no status');
my ($dead) = rows($node, "SELECT * FROM webhooks.dead_letters WHERE delivery_id = '$status->{delivery_id}'");
is($dead->{reason},      'blocked_address', 'and so is the reason of the dead letter');
is($dead->{error_class}, 'blocked_address', 'and its class');

{
	my $before = $receiver->count;
	for my $type (qw(address name))
	{
		value($node, "SELECT count(webhooks.dispatch('$type', '{}')) FROM generate_series(1, 20)");
	}
	wait_until(sub { queue_is_empty($node) }, 'an empty queue');
	is($receiver->count, $before, 'nothing reaches the receiver, not by a name either, nor over kept connections');
	for my $endpoint ($by_address, $by_name)
	{
		cmp_ok(value($node, "SELECT count(*) FROM webhooks.dead_letters WHERE endpoint_id = '$endpoint' AND reason = 'blocked_address'"),
			'>=', 20, 'all are dead letters');
	}
}

# Registering follows the same rules

my @forbidden = (
	(map { "http://$_/" } (
		'127.0.0.1', '127.1', '2130706433', '0x7f000001', '0177.0.0.1', '127.255.255.254', '0.0.0.0', '0',
		'10.1.2.3', '172.16.0.1', '192.168.0.1', '169.254.169.254', '100.64.0.1', '224.0.0.1', '255.255.255.255',
		'[::1]', '[::]', '[::ffff:127.0.0.1]', '[::ffff:7f00:1]', '[::127.0.0.1]', '[64:ff9b::7f00:1]', '[2002:7f00:1::]',
		'[fe80::1]', '[fc00::1]', '[fd12:3456::1]', '[ff02::1]', 'user@127.0.0.1', '127.0.0.1.')),
	'ftp://example.com/', 'file:///etc/passwd', 'gopher://127.0.0.1/', '//127.0.0.1/', 'http://', 'http:///x',
	"http://example.com/\nx", 'http://exa mple.com/', '');
for my $url (@forbidden)
{
	(my $shown = $url) =~ s/\n/\\n/;
	(my $quoted = $url) =~ s/\n/' || chr(10) || '/;
	my ($check) = rows($node, "SELECT * FROM webhooks.check_url('$quoted')");
	is($check->{allowed}, JSON::PP::false, "check_url: \"$shown\" is not allowed");
	ok(length $check->{reason}, "check_url: \"$shown\": and the reason is told");
}
{
	my ($check) = rows($node, q{SELECT * FROM webhooks.check_url('https://93.184.215.14/hook')});
	is($check->{allowed}, JSON::PP::true, 'check_url: a public address is allowed');
	my ($result, $stdout, $stderr) = $node->psql('postgres',
		"\\set VERBOSITY verbose\nSELECT webhooks.register_endpoint('http://127.0.0.1/')");
	isnt($result, 0, 'a URL that is not allowed cannot be registered');
	like($stderr, qr/ERROR:  22023: .*url/, 'with 22023 and the argument\'s name');
}

# Allowed again

change_policy('127.0.0.0/8,::1/128', 'address', 'succeeded');
my $replayed = value($node, "SELECT webhooks.replay_failed('$by_name', now() - interval '1 hour')");
cmp_ok($replayed, '>=', 20, 'what was blocked can be replayed');
wait_until(sub { queue_is_empty($node) }, 'an empty queue');
is(value($node, "SELECT count(*) FROM webhooks.dead_letters WHERE endpoint_id = '$by_name'"), 0, 'and is delivered then');
is(scalar @{ [ $receiver->requests('/x/name/ok') ] }, 1 + $replayed, 'to the receiver');

$node->stop;
done_testing();
