
# Requests that the worker sent verify with the libraries that receivers use, and messages that the libraries made
# verify in SQL; altered ones do not. test/check installs the libraries.

use strict;
use warnings;

use Cwd qw(abs_path);
use Encode ();
use File::Basename qw(dirname);
use IPC::Run ();
use JSON::PP ();
use Test::More;
use WebhooksTest;

my $interop  = abs_path(dirname(__FILE__) . '/../interop');
my $json     = JSON::PP->new->canonical->utf8;
my $node     = start_node();
my $receiver = start_receiver();
my $body     = qq({"type": "price.changed", "id": "evt_1", "data": {"price": "12 \x{20ac}"}});

die "the libraries are not there: test/check installs them into $interop\n" unless -d "$interop/node_modules/svix";

# Has the libraries answer, one answer a message.
sub ask
{
	my (@messages) = @_;
	my ($in, $out, $err) = (join('', map { $json->encode($_) . "\n" } @messages), '', '');
	IPC::Run::run([ 'node', "$interop/interop.js" ], \$in, \$out, \$err, IPC::Run::timeout(120)) or die "interop.js failed: $err\n";
	return map { $json->decode($_) } split /\n/, $out;
}

sub quote
{
	my ($text) = @_;
	$text =~ s/'/''/g;
	return "'$text'";
}

# Flips one bit in the middle, of a character beside which another of the kind stands.
sub altered
{
	my ($text) = @_;
	my $at = int(length($text) / 2);
	substr($text, $at, 1) = chr(ord(substr $text, $at, 1) ^ 1);
	return $text;
}

sub sql
{
	my ($query) = @_;
	return value($node, Encode::encode_utf8($query));
}

# What the worker sends

my $private = 'whsk_' . MIME::Base64::encode_base64(join('', map { chr(7 * $_) } 1 .. 32), '');
my %secret;
my %id;
my @all = qw(v1 v1a stripe github x-webhook rfc9421);

for my $endpoint ((map { [ $_, $_ ] } @all), [ 'rfc9421-ed25519', 'rfc9421', $private ], [ 'several', join(',', @all) ])
{
	my ($name, $schemes, $given) = @$endpoint;
	@{id}{$name} = ();
	($id{$name}, $secret{$name}) = register_endpoint($node, $receiver->url("/x/$name/ok?a=b%20c"), event_types => quote('{price.changed}'),
		signature_schemes => quote("{$schemes}"), defined $given ? (secret => quote($given)) : ());
}
my ($none) = register_endpoint($node, $receiver->url('/x/none/ok'), event_types => quote('{price.changed}'), signature_schemes => quote('{none}'));
my %public = map { $_ => value($node, "SELECT webhooks.public_key('$id{$_}')") } qw(v1a rfc9421-ed25519 several);

# The request that an event made to an endpoint, as a library gets it.
sub request
{
	my ($event_id, $name) = @_;
	my $found;
	wait_until(sub { ($found) = grep { $_->{path} eq "/x/$name/ok" && $_->{headers}{'webhook-id'} eq $event_id } $receiver->requests; return $found },
		"the request of $name");
	return {
		headers => $found->{headers},
		url     => $receiver->url("/x/$name/ok?a=b%20c"),
		body    => Encode::decode_utf8(WebhooksTest::Receiver::body_bytes($found)) };
}

my %library = (
	v1        => [qw(standardwebhooks svix)],
	v1a       => ['v1a'],
	stripe    => ['stripe'],
	github    => ['octokit'],
	'x-webhook' => ['x-webhook'],
	rfc9421   => ['http-message-signatures']);

