
# Events from tables as a receiver sees them: a backfill while the table changes ends with the newest state of every row, also when it is
# interrupted; and a watched table is dumped and restored with its watch.

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhooksTest;

use constant {
	ROWS     => 400,
	SESSIONS => 3,
};

my $node     = start_node(conf => { 'webhooks.retry_jitter' => 0, 'deadlock_timeout' => '50ms' });
my $receiver = start_receiver();
my $psql     = sub { [ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-c', $_[0] ] };

# What a receiver that applies each event as it comes ends with: the rows by their id.
sub applied
{
	my ($path) = @_;
	my %rows;
	for my $request ($receiver->requests($path))
	{
		my $event = JSON::PP->new->decode($request->{body});
		my $row = $event->{data}{object};
		if   ($event->{type} =~ /\.deleted$/) { delete $rows{ $row->{id} } }
		else                                  { $rows{ $row->{id} } = $row }
	}
	return \%rows;
}

sub present
{
	return { map { $_->{id} => $_ } rows($node, 'SELECT * FROM items') };
}

sub wait_for_empty_queue { wait_until(sub { queue_is_empty($node) }, 'an empty queue', 120); return; }

# A table with rows that nobody was told of, and sessions that change those with odd ids: each transaction several rows, in any order, and
# now and then for longer than a batch takes.
value($node, sprintf(q{
	CREATE TABLE items (id int PRIMARY KEY, n bigint NOT NULL, note text);
	ALTER TABLE items ALTER note SET STORAGE EXTERNAL;
	INSERT INTO items SELECT i, 0, CASE WHEN i %% 50 = 0 THEN repeat('x', 10000) END FROM generate_series(1, %d) i;
	CREATE TABLE stop (now boolean);
	CREATE PROCEDURE change_items(max_id int) LANGUAGE plpgsql AS $$
	BEGIN
		WHILE NOT EXISTS (SELECT FROM stop) LOOP
			BEGIN
				FOR i IN 1 .. 3 LOOP
					UPDATE items SET n = n + 1 WHERE id = 1 + 2 * floor(random() * max_id / 2)::int;
				END LOOP;
				IF random() < 0.2 THEN
					DELETE FROM items WHERE id = 1 + 2 * floor(random() * max_id / 2)::int;
				END IF;
				IF random() < 0.2 THEN
					INSERT INTO items VALUES (1 + 2 * floor(random() * max_id * 0.55)::int, -1) ON CONFLICT (id) DO UPDATE SET n = -2;
				END IF;
				IF random() < 0.1 THEN
					PERFORM pg_sleep(0.02);
				END IF;
			EXCEPTION WHEN deadlock_detected THEN
				-- among these sessions; a transaction that changes rows in any order has to expect that
				NULL;
			END;
			COMMIT;
		END LOOP;
	END $$;
	SELECT webhooks.watch('items', 'item', ordered => true)}, ROWS));

my @changing = map { IPC::Run::start($psql->('CALL change_items(' . ROWS . ')')) } 1 .. SESSIONS;
wait_until(sub { value($node, 'SELECT count(*) > 50 FROM webhooks.events') eq 't' }, 'changes');

# The endpoint comes while they are at it

my ($endpoint) = register_endpoint($node, $receiver->url('/x/items/ok'), event_types => q('{item.*}'), ordering => q('key'));
my $backfill = "CALL webhooks.backfill('items', '$endpoint', batch_size => 10)";

# one row's order is held: the backfill comes as far as that, and is ended there
my $holder = $node->background_psql('postgres', on_error_stop => 1);
$holder->query_safe('BEGIN');
$holder->query_safe(q{SELECT webhooks.dispatch('holder', '{}', ordering_key => 'item:200')});
my $first = IPC::Run::start($psql->($backfill), '2>', \my $ignored);
wait_until(sub { value($node, q{SELECT coalesce(max(last_key[1]::int), 0) IN (198, 199) FROM webhooks.backfills}) eq 't' }, 'a part of the backfill', 60);
value($node, q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CALL webhooks.backfill%'});
$first->finish;
$holder->query_safe('ROLLBACK');
$holder->quit;
my ($state) = rows($node, 'SELECT sent, finished_at, last_key FROM webhooks.backfills');
is($state->{finished_at}, undef, 'a backfill that is interrupted is not finished');
cmp_ok($state->{sent}, '>', 50, 'and a part of the rows is through');

my ($stderr, $stdout) = ('', '');
my $ok = IPC::Run::run($psql->($backfill), '>', \$stdout, '2>', \$stderr);
is($stderr, '', 'called again it goes through, without a deadlock');
cmp_ok($stdout, '<', ROWS * 1.1 - $state->{sent} + 1, 'and goes on where it was');
isnt(value($node, 'SELECT finished_at FROM webhooks.backfills'), '', 'it is finished then');

value($node, 'INSERT INTO stop VALUES (true)');
is_deeply([ map { $_->finish ? 1 : 0 } @changing ], [ (1) x SESSIONS ], 'no session that changed the table had an error');
wait_for_empty_queue();
is_deeply(applied('/x/items/ok'), present(), 'the receiver ends with the newest state of every row');
my @sent = $receiver->requests('/x/items/ok');
is(scalar @sent, value($node, "SELECT count(*) FROM webhooks.attempts WHERE endpoint_id = '$endpoint'"), 'each request is on record');
my %snapshots;
$snapshots{ JSON::PP->new->decode($_->{body})->{data}{object}{id} }{ $_->{headers}{'webhook-id'} } = 1
  for grep { $_->{body} =~ /"type":"item\.snapshot"/ } @sent;
cmp_ok(scalar keys %snapshots, '>', ROWS / 2, 'most of them by snapshots');
is(scalar(grep { keys %$_ > 1 } values %snapshots), 0, 'no row by two');

# A transaction that changed a row before it could see an endpoint is waited for, although its event goes nowhere

{
	change_settings($node, 'webhooks.store_unmatched' => 'off');
	wait_until(sub { value($node, 'SHOW webhooks.store_unmatched') eq 'off' }, 'the setting');
	value($node, q{CREATE TABLE slow (id int PRIMARY KEY, n int); INSERT INTO slow VALUES (1, 1); SELECT webhooks.watch('slow')});
	my $session = $node->background_psql('postgres', on_error_stop => 1);
	$session->query_safe('BEGIN');
	$session->query_safe('UPDATE slow SET n = 2');
	my ($late) = register_endpoint($node, $receiver->url('/x/slow/ok'), event_types => q('{slow.*}'));
	my $waiting = IPC::Run::start($psql->("CALL webhooks.backfill('slow', '$late')"));
	wait_until(
		sub { value($node, q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CALL webhooks.backfill%' AND wait_event_type = 'Lock'}) == 1 },
		'the backfill to wait');
	$session->query_safe('COMMIT');
	ok($waiting->finish, 'a backfill waits for those who changed the table before');
	my ($request) = $receiver->wait_for_requests(1, 30, '/x/slow/ok');
	is(JSON::PP->new->decode($request->{body})->{data}{object}{n}, 2, 'and sends what they left');
	$session->quit;
	wait_for_empty_queue();
}

# A watched table is dumped and restored with its watch, its columns' names whatever they are

value($node, q{
	CREATE TABLE "Odd table" ("Key" int PRIMARY KEY, "with ""quotes"", and more" text, hidden text);
	SELECT webhooks.watch('"Odd table"', 'odd', exclude_columns => '{hidden}', tenant_column => 'with "quotes", and more', ordered => true, level => 'statement');
	CREATE TABLE parts (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);
	CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
	SELECT webhooks.watch('parts');
	INSERT INTO parts VALUES (1, 1)});
my $watched = 'SELECT w::text FROM webhooks.watched w ORDER BY relation::text';
my $backfills = 'SELECT b::text FROM webhooks.backfills b ORDER BY relation::text';
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
my @to = ('-h', $node->host, '-p', $node->port);
for my $format ('p', 'c')
{
	my $database = "restored_$format";
	command_ok([ 'pg_dump', @to, '-F', $format, '-f', "$dump.$format", 'postgres' ], "$format: dumps");
	value($node, "CREATE DATABASE $database TEMPLATE template0");
	command_ok([ $format eq 'p' ? ('psql', '-Xq', '-v', 'ON_ERROR_STOP=1', @to, '-d', $database, '-f', "$dump.p")
		: ('pg_restore', '--exit-on-error', @to, '-d', $database, "$dump.c") ], "$format: restores");
	is(value($node, $watched, $database), value($node, $watched), "$format: the watches are there");
	is(value($node, $backfills, $database), value($node, $backfills), "$format: and how far backfills are");
	is(value($node, 'SELECT count(*) FROM webhooks.events', $database), value($node, 'SELECT count(*) FROM webhooks.events'),
		"$format: the rows that were restored are no changes");
	value($node, q{
		INSERT INTO webhooks.endpoints SELECT gen_random_uuid(), 'tenant', url, '{odd.*,parts.*}', 'paused', NULL, NULL, NULL, headers, signature_schemes, payload_format, NULL, NULL, NULL, NULL, NULL, NULL, ordering, metadata FROM webhooks.endpoints LIMIT 1;
		INSERT INTO "Odd table" VALUES (7, 'tenant', 'hush');
		SET webhooks.tenant_id = 'tenant';
		UPDATE parts SET n = 2}, $database);
	is(value($node, q{SELECT event_type, ordering_key, payload FROM webhooks.events WHERE tenant_id = 'tenant' ORDER BY event_id}, $database),
		qq(odd.created|odd:7|{"object": {"Key": 7, "with \\"quotes\\", and more": "tenant"}}\n)
		  . q(parts.updated||{"object": {"n": 2, "id": 1}, "previous_attributes": {"n": 1}}),
		"$format: changes are events");
}

is_deeply([ crashes($node) ], [], 'nothing crashed');
$node->stop;
done_testing();
