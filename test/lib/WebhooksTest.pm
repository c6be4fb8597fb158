
# What the tests share: a server with the extension, a real receiver, certificates, and waiting
# for a condition with a bound. Whatever is started here is stopped at the end of the test, by its pid.

package WebhooksTest;

use strict;
use warnings;

use Cwd qw(abs_path);
use Digest::SHA qw(hmac_sha256);
use Encode ();
use Exporter 'import';
use File::Basename qw(dirname);
use IO::Socket::INET ();
use JSON::PP   ();
use MIME::Base64 qw(decode_base64 encode_base64);
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(
  start_node start_receiver start_tls_server wait_until change_settings
  rows value register_endpoint dispatch worker_pids queue_is_empty wait_for_state log_lines crashes
  sign_v1 verify_signature
  make_test_ca libcurl_major
);

use constant {
	POLL_SECONDS    => 0.02,
	DEFAULT_TIMEOUT => 30,
	TEST_SECONDS    => 600,
};

my @receivers;

# A test that hangs must end as a failure, with its server stopped: dying runs the END blocks.
$SIG{ALRM} = sub { die 'the test took longer than ' . TEST_SECONDS . " seconds\n" };
$SIG{$_} = sub { die "ended by a signal\n" }
  for qw(INT TERM HUP);
alarm TEST_SECONDS;

END
{
	my $status = $?;
	alarm 0;
	$_->stop for @receivers;
	$? = $status;
}

# Waiting

