-- Operational events: who gets them, what they say, and what is notified. (Those of workers: t/053_operational.pl.)
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
CREATE FUNCTION queued() RETURNS TABLE (receiver text, event_type text, data text) LANGUAGE sql AS $$
	SELECT ep.description, ev.event_type, replace(ev.payload::text, f.endpoint_id::text, '<failing>')
	FROM webhooks.queue q JOIN webhooks.events ev USING (event_id) JOIN webhooks.endpoints ep USING (endpoint_id),
		(SELECT endpoint_id FROM webhooks.endpoints WHERE description = 'failing') f
	ORDER BY q.event_id, ep.endpoint_id
$$;
SELECT endpoint_id AS id FROM webhooks.register_endpoint('https://example.com/failing', '{*,webhooks.*}', description => 'failing') \gset
SELECT count(*) FROM (VALUES ('star', '{*}'::text[], ''), ('exact', '{webhooks.endpoint_disabled}', ''), ('another', '{webhooks.endpoint_failing}', ''),
	('prefix', '{webhooks.*}', ''), ('stranger', '{webhooks.*}', 'acme')) v(name, types, tenant),
	LATERAL webhooks.register_endpoint('https://example.com/' || name, types, tenant, name);

-- Disabled by hand: told to those of the tenant that name it; not to a bare *, to another tenant's, nor to the endpoint itself.
SELECT webhooks.disable_endpoint(:'id');
SELECT * FROM queued();
-- another reason is no news
SELECT webhooks.disable_endpoint(:'id', 'a customer''s wish');
SELECT count(*) FROM queued();
SELECT webhooks.enable_endpoint(:'id');
SELECT failing_since, alerted_at, counted_from IS NOT NULL FROM webhooks.endpoint_health WHERE endpoint_id = :'id';
SELECT webhooks.disable_endpoint(:'id', 'a "customer''s" wish');
SELECT count(*), max(data) FROM queued();
SELECT webhooks.enable_endpoint(:'id');

-- Rolled back, it was not.
BEGIN;
SELECT webhooks.disable_endpoint(:'id');
ROLLBACK;
SELECT count(*) FROM queued();

-- Nobody asked: nothing is stored.
TRUNCATE webhooks.queue, webhooks.events;
SELECT endpoint_id AS alone FROM webhooks.register_endpoint('https://example.com/alone', '{*}', 'lonely') \gset
SELECT webhooks.disable_endpoint(:'alone');
SELECT count(*) FROM webhooks.events;

-- A reason that would not fit into a notification is cut there, and whole in the event and the endpoint.
SELECT webhooks.disable_endpoint(:'id', repeat('é', 5000));
SELECT length(disabled_reason), (SELECT bool_and(length(payload ->> 'reason') = 5000) FROM webhooks.events) FROM webhooks.endpoints WHERE endpoint_id = :'id';

-- Ping: to one endpoint, whatever it subscribed to; queued while paused; not while disabled.
TRUNCATE webhooks.queue, webhooks.events;
SELECT webhooks.enable_endpoint(:'id');
SELECT webhooks.ping_endpoint(:'id') AS ping \gset
SELECT *, (SELECT event_id = :'ping' FROM webhooks.events) FROM queued();
SELECT webhooks.pause_endpoint(:'id'), count(webhooks.ping_endpoint(:'id'));
SELECT state FROM webhooks.deliveries WHERE event_type = 'webhooks.ping';
SELECT webhooks.disable_endpoint(:'id');
SELECT tried(format('SELECT webhooks.ping_endpoint(%L)', :'id')), tried('SELECT webhooks.ping_endpoint(NULL)'), tried(format('SELECT webhooks.ping_endpoint(%L)', gen_random_uuid()));
SET webhooks.tenant_id = 'acme';
SELECT tried(format('SELECT webhooks.ping_endpoint(%L)', :'id'));
RESET webhooks.tenant_id;

-- What is remembered of an endpoint goes with it.
SELECT webhooks.enable_endpoint(:'id');
SELECT count(*) FROM webhooks.endpoint_health WHERE endpoint_id = :'id';
SELECT webhooks.remove_endpoint(:'id');
SELECT count(*) FROM webhooks.endpoint_health WHERE endpoint_id = :'id';

CALL leave_nothing();
DROP FUNCTION queued();
