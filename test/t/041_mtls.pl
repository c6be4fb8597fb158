
# A receiver that asks for a client's certificate is shown the endpoint's, and no other's.

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;
use WebhooksTest;

my $ca   = make_test_ca();
my $dir  = PostgreSQL::Test::Utils::tempdir();
my $node = start_node(conf => { 'webhooks.ca_file' => $ca->{ca}, 'webhooks.max_in_flight_per_endpoint' => 8 });
my $receiver = start_receiver(tls => $ca->{server}, client_ca => $ca->{ca}, name => 'mutual');
my ($server_certificate, $server_key) = map { slurp_file($_) } @{ $ca->{server} };
my %pem = map { $_ => [ map { slurp_file($_) } @{ $ca->{$_} } ] } qw(client client2);

sub quoted { return "'$_[0]'" }

# Each endpoint at one host and port with its own

my %endpoint;
for my $name (qw(client client2))
{
	($endpoint{$name}) = register_endpoint($node, $receiver->url("/x/$name/ok"), event_types => "'{$name,both}'",
		client_certificate => quoted($pem{$name}[0]), client_key => quoted($pem{$name}[1]));
}
register_endpoint($node, $receiver->url('/x/none/ok'), event_types => q('{none,both}'), retry_schedule => q('{}'));

