
# What is sent of an event: in each payload_format and api_version, as raw bytes, with the event's own headers. The signature is over the
# bytes sent, which are the same on every attempt.

use strict;
use warnings;

use IPC::Run;
use Test::More;
use WebhooksTest;

my $node = start_node(conf => { 'webhooks.retry_jitter' => 0 });
my $receiver = start_receiver();
my $json = JSON::PP->new->utf8->canonical;

sub body { return WebhooksTest::Receiver::body_bytes($_[0]) }

# The one request to a path.
sub request_to
{
	my ($path) = @_;
	my ($request) = $receiver->wait_for_requests(1, 30, $path);
	return $request;
}

# What the schema says of bodies, a line each.
sub validate
{
	my @bodies = @_;
	my ($out, $err) = ('', '');
	IPC::Run::run([ Cwd::abs_path(File::Basename::dirname(__FILE__) . '/../cloudevents/validate') ],
		\join('', map { "$_\n" } @bodies), \$out, \$err) or die $err;
	return split /\n/, $out;
}

# One event in every format

my %secret;
{
	value($node, q{
		CREATE FUNCTION public.v1(event_type text, payload jsonb) RETURNS jsonb LANGUAGE sql RETURN jsonb_build_object('old', payload->'id');
		CREATE FUNCTION public.v2(event_type text, payload jsonb) RETURNS jsonb LANGUAGE sql RETURN to_jsonb(event_type);
		SELECT webhooks.register_api_version('2025-01-01', 'v1(text,jsonb)'), webhooks.register_api_version('2026-01-01', 'v2(text,jsonb)')});
	for my $format (qw(standard raw cloudevents))
	{
		for my $version ('', '2025-01-01', '2026-01-01')
		{
			my $path = "/x/$format$version/by-id/503,200";
			(undef, $secret{$path}) = register_endpoint($node, $receiver->url($path), event_types => q('{order.paid}'),
				tenant_id => q('a/b ü'), payload_format => "'$format'", retry_schedule => q('{50ms}'),
				$version ? (api_version => "'$version'") : ());
		}
	}
	my $payload = '{"id": 7, "name": "ü\u0001"}';
	my $id = dispatch($node, 'order.paid', $payload, tenant_id => q('a/b ü'), occurred_at => q('2026-11-27 01:02:03.5Z'));
	wait_until(sub { queue_is_empty($node) }, 'an empty queue');

	my $at = '2026-11-27T01:02:03.500000Z';
	my %data = ('' => $payload, '2025-01-01' => '{"old": 7}', '2026-01-01' => '"order.paid"');
	for my $version (sort keys %data)
	{
		my $labelled = $version ? qq(,"api_version":"$version") : '';
		my %expected = (
			standard => qq({"type":"order.paid","timestamp":"$at"$labelled,"data":$data{$version}}),
			raw => $data{$version},
			cloudevents => qq({"specversion":"1.0","id":"$id","source":"/webhooks/a%2Fb%20%C3%BC","type":"order.paid",)
			  . qq("time":"$at","datacontenttype":"application/json","data":$data{$version}}));
		for my $format (sort keys %expected)
		{
			my $path = "/x/$format$version/by-id/503,200";
			my @requests = $receiver->requests($path);
			is_deeply([ map { body($_) } @requests ], [ ($expected{$format}) x 2 ], "$format $version, the same bytes on both attempts");
			is($requests[0]{headers}{'content-type'}, $format eq 'cloudevents' ? 'application/cloudevents+json' : 'application/json', 'its content type');
			ok(verify_signature($_, $secret{$path}), 'signed') for @requests;
		}
	}
}

# CloudEvents are valid by their schema

{
	my @tenants = ('', 'acme', 'a b/c?d#e"f\\g', 'ünï', '%41', '..');
	for my $tenant (@tenants)
	{
		register_endpoint($node, $receiver->url('/x/schema/ok'), event_types => q('{ce}'), tenant_id => "'$tenant'", payload_format => q('cloudevents'));
		value($node, qq{SELECT webhooks.dispatch('ce', p::jsonb, tenant_id => '$tenant')
			FROM unnest('{"{}","[1, \\"x\\"]","null","\\"text\\"",1.5,true}'::text[]) p});
	}
	value($node, q{SELECT webhooks.dispatch('ce', '{}', occurred_at => t) FROM unnest('{0001-01-01 00:00+00,9999-12-31 23:59:59.999999+00}'::timestamptz[]) t});
	my @bodies = map { body($_) } $receiver->wait_for_requests(@tenants * 6 + 2, 30, '/x/schema/ok');
	is_deeply([ validate(@bodies) ], [ ('valid') x @bodies ], 'CloudEvents are valid, whatever the tenant and the data');
	my %sources = map { $json->decode($_)->{source} => 1 } @bodies;
	is(scalar keys %sources, scalar @tenants, 'tenants have sources of their own');
	my $broken = $json->decode($bodies[0]);
	delete $broken->{id};
	isnt((validate($json->encode($broken)))[0], 'valid', 'a CloudEvent without an id is not');
	isnt((validate($json->encode({ %{ $json->decode($bodies[0]) }, source => 'a b' })))[0], 'valid', 'nor one with a bad source');
	isnt((validate($json->encode({ %{ $json->decode($bodies[0]) }, time => '2026-13-01T00:00:00Z' })))[0], 'valid', 'nor one with a bad time');
}

# Raw bodies

