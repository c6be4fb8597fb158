
# A bad value in postgresql.conf is refused by the reload, with what is wrong in the log, and the setting
# stays as it is; the same value is refused at ALTER SYSTEM, with the same words.

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;
use WebhooksTest;

# Of each setting: a value that is good, what is said of bad ones, and these.
my %case = (
	allow_http                 => [ 'on',          qr/requires a Boolean value/,                   'perhaps' ],
	allowed_networks           => [ '127.0.0.0/8', qr/not a network such as/,                      'localhost', '10.0.0.0/33' ],
	allowed_ports              => [ '443,8080',    qr/not a port between 1 and 65535/,             '0', '65536', '80-90' ],
	auto_disable_after         => [ '3 days',      qr/between 0 and 36500 days/,                   '-1 day', '102 years' ],
	auto_disable_dead_letters  => [ '7',           qr/outside the valid range .*\(0 .*100000\b/,   '-1', '100001' ],
	blocked_networks           => [ '10.0.0.0/8',  qr/not a network such as/,                      'localhost', '10.0.0.0/33' ],
	connect_timeout            => [ '2s',          qr/outside the valid range .*\(1 .*3600000\b/,  '0', '61min' ],
	dead_letter_retention      => [ '8 days',      qr/between 0 and 36500 days/,                   '-1 day', '102 years' ],
	enabled                    => [ 'on',          qr/requires a Boolean value/,                   'perhaps' ],
	event_catalog              => [ 'enforced',    qr/Available values: open, enforced/,           'perhaps' ],
	failing_alert              => [ '5',           qr/outside the valid range .*\(0 .*100000\b/,   '-1', '100001' ],
	header_prefix              => [ 'svix-',       qr/1 to 64 letters, digits and hyphens/,        'a b', '' ],
	idempotency_window         => [ '1 hour',      qr/between 0 and 36500 days/,                   '-1 day', '102 years' ],
	inbox_retention            => [ '7 days',      qr/between 0 and 36500 days/,                   '-1 day', '102 years' ],
	max_in_flight              => [ '100',         qr/outside the valid range .*\(1 .*2048\b/,     '0', '2049' ],
	max_in_flight_per_endpoint => [ '10',          qr/outside the valid range .*\(1 .*2048\b/,     '0', '2049' ],
	max_payload_size           => [ '1MB',         qr/outside the valid range .*\(1 .*67108864\b/, '0', '65MB' ],
	proxy                      => [ 'http://proxy.example:3128', qr/http, https or socks5h, a host, a port/, 'proxy.example', 'http://proxy.example' ],
	response_body_limit        => [ '8kB',         qr/outside the valid range .*\(0 .*1048576\b/,  '-1', '2MB' ],
	retention                  => [ '7 days',      qr/between 0 and 36500 days/,                   '-1 day', '102 years' ],
	retry_jitter               => [ '0.5',         qr/outside the valid range .*\(0 .*1\b/,        '-0.1', '1.1' ],
	retry_on                   => [ '5xx',         qr/A list of statuses/,                         '99', '1000' ],
	retry_schedule             => [ '1s,2s',       qr/not a wait between 0 and 366 days/,          '5s,soon', '367 days' ],
	store_unmatched            => [ 'off',         qr/requires a Boolean value/,                   'perhaps' ],
	timeout                    => [ '20s',         qr/outside the valid range .*\(1 .*3600000\b/,  '0', '61min' ],
	user_agent                 => [ 'acme',        qr/At most 256 printable ASCII/,                'x' x 257, "a\tb" ],
	workers                    => [ '2',           qr/outside the valid range .*\(1 .*16\b/,       '0', '17' ],
);
my @any = qw(ca_file secret_key_command secret_key_file tenant_id);	# take any text

my $node = start_node(conf => { map { ("webhooks.$_" => $case{$_}[0]) } keys %case });
is_deeply([ sort map { $_->{name} } rows($node, q{SELECT substr(name, 10) AS name FROM pg_settings WHERE name LIKE 'webhooks.%'}) ],
	[ sort keys %case, @any ], 'each setting has its case');

# A value for a test's name.
sub shown
{
	my ($value) = @_;
	return length $value > 40 || $value =~ /[^ -~]/ ? sprintf('%d characters', length $value) : $value;
}

sub settings
{
	return { map { ($_->{name} => $_->{value}) }
		  rows($node, q{SELECT name, current_setting(name) AS value FROM pg_settings WHERE name LIKE 'webhooks.%' AND name <> 'webhooks.user_agent'}) };
}
my $before = settings();

# By reload. Only the last of a setting's lines in a file counts, so each value has its turn, all settings together;
# what comes with each turn and is good tells that the file was read.

my $turns = (sort { $b <=> $a } map { scalar @{ $case{$_} } } keys %case)[0] - 2;
for my $turn (1 .. $turns)
{
	my @names = grep { defined $case{$_}[ $turn + 1 ] } sort keys %case;
	my $from = -s $node->logfile;
	change_settings($node, (map { ("webhooks.$_" => $case{$_}[ $turn + 1 ]) } @names), 'webhooks.ca_file' => "turn$turn");
	wait_until(sub { value($node, 'SHOW webhooks.ca_file') eq "turn$turn" }, 'the reload');
	my $log = substr slurp_file($node->logfile), $from;
	for my $name (@names)
	{
		my $bad = quotemeta $case{$name}[ $turn + 1 ];
		my ($message) = $log =~ /^(.*LOG: .*(?:$bad .*|parameter )"?webhooks\.$name\b.*\n(?:.*(?:DETAIL|HINT): .*\n)?)/m;
		like($message // '', $case{$name}[1], "reload: webhooks.$name = " . shown($case{$name}[ $turn + 1 ]) . ': the log tells why not');
	}
}
is_deeply({ %{ settings() }, 'webhooks.ca_file' => '' }, $before, 'all settings are as they were');
is(value($node, 'SHOW webhooks.user_agent'), 'acme', 'this one, too');

# By ALTER SYSTEM

for my $name (sort keys %case)
{
	my (undef, $message, @bad) = @{ $case{$name} };
	for my $bad (@bad)
	{
		my ($result, $stdout, $stderr) = $node->psql('postgres', "ALTER SYSTEM SET webhooks.$name = '$bad'");
		ok($result != 0 && $stderr =~ $message, "ALTER SYSTEM: webhooks.$name = " . shown($bad) . ': the same words') or diag($stderr);
	}
}
is(value($node, 'SELECT count(*) FROM pg_file_settings WHERE sourcefile LIKE \'%auto.conf\''), 0, 'and nothing is set by it');

is_deeply([ crashes($node) ], [], 'nothing crashed');
$node->stop;
done_testing();