value($node, q{SELECT count(webhooks.dispatch('both', '{}')) FROM generate_series(1, 100)});
wait_until(sub { queue_is_empty($node) }, 'an empty queue');
for my $name (qw(client client2))
{
	my @requests = $receiver->requests("/x/$name/ok");
	is(scalar @requests, 100, "$name: all its requests came");
	is(scalar(grep { ($_->{client_subject}{commonName} // '') ne $name } @requests), 0, "$name: with its certificate");
}
my %subjects;
$subjects{ $_->{connection} }{ $_->{client_subject}{commonName} } = 1 for $receiver->requests;
is(scalar(grep { keys %$_ > 1 } values %subjects), 0, 'no connection is shared by two certificates');
cmp_ok(scalar keys %subjects, '<', 60, 'those of one are kept and used again');

is(scalar $receiver->requests('/x/none/ok'), 0, 'none: nothing was sent without a certificate');

# Without a certificate, and with one by a CA that the receiver does not know: by TLS 1.3, where the receiver says
# so only after the handshake, and by TLS 1.2

{
	my ($certificate, $key) = map { quoted(slurp_file($_)) } @{ $ca->{self_signed} };
	for my $version (qw(tls1_3 tls1_2))
	{
		my $url = start_tls_server($ca->{server}, '-Verify', 1, '-verify_return_error', '-CAfile', $ca->{ca}, "-$version");
		register_endpoint($node, $url, event_types => "'{$version}'", retry_schedule => q('{}'));
		register_endpoint($node, $url, event_types => "'{$version.stranger}'", retry_schedule => q('{}'),
			client_certificate => $certificate, client_key => $key);
		my $without = wait_for_state($node, dispatch($node, $version, '{}'), 'dead_letter');
		is($without->{error_class}, 'tls', "$version, no certificate: the class is tls");
		like($without->{last_error}, qr/certificate required|handshake failure|bad certificate/, "$version, no certificate: with OpenSSL's reason");
		my $stranger = wait_for_state($node, dispatch($node, "$version.stranger", '{}'), 'dead_letter');
		is($stranger->{error_class}, 'tls', "$version, an unknown CA: the class is tls");
		like($stranger->{last_error}, qr/unknown ca/, "$version, an unknown CA: with OpenSSL's reason");
	}
}

# A chain: the certificate first, then what is between it and the CA

{
	my $chain = $pem{client}[0] . slurp_file($ca->{ca});
	register_endpoint($node, $receiver->url('/x/chain/ok'), event_types => q('{chain}'),
		client_certificate => quoted($chain), client_key => quoted($pem{client}[1]));
	wait_for_state($node, dispatch($node, 'chain', '{}'), 'succeeded');
	is(($receiver->requests('/x/chain/ok'))[0]{client_subject}{commonName}, 'client', 'a chain: its first certificate is shown');
}

# The certificate can be read, its key cannot

is(value($node, "SELECT client_certificate = '$pem{client}[0]' FROM webhooks.endpoints WHERE endpoint_id = '$endpoint{client}'"), 't', 'the certificate can be read');
is(value($node, "SELECT count(*) FROM webhooks.endpoints e WHERE e::text ~ 'PRIVATE'"), 0, 'no key can');
is(value($node, q{SELECT count(*) FROM webhooks.endpoint_secrets WHERE kind = 'client_key'}), 5, 'the keys are among the secrets');

# What is lost is not gone without: deliveries wait

{
	value($node, "DELETE FROM webhooks.endpoint_secrets WHERE endpoint_id = '$endpoint{client2}' AND kind = 'client_key'");
	my $before = $receiver->count;
	my $event_id = dispatch($node, 'client2', '{}');
	wait_until(sub { log_lines($node, qr/$endpoint{client2} is held: the key of its client certificate is missing/) }, 'word of the missing key');
	is(value($node, "SELECT state FROM webhooks.dispatch_status('$event_id')"), 'pending', 'without its key the endpoint is held');
	is($receiver->count, $before, 'and nothing is sent');
}

# What is refused, and that no message shows the key

{
	my ($certificate, $key) = @{ $pem{client} };
	my $other_key = $pem{client2}[1];
	system_or_bail('openssl', 'pkcs8', '-topk8', '-in', $ca->{client}[1], '-passout', 'pass:swordfish', '-out', "$dir/encrypted.key");
	my $encrypted = slurp_file("$dir/encrypted.key");
	my $broken_key = join "\n", map { /^-/ ? $_ : '!' . substr($_, 1) } split /\n/, $key;
	(my $broken = $certificate) =~ s/^M.{20}/M/m;
	my $key_body = (grep { !/^-/ } split /\n/, $key)[0];
	my @refused = (
		[ 'no key',                $certificate, undef, qr/client_key must not be NULL/ ],
		[ 'no certificate',        undef, $key, qr/client_certificate must not be NULL/ ],
		[ 'no PEM',                'x', $key, qr/client_certificate must be one or several certificates in PEM.*OpenSSL says: no start line/s ],
		[ 'a broken certificate',  $broken, $key, qr/client_certificate must be one or several certificates in PEM.*OpenSSL says/s ],
		[ 'junk in the chain',     $certificate . $broken, $key, qr/client_certificate must be one or several certificates in PEM/ ],
		[ 'a long chain',          $certificate x 11, $key, qr/client_certificate must have at most 10 certificates/ ],
		[ 'too large',             $certificate . ('x' x 65536), $key, qr/at most 65536 bytes/ ],
		[ 'the key beside it',     "$certificate$key", $key, qr/client_certificate must not contain a private key/ ],
		[ 'another key',           $certificate, $other_key, qr/client_key must be the key of client_certificate.*OpenSSL says: key values mismatch/s ],
		[ 'an encrypted key',      $certificate, $encrypted, qr/client_key must not be encrypted/ ],
		[ 'no key in PEM',         $certificate, 'x', qr/client_key must be a private key in PEM/ ],
		[ 'a broken key',          $certificate, $broken_key, qr/client_key must be a private key in PEM/ ],
		[ 'a certificate as key',  $certificate, $certificate, qr/client_key must be a private key in PEM/ ]);
	for my $case (@refused)
	{
		my ($name, $c, $k, $message) = @$case;
		my ($status, $out, $err) = $node->psql('postgres', sprintf(
			q{SELECT webhooks.register_endpoint('https://example.com/', client_certificate => %s, client_key => %s)},
			map { defined $_ ? quoted($_) : 'NULL' } $c, $k), extra_params => [ '--set=VERBOSITY=default' ]);
		$err =~ s/^(?:LINE|.*STATEMENT).*//ms;
		like($err, $message, "refused: $name");
		unlike($err, qr/\Q$key_body\E/, "$name: the key is not shown");
	}
	is(value($node, q{SELECT count(*) FROM webhooks.endpoints WHERE url ~ 'example.com'}), 0, 'nothing was registered');
}

is(crashes($node), 0, 'no process crashed');
$node->stop;
done_testing();
