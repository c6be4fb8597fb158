
# Over https the peer is who its certificate says, or nothing is sent.

use strict;
use warnings;

use Test::More;
use WebhooksTest;

my $ca   = make_test_ca();
my $node = start_node(conf => { 'webhooks.ca_file' => $ca->{ca}, 'webhooks.retry_jitter' => 0 });
my $good = start_receiver(tls => $ca->{server}, name => 'good');

# A certificate by the CA in webhooks.ca_file, for a name and for an address

for my $host (qw(localhost 127.0.0.1))
{
	my ($endpoint_id, $secret) = register_endpoint($node, $good->url("/x/$host/ok", $host), event_types => "'{$host}'");
	my $event_id = dispatch($node, $host, '{"n": 1}');
	wait_for_state($node, $event_id, 'succeeded');
	my ($request) = $good->requests("/x/$host/ok");
	ok(verify_signature($request, $secret), "$host: delivered and signed");
}

# Certificates that do not hold

my %reason = (
	wrong_name  => qr/does not match|no alternative certificate subject name matches/,
	expired     => qr/certificate has expired/,
	self_signed => qr/self.signed certificate/);
for my $kind (qw(wrong_name expired self_signed))
{
	my $bad = start_receiver(tls => $ca->{$kind}, name => $kind);
	for my $host (qw(localhost 127.0.0.1))
	{
		my $type = "$kind.$host";
		register_endpoint($node, $bad->url('/ok', $host), event_types => "'{$type}'", retry_schedule => q('{100ms}'));
		my $status = wait_for_state($node, dispatch($node, $type, '{}'), 'dead_letter');
		is($status->{error_class}, 'tls', "$type: the class is tls");
		is($status->{attempts}, 2, "$type: it was tried again, for certificates get renewed");
		is($status->{last_status_code}, undef, "$type: there is no status");
		like($status->{last_error}, $reason{$kind}, "$type: the error says why");
	}
	is($bad->count, 0, "$kind: nothing was sent");
	$bad->stop;
}

# TLS against a receiver that does not speak it

