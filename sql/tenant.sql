-- Tenants: a session confined to one by webhooks.tenant_id sees and touches that one alone.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
-- Two tenants and none, each with an endpoint, a dead letter and an event.
SELECT endpoint_id AS a FROM webhooks.register_endpoint('https://localhost:9/', tenant_id => 'a', description => 'A') \gset
SELECT endpoint_id AS b FROM webhooks.register_endpoint('https://localhost:9/', tenant_id => 'b', description => 'B') \gset
SELECT endpoint_id AS n FROM webhooks.register_endpoint('https://localhost:9/', description => 'N') \gset
SELECT webhooks.dispatch('e', '{}', 'a') AS event_a, webhooks.dispatch('e', '{}', 'b') AS event_b, webhooks.dispatch('e', '{}') AS event_n \gset
CALL webhooks.deliver_due();
SELECT delivery_id AS dead_a FROM webhooks.dead_letters WHERE tenant_id = 'a' \gset
SELECT delivery_id AS dead_b FROM webhooks.dead_letters WHERE tenant_id = 'b' \gset
SELECT tenant_id, count(*) FROM webhooks.deliveries GROUP BY tenant_id ORDER BY tenant_id;
CREATE FUNCTION receivers(event uuid) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(e.description, ' ' ORDER BY e.endpoint_id), 'none')
	FROM webhooks.queue q JOIN webhooks.endpoints e USING (endpoint_id) WHERE q.event_id = event
$$;

SELECT current_user AS superuser \gset
SET webhooks.tenant_id = 'a';

-- It dispatches and registers for its own tenant, whether it names it or not.
SELECT webhooks.dispatch('e', '{}') AS e1, webhooks.dispatch('e', '{}', 'a') AS e2 \gset
SELECT receivers(:'e1'), receivers(:'e2');
SELECT tenant_id, count(*) FROM webhooks.events WHERE event_id IN (:'e1', :'e2') GROUP BY 1;
SELECT endpoint_id AS a2 FROM webhooks.register_endpoint('https://localhost:9/', description => 'A2') \gset
SELECT endpoint_id AS a3 FROM webhooks.register_endpoint('https://localhost:9/', tenant_id => 'a', description => 'A3') \gset
SELECT tenant_id, count(*) FROM webhooks.endpoints WHERE endpoint_id IN (:'a2', :'a3') GROUP BY 1;

-- Naming another tenant, none included, is refused.
SELECT t, tried(format('SELECT webhooks.dispatch(''e'', ''{}'', %L)', t)), tried(format('SELECT webhooks.register_endpoint(''https://localhost:9/'', tenant_id => %L)', t))
FROM unnest('{b,"",A,aa,"a "}'::text[]) t;

-- Another tenant's objects are not there for it.
SELECT tried(format('SELECT webhooks.dispatch(''e'', ''{}'', endpoint_ids => ARRAY[%L]::uuid[])', id)) FROM unnest(ARRAY[:'b', :'n']) id;
SELECT f, tried(format('SELECT webhooks.%s(%L)', f, :'b')), tried(format('SELECT webhooks.%s(%L)', f, :'n'))
FROM unnest('{pause_endpoint,resume_endpoint,disable_endpoint,enable_endpoint,remove_endpoint,rotate_secret}'::text[]) f;
SELECT tried(format('SELECT webhooks.replay_failed(%L, ''-infinity'')', :'b'));
SELECT f, tried(format('SELECT webhooks.%s(%L)', f, :'dead_b')) FROM unnest('{replay_delivery,discard_dead_letter}'::text[]) f;
SELECT tried(format('SELECT webhooks.dispatch_status(%L)', e)) FROM unnest(ARRAY[:'event_b', :'event_n']) e;

-- Its own are.
SELECT f, tried(format('SELECT webhooks.%s(%L)', f, :'a'))
FROM unnest('{pause_endpoint,resume_endpoint,disable_endpoint,enable_endpoint,rotate_secret}'::text[]) f;
SELECT state, error_class FROM webhooks.dispatch_status(:'event_a');
SELECT webhooks.replay_delivery(:'dead_a') = :'dead_a';
RESET webhooks.tenant_id;
CALL webhooks.deliver_due();
SET webhooks.tenant_id = 'a';
SELECT webhooks.replay_failed(:'a', '-infinity');
RESET webhooks.tenant_id;
CALL webhooks.deliver_due();
SET webhooks.tenant_id = 'a';
SELECT tried(format('SELECT webhooks.discard_dead_letter(%L)', :'dead_a')), tried(format('SELECT webhooks.remove_endpoint(%L)', :'a'));

-- Nothing of the others changed.
RESET webhooks.tenant_id;
SELECT description, state, (SELECT count(*) FROM webhooks.endpoint_secrets s WHERE s.endpoint_id = e.endpoint_id),
	(SELECT string_agg(d.state, ' ') FROM webhooks.deliveries d WHERE d.endpoint_id = e.endpoint_id)
FROM webhooks.endpoints e WHERE tenant_id <> 'a' ORDER BY endpoint_id;

-- A session that changes its tenant goes on with the new one's endpoints.
SET webhooks.tenant_id = 'b';
SELECT receivers(webhooks.dispatch('e', '{}'));
SET webhooks.tenant_id = 'c';
SELECT receivers(webhooks.dispatch('e', '{}'));
SET webhooks.tenant_id = '';
SELECT receivers(webhooks.dispatch('e', '{}')), receivers(webhooks.dispatch('e', '{}', 'b'));

-- It belongs to superusers and to whom it was granted; ALTER ROLE gives it to a role for good.
CREATE ROLE regress_webhooks_b LOGIN;
GRANT USAGE ON SCHEMA webhooks TO regress_webhooks_b;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA webhooks TO regress_webhooks_b;
SET ROLE regress_webhooks_b;
SET webhooks.tenant_id = 'a';
SELECT tried('SELECT set_config(''webhooks.tenant_id'', ''a'', true)');
RESET ROLE;
ALTER ROLE regress_webhooks_b SET webhooks.tenant_id = 'b';
\c - regress_webhooks_b
SHOW webhooks.tenant_id;
SET webhooks.tenant_id = 'a';
RESET webhooks.tenant_id;
SHOW webhooks.tenant_id;
SELECT webhooks.dispatch('e', '{}') AS e3 \gset
SELECT state FROM webhooks.dispatch_status(:'e3');
SELECT webhooks.dispatch('e', '{}', 'a');
\c - :superuser
GRANT SET ON PARAMETER webhooks.tenant_id TO regress_webhooks_b;
SET ROLE regress_webhooks_b;
SET webhooks.tenant_id = 'c';
SHOW webhooks.tenant_id;
RESET ROLE;
REVOKE SET ON PARAMETER webhooks.tenant_id FROM regress_webhooks_b;
DROP OWNED BY regress_webhooks_b;
DROP ROLE regress_webhooks_b;

-- A tenant longer than any can be is no tenant: two of them must not share their endpoints.
RESET webhooks.tenant_id;
SELECT count(webhooks.register_endpoint('https://localhost:9/', tenant_id => repeat('x', 255), description => 'X'));
SELECT set_config('webhooks.tenant_id', repeat('x', 255), false) = repeat('x', 255);
SELECT receivers(webhooks.dispatch('e', '{}'));
SELECT left(tried($$SELECT set_config('webhooks.tenant_id', repeat('x', 256), false), webhooks.dispatch('e', '{}')$$), 5);
RESET webhooks.tenant_id;

CALL leave_nothing();
DROP FUNCTION receivers(uuid);
