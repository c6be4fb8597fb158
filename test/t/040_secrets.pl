
# No secret and no payload leaves by the log, by what can be read, or by a dump; and encrypted secrets survive a
# dump, a change of keys, and a key file that is missing for a while.

use strict;
use warnings;

use MIME::Base64 qw(decode_base64 encode_base64);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhooksTest;

my $dir      = PostgreSQL::Test::Utils::tempdir();
my $key_file = "$dir/keys";
my %key      = map { $_ => encode_base64(join('', map { chr(int(rand 256)) } 1 .. 32), '') } qw(k1 k2);
my $ca       = make_test_ca();

# Replaces the key file by one with these keys.
sub write_keys
{
	my ($mode, @ids) = @_;
	unlink $key_file;
	append_to_file($key_file, join '', "# keys\n", map { "$_:$key{$_}\n" } @ids);
	chmod $mode, $key_file or die "chmod: $!";
	return;
}

sub reload
{
	my ($node) = @_;
	my $before = value($node, 'SELECT pg_conf_load_time()');
	$node->reload;
	wait_until(sub { value($node, 'SELECT pg_conf_load_time()') ne $before }, 'the reload');
	return;
}

write_keys(0600, 'k1');
my $node = start_node(
	conf => {
		'webhooks.secret_key_file'    => $key_file,
		'webhooks.retry_jitter'       => 0,
		'log_statement'               => 'all',
		'log_min_messages'            => 'debug1',
		'log_min_error_statement'     => 'error',
		'log_parameter_max_length'    => 0 });
my $receiver = start_receiver();
my ($certificate, $client_key) = map { slurp_file($_) } @{ $ca->{client} };

# Everything secret there is

my $authorization = 'Bearer ' . 'quite-secret-' . int(rand 1e9);
my $payload       = 'private-payload-' . int(rand 1e9);
my $given         = 'whsec_' . encode_base64(join('', map { chr(int(rand 256)) } 1 .. 32), '');
my ($key_body)    = grep { !/^-/ } split /\n/, $client_key;    # its later lines show the public key
my @secrets       = ($authorization, substr($authorization, 7), $given, $key{k1}, $key{k2}, $key_body);

# The values come from a file of the server's, so that no statement holds them; and a secret comes as a parameter.
append_to_file("$dir/authorization", $authorization);
append_to_file("$dir/client_key",    $client_key);
append_to_file("$dir/certificate",   $certificate);
append_to_file("$dir/payload",       qq({"what": "$payload"}));

my ($ep, $secret) = register_endpoint($node, $receiver->url('/echo-headers'), event_types => q('{a}'),
	headers            => "jsonb_build_object('Authorization', pg_read_file('$dir/authorization'))",
	client_certificate => "pg_read_file('$dir/certificate')",
	client_key         => "pg_read_file('$dir/client_key')",
	retry_schedule     => q('{100ms}'));
push @secrets, $secret;
append_to_file("$dir/rotate.sql", "SELECT webhooks.rotate_secret('$ep', '1 hour', :secret);\n");
$node->command_ok([ 'pgbench', '-n', '-M', 'extended', '-t', 1, '-D', "secret=$given", '-f', "$dir/rotate.sql", 'postgres' ],
	'a secret is given as a parameter');
push @secrets, value($node, "SELECT webhooks.rotate_secret('$ep')");

sub dispatch_payload
{
	my ($type) = @_;
	return value($node, "SELECT webhooks.dispatch('$type', pg_read_file('$dir/payload')::jsonb)");
}

wait_for_state($node, dispatch_payload('a'), 'succeeded');
my ($request) = $receiver->wait_for_requests(1);
is($request->{headers}{authorization}, $authorization, 'Authorization is sent');
is(scalar(split / /, $request->{headers}{'webhook-signature'}), 3, 'and three secrets sign, of which two are rotated out');
is(scalar(grep { verify_signature($request, $_) } $secret, $given, $secrets[-1]), 3, 'all of them with the right key');

like(value($node, q{SELECT response_body FROM webhooks.delivery_log LIMIT 1}), qr/"Authorization", "\*{10,}"/, 'what the receiver says back of it is masked');

# Failures of all kinds

register_endpoint($node, $receiver->url('/x/b/status/500'), event_types => q('{b}'), retry_schedule => q('{}'),
	headers => "jsonb_build_object('Authorization', pg_read_file('$dir/authorization'))");
register_endpoint($node, 'http://127.0.0.1:1/', event_types => q('{c}'), retry_schedule => q('{}'),
	headers => "jsonb_build_object('Authorization', pg_read_file('$dir/authorization'))");
wait_for_state($node, dispatch_payload($_), 'dead_letter') for qw(b c);
for my $bad ("headers => jsonb_build_object('Authorization', pg_read_file('$dir/authorization') || chr(10))",
	"client_certificate => pg_read_file('$dir/certificate'), client_key => pg_read_file('$dir/client_key') || repeat('x', 70000)",
	"secret => pg_read_file('$dir/authorization')")
{
	my ($status, $out, $err) = $node->psql('postgres', "SELECT webhooks.register_endpoint('https://example.com/', $bad)");
	is($status, 3, 'what is refused raises an error');
	is(scalar(grep { index($err, $_) >= 0 } @secrets), 0, 'which shows no secret');
}

# A secret that was altered, one that belongs to another, one of an unknown key: held, with a line in the log