{
	my $plain = start_receiver(name => 'plain');
	(my $url = $plain->url('/ok')) =~ s/^http:/https:/;
	register_endpoint($node, $url, event_types => q('{plain}'), retry_schedule => q('{}'));
	my $status = wait_for_state($node, dispatch($node, 'plain', '{}'), 'dead_letter');
	is($status->{error_class}, 'tls', 'no TLS there: the class is tls');
	like($status->{last_error}, qr/wrong version number|packet length too long|record/, q{no TLS there: with OpenSSL's reason});
	is(scalar(grep { !$_->{malformed} } $plain->requests), 0, 'and nothing was sent in the clear');
}

# TLS of a version that is not safe any more

{
	my $url = start_tls_server($ca->{server}, '-tls1_1', '-cipher', 'DEFAULT@SECLEVEL=0');
	register_endpoint($node, $url, event_types => q('{old}'), retry_schedule => q('{}'));
	my $status = wait_for_state($node, dispatch($node, 'old', '{}'), 'dead_letter');
	is($status->{error_class}, 'tls', 'TLS 1.1: the class is tls');
	like($status->{last_error}, qr/protocol version/, q{TLS 1.1: with OpenSSL's reason});
}

# Connections are kept: a handshake is what costs

{
	my ($endpoint_id, $secret) = register_endpoint($node, $good->url('/x/many/ok'), event_types => q('{many}'));
	value($node, q{SELECT count(webhooks.dispatch('many', jsonb_build_object('n', n))) FROM generate_series(1, 1000) n});
	my @requests = $good->wait_for_requests(1000, 30, '/x/many/ok');
	my %connections = map { $_->{connection} => 1 } @requests;
	cmp_ok(scalar keys %connections, '<=', 40, '1,000 requests share few connections');
	is(scalar(grep { !verify_signature($_, $secret) } @requests), 0, 'and all are signed');
	wait_until(sub { queue_is_empty($node) }, 'an empty queue');
	is(scalar @{ [ $good->requests('/x/many/ok') ] }, 1000, 'and none comes twice');
}

# And so are TLS sessions, by connections that are made later, whichever request makes them

{
	my $fresh = start_receiver(tls => $ca->{server}, name => 'fresh');
	register_endpoint($node, $fresh->url('/x/first/ok'),       event_types => q('{first}'));
	register_endpoint($node, $fresh->url('/x/burst/delay/1'), event_types => q('{burst}'));
	wait_for_state($node, dispatch($node, 'first', '{}'), 'succeeded');
	value($node, q{SELECT count(webhooks.dispatch('burst', '{}')) FROM generate_series(1, 10)});
	my @requests = $fresh->wait_for_requests(11);
	my %first;
	$first{ $_->{connection} } //= $_ for @requests;
	my $number = $requests[0]{connection};
	ok(!$requests[0]{tls_resumed}, 'the first connection makes a TLS session');
	cmp_ok(scalar keys %first, '>=', 5, 'ten requests at once take several connections');
	my $later   = grep { $_ != $number } keys %first;
	my $resumed = grep { $_ != $number && $first{$_}{tls_resumed} } keys %first;
	if (libcurl_major() < 8)
	{
		is($resumed, $later, 'which all resume it');
	}
	else	# a ticket is used once: RFC 8446, C.4
	{
		cmp_ok($resumed, '>=', 1, 'which resume it as far as there are tickets');
	}
}

# Kept connections that the receiver has closed cost no attempt

{
	my $restarted = start_receiver(tls => $ca->{server}, name => 'restarted');
	register_endpoint($node, $restarted->url('/x/before/delay/0.5'), event_types => q('{restarted}'));
	value($node, q{SELECT count(webhooks.dispatch('restarted', '{}')) FROM generate_series(1, 10)});
	wait_until(sub { queue_is_empty($node) }, 'an empty queue');
	$restarted->stop;
	my $again = start_receiver(tls => $ca->{server}, port => $restarted->port, name => 'again');
	value($node, q{SELECT count(webhooks.dispatch('restarted', '{}')) FROM generate_series(1, 10)});
	wait_until(sub { queue_is_empty($node) }, 'an empty queue');
	is($again->count, 10, 'a receiver that has restarted gets what follows');
	is(value($node, q{SELECT count(*) FROM webhooks.delivery_log WHERE event_type = 'restarted' AND outcome = 'succeeded' AND attempt = 1}), 20,
		'at the first attempt');
}

# The CA is not one of those that the system trusts

{
	$node->append_conf('postgresql.conf', "webhooks.ca_file = ''");
	$node->restart;
	my $before = $good->count;
	register_endpoint($node, $good->url('/x/unknown/ok'), event_types => q('{unknown}'), retry_schedule => q('{}'));
	my $status = wait_for_state($node, dispatch($node, 'unknown', '{}'), 'dead_letter');
	is($status->{error_class}, 'tls', 'an unknown CA: the class is tls');
	like($status->{last_error}, qr/unable to get local issuer certificate|self.signed certificate/, q{an unknown CA: with OpenSSL's reason});
	is($good->count, $before, 'an unknown CA: nothing was sent');

	# A file that cannot be read is none to trust by; whoever set it made a mistake for which nothing is to be given up
	change_settings($node, 'webhooks.ca_file' => '/nonexistent/ca.crt');
	register_endpoint($node, $good->url('/x/waiting/ok'), event_types => q('{waiting}'), retry_schedule => q('{}'));
	wait_until(sub { value($node, 'SHOW webhooks.ca_file') eq '/nonexistent/ca.crt' }, 'the setting');
	my $event = dispatch($node, 'waiting', '{}');
	wait_until(sub { log_lines($node, qr{requests have to wait: .*/nonexistent/ca\.crt}) }, 'a line in the log that names the file');
	is(join(' ', map { "$_->{state} $_->{attempts}" } rows($node, "SELECT * FROM webhooks.dispatch_status('$event')")), 'pending 0',
		'no CA file: the delivery waits');
	is($good->count, $before, 'no CA file: nothing was sent');
	change_settings($node, 'webhooks.ca_file' => $ca->{ca});
	is(wait_for_state($node, $event, 'succeeded')->{attempts}, 1, 'and is sent when there is one again, at its first attempt');
}

$node->stop;
done_testing();