# Calls $condition every 20 ms until it gives something true, which is returned. Dies when that
# takes longer than $timeout seconds: everything after it in the test would only fail again. $what
# is for the message; it may be a sub, called at that time.
sub wait_until
{
	my ($condition, $what, $timeout) = @_;
	my $end = time + ($timeout // DEFAULT_TIMEOUT);

	while (1)
	{
		my $last = time >= $end;
		my $result = $condition->();
		return $result if $result;
		if ($last)
		{
			my $message = 'timed out waiting for ' . (ref $what ? $what->() : $what);
			diag($message);
			die "$message\n";
		}
		sleep POLL_SECONDS;
	}
}

# The server

# Options: name; conf (hash of settings, undef drops one of the defaults); preload (default 1);
# create_extension (default 1); start (default 1); init (list, for the Cluster's init).
sub start_node
{
	my (%option) = @_;
	my $node = PostgreSQL::Test::Cluster->new($option{name} // 'main');
	my $preload = $option{preload} // 1;
	my %conf = (
		'listen_addresses'          => '',
		'max_worker_processes'      => 16,
		'webhooks.allow_http'       => 'on',
		'webhooks.allowed_networks' => '127.0.0.0/8,::1/128',
		$preload ? ('shared_preload_libraries' => 'webhooks') : (),
		%{ $option{conf} // {} });

	$node->init(@{ $option{init} // [] });
	$node->append_conf('postgresql.conf',
		join("\n", map { "$_ = '$conf{$_}'" } grep { defined $conf{$_} } sort keys %conf));
	return $node unless $option{start} // 1;

	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION webhooks') if $option{create_extension} // 1;
	return $node;
}

# Changes settings by a reload. Processes take note of it a moment later.
sub change_settings
{
	my ($node, %conf) = @_;
	$node->append_conf('postgresql.conf', join "\n", map { "$_ = '$conf{$_}'" } sort keys %conf);
	$node->reload;
	return;
}

# A query's rows, as a list of hashes: JSON's types and NULLs come through whole.
sub rows
{
	my ($node, $query, $database) = @_;
	my $json = $node->safe_psql($database // 'postgres',
		"SELECT coalesce(json_agg(whole_row), '[]') FROM ($query) AS whole_row");

	return @{ JSON::PP->new->decode(Encode::decode_utf8($json)) };
}

# The one value of a query's one row.
sub value
{
	my ($node, $query, $database) = @_;
	return $node->safe_psql($database // 'postgres', $query);
}

sub literal
{
	my ($text) = @_;
	return 'NULL' unless defined $text;
	$text =~ s/'/''/g;
	return "'$text'";
}

# Further arguments as name => SQL expression. Gives endpoint_id and secret.
sub register_endpoint
{
	my ($node, $url, %argument) = @_;
	my $arguments = join ', ', 'url => ' . literal($url), map { "$_ => $argument{$_}" } sort keys %argument;
	my ($row) = rows($node, "SELECT * FROM webhooks.register_endpoint($arguments)");
	return ($row->{endpoint_id}, $row->{secret});
}

# Dispatches in a transaction of its own; $payload is JSON text. Gives the event's id.
sub dispatch
{
	my ($node, $event_type, $payload, %argument) = @_;
	my $arguments = join ', ', literal($event_type), literal($payload // '{}'),
	  map { "$_ => $argument{$_}" } sort keys %argument;
	return value($node, "SELECT webhooks.dispatch($arguments)");
}

# The workers that serve a database; in others one may come up just to find no extension.
sub worker_pids
{
	my ($node, $database) = @_;
	$database //= 'postgres';
	return split /\n/, value($node, sprintf(
		q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'webhooks worker' AND datname = %s ORDER BY pid},
		literal($database)));
}

sub queue_is_empty
{
	my ($node) = @_;
	return value($node, 'SELECT NOT EXISTS (SELECT FROM webhooks.queue)') eq 't';
}

# The event's one delivery, as dispatch_status tells it, once its state is $state.
sub wait_for_state
{
	my ($node, $event_id, $state, $timeout) = @_;
	my $status;

	wait_until(
		sub {
			($status) = rows($node, "SELECT * FROM webhooks.dispatch_status('$event_id')");
			return $status && $status->{state} eq $state;
		},
		sub { "$event_id to be $state; it is " . JSON::PP->new->canonical->encode($status // {}) },
		$timeout);
	return $status;
}

# The lines of the server's log that match.
sub log_lines
{
	my ($node, $pattern) = @_;
	return grep { /$pattern/ } split /\n/, slurp_file($node->logfile);
}

# What the server's log tells of processes that crashed: to be nothing.
sub crashes
{
	my ($node) = @_;
	return log_lines($node, qr/terminated by signal|PANIC|TRAP/);
}

# Signatures, made without any of the extension's code

# Standard Webhooks: the HMAC-SHA256 over id.timestamp.body, in base64. $body is bytes.
sub sign_v1
{
	my ($secret, $id, $timestamp, $body) = @_;
	(my $key = $secret) =~ s/^whsec_//;
	return 'v1,' . encode_base64(hmac_sha256("$id.$timestamp.$body", decode_base64($key)), '');
}

# Whether one of the request's signatures is by this secret, over the bytes that were received.
sub verify_signature
{
	my ($request, $secret, $prefix) = @_;
	my %header = %{ $request->{headers} };
	my ($id, $timestamp, $signatures) = @header{ map { ($prefix // 'webhook-') . $_ } qw(id timestamp signature) };

	return 0 unless defined $id && defined $timestamp && defined $signatures;
	return 0 unless $timestamp =~ /^[0-9]{10}$/ && abs($timestamp - $request->{time}) < 60;
	my $expected = sign_v1($secret, $id, $timestamp, WebhooksTest::Receiver::body_bytes($request));
	return scalar grep { $_ eq $expected } split / /, $signatures;
}

# The receiver

# Options: tls => [cert, key], client_ca, http2, host, port, name. Gives an object, see below.
sub start_receiver
{
	my $receiver = WebhooksTest::Receiver->new(@_);
	push @receivers, $receiver;
	return $receiver;
}

# A server of OpenSSL's own: for failures of TLS, of which it tells the other side as it should. Arguments are
# the [certificate, key] and further options of openssl s_server. Gives its URL.
sub start_tls_server
{
	my ($pair, @options) = @_;
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	my $pid = fork // die "could not fork: $!";
	if ($pid == 0)
	{
		open STDIN,  '<', '/dev/null';
		open STDOUT, '>', '/dev/null';
		open STDERR, '>', '/dev/null';
		no warnings 'exec';
		exec 'openssl', 's_server', '-accept', "127.0.0.1:$port", '-cert', $pair->[0], '-key', $pair->[1], '-www', @options;
		POSIX::_exit(1);
	}
	push @receivers, bless { pid => $pid }, 'WebhooksTest::Receiver';
	wait_until(sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) }, 'openssl s_server');
	return "https://127.0.0.1:$port/";
}

# Of the libcurl that the extension is built with: some of what a test expects is libcurl's own
sub libcurl_major
{
	my ($major) = `pkg-config --modversion libcurl` =~ /^(\d+)/ or die 'pkg-config does not know libcurl';
	return $major;
}

# Certificates

my $ca_config = <<'END';
[ca]
default_ca = test_ca
[test_ca]
database = DIR/index
new_certs_dir = DIR
serial = DIR/serial
certificate = DIR/ca.crt
private_key = DIR/ca.key
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
[req]
distinguished_name = name
prompt = no
[name]
commonName = localhost
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[here]
subjectAltName = DNS:localhost, DNS:*.names.test, IP:127.0.0.1, IP:::1
[elsewhere]
subjectAltName = DNS:other.example
[client]
extendedKeyUsage = clientAuth
END

# Makes a CA and certificates in a directory that goes with the test, and gives the paths:
# ca; server, expired, wrong_name, self_signed, client and client2, each [certificate, key].
sub make_test_ca
{
	my $dir = PostgreSQL::Test::Utils::tempdir();
	(my $config = $ca_config) =~ s/DIR/$dir/g;
	append_to_file("$dir/openssl.cnf", $config);
	append_to_file("$dir/index",       '');
	append_to_file("$dir/serial",      "1000\n");

	my @new_key = qw(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes);
	my %certificate = (ca => "$dir/ca.crt");
	my $self_signed = sub {
		my ($name, $extensions) = @_;
		system_or_bail('openssl', 'req', '-x509', '-config', "$dir/openssl.cnf", @new_key, '-days', 30,
			'-subj', "/CN=$name", '-extensions', $extensions, '-keyout', "$dir/$name.key", '-out', "$dir/$name.crt");
	};
	my $signed = sub {
		my ($name, $extensions, @validity) = @_;
		system_or_bail('openssl', 'req', '-new', '-config', "$dir/openssl.cnf", @new_key,
			'-subj', "/CN=$name", '-keyout', "$dir/$name.key", '-out', "$dir/$name.csr");
		system_or_bail('openssl', 'ca', '-config', "$dir/openssl.cnf", '-batch', '-notext', '-extensions', $extensions,
			@validity, '-in', "$dir/$name.csr", '-out', "$dir/$name.crt");
		$certificate{$name} = [ "$dir/$name.crt", "$dir/$name.key" ];
	};

	$self_signed->('ca',          'authority');
	$self_signed->('self_signed', 'here');
	$certificate{self_signed} = [ "$dir/self_signed.crt", "$dir/self_signed.key" ];
	$signed->('server',     'here',      '-days',      30);
	$signed->('wrong_name', 'elsewhere', '-days',      30);
	$signed->('client',     'client',    '-days',      30);
	$signed->('client2',    'client',    '-days',      30);
	$signed->('expired',    'here',      '-startdate', '20200101000000Z', '-enddate', '20200201000000Z');
	return \%certificate;
}


# A running receiver. Its log is read as it grows; each line is parsed once.
package WebhooksTest::Receiver;

use HTTP::Tiny ();
use MIME::Base64 qw(decode_base64);
use Time::HiRes qw(sleep time);

my $count = 0;

sub new
{
	my ($class, %option) = @_;
	my $name = sprintf '%s_%s_%d', $PostgreSQL::Test::Utils::test_logfile =~ m{regress_log_([^/]+)$},
	  $option{name} // 'receiver', $count++;
	my $base = "$PostgreSQL::Test::Utils::tmp_check/$name";
	my $self = bless {
		scheme   => $option{tls} ? 'https' : 'http',
		host     => $option{host} // '127.0.0.1',
		log      => "$base.requests",
		requests => [],
		offset   => 0,
		json     => JSON::PP->new->utf8,
	}, $class;
	my @command = (
		Cwd::abs_path(File::Basename::dirname(__FILE__) . ($option{http2} ? '/../receiver-h2' : '/../receiver')),
		'--host'     => $self->{host},
		'--port'     => $option{port} // 0,
		'--log'      => $self->{log},
		'--pid-file' => "$base.pid",
		'--port-file' => "$base.port",
		$option{tls}       ? ('--tls', @{ $option{tls} }) : (),
		$option{client_ca} ? ('--client-ca', $option{client_ca}) : ());

	unlink $self->{log}, "$base.port", "$base.pid";
	$self->{pid} = fork // die "could not fork: $!";
	if (!$self->{pid})
	{
		# No END block of the test may run in the child, whatever happens to it.
		open STDIN,  '<', '/dev/null';
		open STDOUT, '>', "$PostgreSQL::Test::Utils::log_path/$name.log";
		open STDERR, '>&', \*STDOUT;
		{ no warnings 'exec'; exec @command; }
		print STDERR "could not run $command[0]: $!\n";
		require POSIX;
		POSIX::_exit(1);
	}
	my $ok = eval {
		WebhooksTest::wait_until(
			sub {
				die "the receiver ended at once, see $name.log\n"
				  if waitpid($self->{pid}, POSIX_WNOHANG()) == $self->{pid};
				return -s "$base.port";
			},
			'the receiver to listen');
	};
	if (!$ok)
	{
		my $error = $@;
		$self->stop;
		die $error;
	}
	chomp($self->{port} = PostgreSQL::Test::Utils::slurp_file("$base.port"));
	return $self;
}

sub POSIX_WNOHANG { require POSIX; return POSIX::WNOHANG(); }

sub port { return $_[0]{port} }
sub pid  { return $_[0]{pid} }

# $host stands in for the receiver's own when given, such as "localhost".
sub url
{
	my ($self, $path, $host) = @_;
	$host //= $self->{host} =~ /:/ ? "[$self->{host}]" : $self->{host};
	return "$self->{scheme}://$host:$self->{port}$path";
}

# Makes a request of the test's own, which is logged as others are.
sub get
{
	my ($self, $path) = @_;
	my $response = HTTP::Tiny->new->get($self->url($path));
	die "$path: $response->{status} $response->{reason}\n" unless $response->{success};
	return;
}

# All requests logged so far, in order; with a path (a string or a pattern) only those.
sub requests
{
	my ($self, $path) = @_;
	$self->read_log;
	my @requests = @{ $self->{requests} };
	return @requests unless defined $path;
	return ref $path
	  ? grep { defined $_->{path} && $_->{path} =~ $path } @requests
	  : grep { defined $_->{path} && $_->{path} eq $path } @requests;
}

sub read_log
{
	my ($self) = @_;
	open my $file, '<:raw', $self->{log} or return;
	seek $file, $self->{offset}, 0;
	while (my $line = <$file>)
	{
		# A line that is still being written is read the next time.
		last unless $line =~ /\n\z/;
		$self->{offset} += length $line;
		push @{ $self->{requests} }, $self->{json}->decode($line);
	}
	close $file;
	return;
}

# How many requests were logged so far: cheap, where requests() parses them all.
sub count
{
	my ($self) = @_;
	$self->{counted} //= { offset => 0, lines => 0 };
	open my $file, '<:raw', $self->{log} or return 0;
	seek $file, $self->{counted}{offset}, 0;
	while (read $file, my $chunk, 1 << 20)
	{
		$self->{counted}{offset} += length $chunk;
		$self->{counted}{lines} += $chunk =~ tr/\n//;
	}
	close $file;
	return $self->{counted}{lines};
}

# Waits until there are at least that many requests (to that path), and gives them.
sub wait_for_requests
{
	my ($self, $n, $timeout, $path) = @_;
	my @requests;
	my $where = defined $path ? " to $path" : '';
	WebhooksTest::wait_until(
		sub { @requests = $self->requests($path); return @requests >= $n },
		"$n requests$where", $timeout);
	return @requests;
}

# The requests by their webhook-id: a hash of lists.
sub by_webhook_id
{
	my ($self, $path) = @_;
	my %by_id;
	push @{ $by_id{ $_->{headers}{'webhook-id'} // '' } }, $_ for $self->requests($path);
	return \%by_id;
}

# How many requests there were for each delivery, which is an event on a path.
sub by_delivery
{
	my ($self, $path) = @_;
	my %count;
	$count{ ($_->{headers}{'webhook-id'} // '') . " $_->{path}" }++ for $self->requests($path);
	return \%count;
}

# A request's body as the bytes that came over the wire.
sub body_bytes
{
	my ($request) = @_;
	return $request->{body_base64} ? decode_base64($request->{body}) : Encode::encode_utf8($request->{body});
}

sub stop
{
	my ($self) = @_;
	my $pid = delete $self->{pid} or return;
	my $end = time + 5;

	kill 'TERM', $pid;
	while (waitpid($pid, POSIX_WNOHANG()) == 0)
	{
		kill 'KILL', $pid if time > $end;
		sleep 0.02;
	}
	return;
}

1;