{
	my %broken = (
		altered => q{secret = overlay(secret PLACING 'AAAA' FROM 40)},
		moved   => "secret = (SELECT secret FROM webhooks.endpoint_secrets WHERE endpoint_id = '$ep' AND kind = 'signing' AND expires_at IS NULL)",
		unknown => q{encryption_key_id = 'k9'});
	my %word = (altered => 'does not open', moved => 'does not open', unknown => 'a key that is not among those configured');
	for my $kind (sort keys %broken)
	{
		my ($id) = register_endpoint($node, $receiver->url("/x/$kind/ok"), event_types => "'{$kind}'");
		value($node, "UPDATE webhooks.endpoint_secrets SET $broken{$kind} WHERE endpoint_id = '$id' AND kind = 'signing'");
		my $event = dispatch_payload($kind);
		wait_until(sub { log_lines($node, qr/endpoint $id is held: its secret .*$word{$kind}/) }, "word of what is $kind");
		is(value($node, "SELECT state, attempts FROM webhooks.dispatch_status('$event')"), 'pending|0', "$kind: it waits, without an attempt");
		is(scalar $receiver->requests("/x/$kind/ok"), 0, "$kind: nothing was sent");
		value($node, "SELECT webhooks.rotate_secret('$id', '0')");
		wait_for_state($node, $event, 'succeeded');
	}
}

# No key: what is encrypted waits, and goes on when there is one again

for my $case ([ 'missing', sub { unlink $key_file } ], [ 'readable by all', sub { write_keys(0644, 'k1') } ],
	[ 'broken', sub { write_keys(0600); append_to_file($key_file, "k1:$key{k1}x\n") } ])
{
	my ($name, $make) = @$case;
	$make->();
	$node->rotate_logfile if $node->can('rotate_logfile');
	$node->restart;
	my $event = dispatch_payload('a');
	wait_until(sub { log_lines($node, qr/\[\d+\] LOG:  webhooks: the key that encrypts secrets cannot be had: /) }, "$name: a line in the log");
	is(value($node, "SELECT state, attempts FROM webhooks.dispatch_status('$event')"), 'pending|0', "$name: the delivery waits");
	my ($status, $out, $err) = $node->psql('postgres', q{SELECT webhooks.register_endpoint('https://example.com/')});
	like($err, qr/the key that encrypts secrets cannot be had\nDETAIL:  .*(?:No such file|group or world access|line 2 is not 32 bytes)/, "$name: registering says why it cannot");
	write_keys(0600, 'k1');
	reload($node);
	wait_for_state($node, $event, 'succeeded');
}
is(value($node, q{SELECT count(*) FROM webhooks.endpoints WHERE url ~ 'example.com'}), 0, 'nothing was registered meanwhile');

# A change of keys while deliveries go on: nothing waits for it, and the old key can go

{
	my $before = $receiver->count;
	write_keys(0600, 'k2', 'k1');
	reload($node);
	value($node, qq{SELECT count(webhooks.dispatch('a', pg_read_file('$dir/payload')::jsonb)) FROM generate_series(1, 300)});
	cmp_ok(value($node, 'SELECT webhooks.reencrypt_secrets()'), '>', 5, 'all secrets are sealed anew');
	is(value($node, 'SELECT webhooks.reencrypt_secrets()'), 0, 'and then none is left');
	value($node, qq{SELECT count(webhooks.dispatch('a', pg_read_file('$dir/payload')::jsonb)) FROM generate_series(1, 300)});
	wait_until(sub { queue_is_empty($node) }, 'an empty queue');
	is($receiver->count - $before, 600, 'all was delivered meanwhile');
	write_keys(0600, 'k2');
	$node->restart;
	is(value($node, 'SELECT webhooks.secrets_encrypted()'), 't', 'without the old key');
	wait_for_state($node, dispatch_payload('a'), 'succeeded');
	is(($receiver->requests)[-1]{headers}{authorization}, $authorization, 'all opens with the new one');
}

# Nowhere a secret, in any spelling

my @forms = map {
	my $text = $_;
	my $body = $text =~ /^whsec_(.*)/ ? $1 : undef;
	($text, defined $body ? ($body, unpack('H*', decode_base64($body))) : (), unpack('H*', $text), encode_base64($text, ''))
} @secrets;
sub shown { my ($where) = @_; return grep { index($where, $_) >= 0 } @forms }

my $log = slurp_file($node->logfile);
like($log, qr/statement: SELECT/, 'the log has the statements');
is(scalar(shown($log)), 0, 'the log has no secret');
is(index($log, $payload), -1, 'and no payload');
for my $table (qw(endpoints events event_secrets queue attempts dead_letters deliveries delivery_log))
{
	is(scalar(shown(value($node, "SELECT coalesce(string_agg(t::text, ' '), '') FROM webhooks.$table t"))), 0, "$table has no secret");
}
is(scalar(shown(value($node, q{SELECT string_agg(a::text, ' ') FROM pg_stat_activity a}))), 0, 'pg_stat_activity has none');
my $dump = "$dir/dump.sql";
$node->command_ok([ 'pg_dump', '--no-sync', '-f', $dump, 'postgres' ], 'a dump');
like(slurp_file($dump), qr/COPY webhooks\.endpoint_secrets .*\tk2/s, 'has the secrets');
is(scalar(shown(slurp_file($dump))), 0, 'but none that can be read');

# Restored beside it, with the same key, it delivers

{
	value($node, 'CREATE DATABASE restored');
	$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'restored', '-f', $dump ], 'the dump is restored');
	my $before = $receiver->count;
	value($node, q{SELECT webhooks.dispatch('a', '{"restored": true}')}, 'restored');
	my @requests = $receiver->wait_for_requests($before + 1);
	is($requests[-1]{headers}{authorization}, $authorization, 'what was restored delivers');
	ok(verify_signature($requests[-1], $secrets[-1] =~ /^whsec_/ ? $secrets[-1] : ''), 'signed');
}

is(crashes($node), 0, 'no process crashed');
$node->stop;
done_testing();