{
	my %body = ('application/json' => '7b2022622220203a312c2261223a20325c75303066667d', 'application/octet-stream' => '00ff0d0a0080fe', 'text/plain; charset=utf-8' => '');
	for my $format (qw(standard raw cloudevents))
	{
		(undef, $secret{$format}) = register_endpoint($node, $receiver->url("/x/bytes-$format/by-id/503,200"), event_types => q('{bytes}'),
			payload_format => "'$format'", api_version => q('2025-01-01'), retry_schedule => q('{50ms}'));
	}
	my %id = map { $_ => value($node, "SELECT webhooks.dispatch_raw('bytes', '\\x$body{$_}', '$_')") } sort keys %body;
	wait_until(sub { queue_is_empty($node) }, 'an empty queue');
	for my $format (qw(standard raw cloudevents))
	{
		my $by_id = $receiver->by_webhook_id("/x/bytes-$format/by-id/503,200");
		for my $type (sort keys %body)
		{
			my @requests = @{ $by_id->{ $id{$type} } };
			is_deeply([ map { unpack 'H*', body($_) } @requests ], [ ($body{$type}) x 2 ], "exactly the bytes of $type, where $format is wanted");
			is($requests[0]{headers}{'content-type'}, $type, 'with their content type');
			ok(verify_signature($_, $secret{$format}), 'signed') for @requests;
		}
	}
}

# An event's headers

{
	register_endpoint($node, $receiver->url('/x/headers/ok'), event_types => q('{headers}'),
		headers => q('{"X-Both": "endpoint", "X-Endpoint": "1", "Authorization": "Bearer endpoint"}'));
	dispatch($node, 'headers', '1', headers => q('{"x-both": "event", "X-Event": "2", "X-Empty": "", "authorization": "Bearer event"}'));
	dispatch($node, 'headers', '2');
	value($node, q{SELECT webhooks.dispatch_raw('headers', '3', headers => '{"X-Event": "3"}')});
	my %by_data = map { (body($_) =~ /"data":(\d)/ ? $1 : 3) => $_->{headers} } $receiver->wait_for_requests(3, 30, '/x/headers/ok');
	my @names = qw(x-both x-endpoint x-event x-empty authorization);
	is_deeply([ map { $by_data{1}{$_} } @names ], [ 'event', 1, 2, '', 'Bearer event' ], 'an event\'s headers override the endpoint\'s of the same name, in any case');
	is_deeply([ map { $by_data{2}{$_} } @names ], [ 'endpoint', 1, undef, undef, 'Bearer endpoint' ], 'and are that event\'s alone');
	is_deeply([ map { $by_data{3}{$_} } @names ], [ 'endpoint', 1, 3, undef, 'Bearer endpoint' ], 'a raw event has them, too');
	is(value($node, q{SELECT count(*) FROM webhooks.events ev WHERE ev::text LIKE '%Bearer%'}), 0, 'the value of Authorization stands in no column of the event');
	value($node, q{SELECT webhooks.replay_event(event_id) FROM webhooks.event_secrets});
	is(($receiver->wait_for_requests(4, 30, '/x/headers/ok'))[-1]{headers}{authorization}, 'Bearer event', 'a replay has it, too');

	# one whose value was lost is not sent without it
	value($node, q{ALTER SYSTEM SET webhooks.enabled = off}); value($node, 'SELECT pg_reload_conf()');
	my $id = value($node, q{
		BEGIN;
		CREATE TEMPORARY TABLE lost ON COMMIT DROP AS SELECT webhooks.dispatch('headers', '4', headers => '{"Authorization": "Bearer lost"}') AS id;
		DELETE FROM webhooks.event_secrets WHERE event_id = (SELECT id FROM lost);
		SELECT id FROM lost;
		COMMIT});
	value($node, q{ALTER SYSTEM RESET webhooks.enabled}); value($node, 'SELECT pg_reload_conf()');
	wait_until(sub { log_lines($node, qr/the Authorization header of event $id cannot be read/) }, 'a line in the log');
	wait_until(sub { value($node, "SELECT due_at > now() + interval '30 min' FROM webhooks.queue WHERE event_id = '$id'") eq 't' }, 'the delivery to be put off');
	is(scalar(grep { body($_) =~ /"data":4/ } $receiver->requests('/x/headers/ok')), 0, 'an event whose Authorization cannot be read is not sent');
}

# An endpoint that wants a version which an event does not have

{
	my ($endpoint) = register_endpoint($node, $receiver->url('/x/late/ok'), event_types => q('{late}'));
	value($node, "SELECT webhooks.pause_endpoint('$endpoint')");
	dispatch($node, 'late', '{"id": 1}');
	value($node, "UPDATE webhooks.endpoints SET api_version = '2025-01-01', state = 'active' WHERE endpoint_id = '$endpoint'");
	like(body(request_to('/x/late/ok')), qr/Z","data":\{"id": 1\}\}$/, 'what was dispatched before is sent as it is, and claims no version');
}

# A crash

{
	my $id = dispatch($node, 'crash', '1', idempotency_key => q('k'));
	$node->stop('immediate');
	$node->start;
	is(dispatch($node, 'crash', '1', idempotency_key => q('k')), $id, 'an idempotency key survives a crash');
	is_deeply([ grep { !/immediate shutdown|SIGQUIT/ } crashes($node) ], [], 'nothing else crashed');
}

$node->stop;
done_testing();
