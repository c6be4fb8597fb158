
# What the documentation says is so: its SQL runs, its commands are those the tests run, its settings have those
# defaults, and what it names exists.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use PostgreSQL::Test::Utils;
use Test::More;
use WebhooksTest;

my $root   = abs_path(dirname(__FILE__) . '/../..');
my $readme = slurp_file("$root/README.md");
my @files  = ("$root/README.md", sort glob "$root/doc/*.md");
my $node   = start_node(create_extension => 0, conf => { 'webhooks.allow_http' => undef, 'webhooks.allowed_networks' => undef });

# The text of a file's ```LANGUAGE blocks.
sub blocks
{
	my ($text, $language) = @_;
	return $text =~ /^```\Q$language\E\n(.*?)^```$/msg;
}

# From a heading to the next of the same or a higher level.
sub section
{
	my ($title) = @_;
	my ($text) = $readme =~ /^### \Q$title\E\n(.*?)(?=^##|\z)/ms;
	return $text // die "README.md has no section $title\n";
}

# The rows of a section's tables, each a list of cells; the rows of heads and rules are left out.
sub table_rows
{
	my ($text) = @_;
	return map { [ map { s/^\s+|\s+$//gr } (split /\|/, $_, -1)[ 1 .. 3 ] ] }
	  grep { /^\|/ && !/^\|[-| ]+\|$/ && /`/ && !/^\| `webhooks\.` /
	  } split /\n/, $text;
}

sub names
{
	my ($cell) = @_;
	return $cell =~ /`([^`]*)`/g;
}

# Settings

{
	my %told;
	for my $row (table_rows(section('Settings')))
	{
		my @names = names($row->[0]);
		my @defaults = @names == 1 ? ($row->[1]) : split /, */, $row->[1];
		@told{ map { "webhooks.$_" } @names } = map { $_ // '' } @defaults[ 0 .. $#names ];
	}
	cmp_ok(scalar keys %told, '>', 20, 'README.md tells of settings');
	my %there = map { $_->{name} => $_ } rows($node, q{
		SELECT name, current_setting(name) AS value, context FROM pg_settings WHERE name LIKE 'webhooks.%'});
	is_deeply([ sort keys %there ], [ sort keys %told ], 'they are all there are');
	is_deeply({ map { $_ => $there{$_}{value} } keys %there }, \%told, 'with these defaults');
	is_deeply([ grep { $there{$_}{context} ne 'sighup' && $_ ne 'webhooks.tenant_id' } sort keys %there ], [], 'all can be changed by a reload');
	is_deeply([ map { $_->{error} } rows($node, 'SELECT error FROM pg_file_settings WHERE error IS NOT NULL') ], [], 'and the file has no error');
}

# SQL. What it registers is on the internet: nothing may be connected to.

change_settings($node, 'webhooks.blocked_networks' => '0.0.0.0/0,::/0', 'webhooks.timeout' => '2s', 'webhooks.retry_schedule' => '');
wait_until(sub { value($node, 'SHOW webhooks.retry_schedule') eq '' }, 'the settings to be changed');
my $number = 0;

for my $file (@files)
{
	my $name = $file =~ s{^\Q$root\E/}{}r;
	my @sql = blocks(slurp_file($file), 'sql') or next;
	my $database = 'doc' . $number++;
	value($node, "CREATE DATABASE $database");
	value($node, 'CREATE EXTENSION webhooks', $database) unless "@sql" =~ /CREATE EXTENSION webhooks/;
	for my $n (0 .. $#sql)
	{
		my ($result, undef, $stderr) = $node->psql($database, $sql[$n], on_error_stop => 1, timeout => 120);
		is($result, 0, "$name: SQL block " . ($n + 1) . ' runs') or diag($sql[$n], $stderr);
	}
}

# The README's examples do what they are for.
is(value($node, q{SELECT count(*) FROM webhooks.events WHERE event_type = 'invoice.paid' AND tenant_id = 'acme' AND payload = '{"id": 1}'}, 'doc0'),
	1, 'the first webhook is dispatched');
value($node, q{INSERT INTO invoices VALUES (2, 'acme', false); UPDATE invoices SET paid = true WHERE id = 2}, 'doc0');
is(value($node, q{SELECT count(*) FROM webhooks.deliveries WHERE event_type = 'invoice.paid' AND tenant_id = 'acme'}, 'doc0'),
	2, 'and the trigger dispatches');
is(value($node, q{SELECT count(*) FROM webhooks.attempts WHERE status_code IS NOT NULL}, 'doc0'), 0, 'nothing left this machine');

# What is named exists

# Checks "name(argument, …)" and what it gives; "id" stands for the one argument that ends in it.
sub check_function
{
	my ($call, $result) = @_;
	my ($name, $arguments) = $call =~ /^(\w+)\((.*)\)$/ or return fail("$call is a call");
	my ($function) = rows($node, qq{
		SELECT proargnames, pronargs, pronargdefaults, coalesce(array_length(proallargtypes, 1), pronargs) AS all_args, prorettype::regtype AS type
		FROM pg_proc WHERE pronamespace = 'webhooks'::regnamespace AND proname = '$name' ORDER BY oid LIMIT 1}, 'doc0');
	return fail("$name exists") unless $function;

	my @told = split /, */, $arguments;
	my @there = @{ $function->{proargnames} // [] }[ 0 .. $function->{pronargs} - 1 ];
	splice @there, scalar @told if @told && $told[-1] eq '…' && pop @told;
	$_ = 'id' for grep { @there == 1 && /_id$/ && "@told" eq 'id' } @there;
	$there[0] = 'id' if @told && $told[0] eq 'id' && $there[0] =~ /_id$/;
	is_deeply(\@told, \@there, "$call has these arguments");

	my @results = @{ $function->{proargnames} // [] }[ $function->{pronargs} .. $function->{all_args} - 1 ];
	is($result, @results ? join(', ', @results) : $function->{type}, "$call gives that") if defined $result;
	return;
}

my $functions = 0;
for my $section ('Endpoints', 'Events', 'Receiving')
{
	for my $row (table_rows(section($section)))
	{
		my ($left, undef, $right) = $row->[0] =~ /^((?:(?!→).)*)(→(.*))?$/;
		my ($result) = names($right // '');
		next unless $left =~ /\(/;
		$functions++;
		check_function($_, $result) for names($left);
	}
}
cmp_ok($functions, '>=', 10, 'README.md tells of functions');

{
	my ($register) = rows($node, q{
		SELECT proargnames[1:pronargs] AS names FROM pg_proc WHERE oid = 'webhooks.register_endpoint'::regproc}, 'doc0');
	my %argument = map { $_ => 1 } @{ $register->{names} };
	my ($options) = section('Endpoints') =~ /^(Options of.*?)\n\n(?!\|)/ms;
	my @options = map { names($_->[0]) } table_rows($options);
	is_deeply([ sort 'url', @options ], [ sort keys %argument ], 'the options are those that register_endpoint has');
}

for my $name (map { names($_->[0]) } table_rows(section('What can be read')))
{
	is(value($node, "SELECT to_regclass('webhooks.$name') IS NOT NULL", 'doc0'), 't', "$name can be read");
}

for my $file (@files)
{
	my $name = $file =~ s{^\Q$root\E/}{}r;
	my @links = grep { !/^[a-z]+:/ } slurp_file($file) =~ /\]\(([^)#]+)\)/g;
	is_deeply([ grep { !-e dirname($file) . "/$_" } @links ], [], "$name: its links lead somewhere");
}

# Commands: the lines there may be, each with what shows that it works

my $common = slurp_file("$root/test/lib/common.sh");
my %command = (
	'make bench'   => sub { like(slurp_file("$root/Makefile"), qr{^bench:\n\t\$\(srcdir\)/test/bench/run$}m, 'make bench runs test/bench/run') },
	'./test/demo'  => \&check_demo,
	'./test/check' => sub { pass('test/check is what runs this') },
	'make'         => sub { like($common, qr/\bas_user make -j/, 'test/check runs make') },
	'make install' => sub { like($common, qr/\bmake .*\binstall\b/, 'test/check runs make install') });

# What takes an hour is not run here; but its words are the benchmark's own.
sub check_bench
{
	my ($line) = @_;
	my @words = split ' ', $line =~ s/ >.*//r =~ s{^test/bench/run ?}{}r;
	my ($usage, $error) = run_command(["$root/test/bench/run", '--help']);
	is_deeply([ grep { index($usage, $_) < 0 } @words ], [], 'test/bench/run knows what is named');
	return;
}

sub check_packages
{
	my ($line) = @_;
	my ($installed) = $common =~ /^PACKAGES="(.*?)"/ms;
	$installed =~ s/\$PG_MAJOR/15/g;
	my %installed = map { $_ => 1 } split ' ', $installed;
	is_deeply([ grep { !$installed{$_} } split ' ', $line =~ s/^apt-get install //r ], [], 'test/check installs the packages named');
	return;
}

sub check_demo
{
	my $dir = PostgreSQL::Test::Utils::tempdir_short();
	local $ENV{TMPDIR} = $dir;
	my $output = '';
	my $demo = IPC::Run::start(["$root/test/demo"], '<', '/dev/null', '>&', \$output, IPC::Run::timeout(180));
	my $ok = eval { $demo->finish };
	my $error = $@;
	$demo->kill_kill(grace => 30) if $error;
	ok($ok, 'test/demo runs') or diag($error, $output);
	like($output, qr/\bretrying\b.*\n.*\bsucceeded\b/, 'and shows a retry');
	is_deeply([ glob "$dir/*" ], [], 'it leaves no file');
	is_deeply([ grep { my $line = eval { slurp_file($_) } // ''; index($line, $dir) >= 0 } glob '/proc/[0-9]*/cmdline' ], [], 'and no process');
	return;
}

for my $file (@files)
{
	my $name = $file =~ s{^\Q$root\E/}{}r;
	for my $line (grep { /\S/ } map { s/\s+#.*//r } map { split /\n/ } blocks(slurp_file($file), 'sh'))
	{
		my $check = $command{$line} // 
		  ($line =~ /^apt-get install / ? \&check_packages : $line =~ m{^test/bench/run } ? \&check_bench : undef);
		ok($check, "$name: \"$line\" is a command that is tested") and $check->($line);
	}
}

$node->stop;
done_testing();