# Checks that each of the libraries takes the request, and takes neither an altered body nor another secret.
sub check_sent
{
	my ($request, $checks, $what) = @_;
	my @asked = map { my ($scheme, $secret) = @$_; map { { do => 'verify', library => $_, secret => $secret, %$request } } @{ $library{$scheme} } } @$checks;
	my %altered = (body => altered($request->{body}));
	my @answers = ask(@asked, (map { { %$_, %altered } } @asked),
		map { { %$_, secret => $_->{secret} =~ /^whpk_/ ? 'whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=' : 'whsec_' . 'A' x 44 } } @asked);
	for my $i (0 .. $#asked)
	{
		ok($answers[$i]{valid}, "$asked[$i]{library} verifies $what") or diag($answers[$i]{reason} // 'it does not', $json->encode($request));
		ok(!$answers[ $i + @asked ]{valid}, "$asked[$i]{library} does not when the body is altered");
		ok(!$answers[ $i + 2 * @asked ]{valid}, "$asked[$i]{library} does not with another secret");
	}
	return;
}

my $event_id = dispatch($node, 'price.changed', Encode::encode_utf8(qq({"price": "12 \x{20ac}"})));
for my $scheme (@all)
{
	check_sent(request($event_id, $scheme), [ [ $scheme, $public{$scheme} // $secret{$scheme} ] ], "a request signed $scheme");
}
check_sent(request($event_id, 'rfc9421-ed25519'), [ [ 'rfc9421', $public{'rfc9421-ed25519'} ] ], 'a request signed rfc9421 with Ed25519');
my @shared = grep { $_ ne 'v1a' } @all;
check_sent(request($event_id, 'several'), [ [ v1a => $public{several} ], [ rfc9421 => $public{several} ], map { [ $_, $secret{several} ] } @shared ],
	'a request signed by all schemes');
{
	my $headers = request($event_id, 'none')->{headers};
	is_deeply([ grep { /signature|digest/ } sort keys %$headers ], [], 'a request signed by none has no signature');
	is($headers->{'webhook-id'}, $event_id, 'but its id');
	is(request($event_id, 'x-webhook')->{headers}{'x-webhook-event'}, 'price.changed', 'x-webhook tells the event type');
}

# While a secret is replaced, a receiver may know either; where a header takes one signature it is the new one's.

my $new = value($node, "SELECT webhooks.rotate_secret('$id{several}')");
my $new_public = value($node, "SELECT webhooks.public_key('$id{several}')");
$event_id = dispatch($node, 'price.changed', '{}');
my $rotated = request($event_id, 'several');
check_sent($rotated, [ [ v1a => $new_public ], [ rfc9421 => $new_public ], map { [ $_, $new ] } @shared ], 'a request during a rotation by the new secret');
check_sent($rotated, [ [ v1a => $public{several} ], [ rfc9421 => $public{several} ], map { [ $_, $secret{several} ] } qw(v1 stripe rfc9421) ], 'and by the old one');

# What the libraries sign

my $shared = 'whsec_' . MIME::Base64::encode_base64(join('', map { chr(5 * $_) } 1 .. 32), '');
my $key = value($node, "SELECT webhooks.public_key(endpoint_id) FROM webhooks.register_endpoint('https://example.com/', signature_schemes => '{v1a}', secret => '$private')");
my $url = 'https://example.com/hooks?a=b';
my @made = (
	[ 'standardwebhooks', 'v1', $shared ], [ 'svix', 'v1', $shared ], [ 'v1a', 'v1a', $private, $key ], [ 'stripe', 'stripe', 'whsec_as.stripe.has.it' ],
	[ 'octokit', 'github', 'It is a secret' ], [ 'x-webhook', 'x-webhook', 'It is a secret' ],
	[ 'http-message-signatures', 'rfc9421', $shared ], [ 'http-message-signatures', 'rfc9421', $private, $key ]);
my @messages = ask(map { { do => 'sign', library => $_->[0], secret => $_->[2], id => "msg_$_->[0]", url => $url, body => $body } } @made);

for my $i (0 .. $#made)
{
	my ($library, $scheme, $signer, $verifier) = @{ $made[$i] };
	$verifier //= $signer;
	my %headers = (%{ $messages[$i]{headers} }, $scheme eq 'rfc9421' ? ('@method' => 'POST', '@target-uri' => $url) : ());
	my $encode = sub { return quote(Encode::decode_utf8($json->encode($_[0]))) };
	my $verify = sub {
		my ($h, $b) = @_;
		return sql('SELECT webhooks.verify(' . quote($verifier) . ', ' . $encode->($h) . ', ' . quote($b) . ", scheme => '$scheme')");
	};

	is($verify->(\%headers, $body), 't', "verify takes what $library signed by $scheme");
	is($verify->(\%headers, altered($body)), 'f', 'and not when a bit of the body is another');
	# what a signature covers, and is not there itself
	my @covered = grep { !/^x-(github|webhook)-(delivery|event|id)$/ } sort keys %headers;
	is_deeply([ grep { $verify->({ %headers, $_ => altered($headers{$_}) }, $body) eq 't' } @covered ], [], "nor of @covered");

	my $source = "source $i";
	sql("SELECT webhooks.add_source('$source', " . quote($verifier) . ", '$scheme')");
	my $receive = sub { my ($b) = @_; return "webhooks.receive('$source', " . $encode->(\%headers) . ', ' . quote($b) . ')' };
	my $id = $scheme eq 'stripe' ? 'evt_1' : "msg_$library";
	is(sql('SELECT message_id, event_type, is_new FROM ' . $receive->($body)),
		join('|', $id, $scheme eq 'github' ? 'push' : $scheme eq 'x-webhook' ? 'a.b' : 'price.changed', 't'), 'receive takes it as new');
	is(sql('SELECT is_new FROM ' . $receive->($body)), 'f', 'once');
	my ($result, undef, $stderr) = $node->psql('postgres', Encode::encode_utf8('\set VERBOSITY verbose' . "\n" . 'SELECT ' . $receive->(altered($body))));
	like($stderr, qr/ERROR:  28000: the message's signature is not valid\n/, 'and refuses an altered one');
}

is_deeply([ crashes($node) ], [], 'nothing crashed');
$node->stop;
done_testing();
