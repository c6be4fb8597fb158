-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION webhooks" to load this file. \quit

-- JSON is sent, and signatures are made, in UTF-8 (RFC 8259, 8.1). SQL_ASCII hands on what it was given.
DO $$
BEGIN
	IF getdatabaseencoding() NOT IN ('UTF8', 'SQL_ASCII') THEN
		RAISE feature_not_supported USING
			MESSAGE = format('webhooks needs a database in UTF8, and %s is in %s', current_database(), getdatabaseencoding()),
			HINT = 'CREATE DATABASE … ENCODING ''UTF8'' TEMPLATE template0.';
	END IF;
END;
$$;

CREATE SCHEMA webhooks;
COMMENT ON SCHEMA webhooks IS 'webhooks: dispatched in a transaction, delivered by a background worker';


-- ---------------------------------------------------------------------------------------------------------------------
-- Configuration
-- ---------------------------------------------------------------------------------------------------------------------

CREATE TABLE webhooks.endpoints (
	endpoint_id uuid PRIMARY KEY,
	tenant_id text COLLATE "C" NOT NULL,
	url text NOT NULL,
	event_types text[] NOT NULL,
	state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused', 'disabled')),
	disabled_reason text,
	description text,
	filter jsonpath,
	headers jsonb NOT NULL,
	signature_schemes text[] NOT NULL,
	payload_format text NOT NULL,
	api_version text,
	retry_schedule interval[],
	retry_on text,
	timeout interval,
	rate_limit real,
	max_in_flight integer,
	ordering text NOT NULL,
	metadata jsonb NOT NULL,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	updated_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	client_certificate text,
	signing_key_id text,
	registered boolean NOT NULL DEFAULT true,
	CHECK ((state = 'disabled') = (disabled_reason IS NOT NULL))
);
CREATE INDEX endpoints_tenant_id_idx ON webhooks.endpoints (tenant_id);
CREATE INDEX endpoints_registered_idx ON webhooks.endpoints (tenant_id) WHERE registered;
CREATE INDEX endpoints_unregistered_idx ON webhooks.endpoints (created_at) WHERE NOT registered;
COMMENT ON TABLE webhooks.endpoints
IS 'where events are delivered: one row an address that subscribed; an option that is NULL follows its setting';
COMMENT ON COLUMN webhooks.endpoints.tenant_id IS 'whose endpoint it is; the empty string where no tenant was named';
COMMENT ON COLUMN webhooks.endpoints.event_types
IS 'patterns: an exact event type, * or order.* (whatever begins with "order.")';
COMMENT ON COLUMN webhooks.endpoints.state
IS 'active; paused: events go on queueing and none is sent; disabled: no new deliveries, those queued are held';
COMMENT ON COLUMN webhooks.endpoints.rate_limit IS 'requests a second; NULL for no limit';
COMMENT ON COLUMN webhooks.endpoints.retry_schedule IS 'waits between attempts; NULL follows webhooks.retry_schedule';
COMMENT ON COLUMN webhooks.endpoints.client_certificate
IS 'what the sender shows to a receiver that asks for one: PEM; its key is a secret';
COMMENT ON COLUMN webhooks.endpoints.signing_key_id
IS 'signs with this key of webhooks.signing_keys instead of a secret of its own';
COMMENT ON COLUMN webhooks.endpoints.registered
IS 'false: a target of dispatch_to_urls, which subscribes to nothing and goes when nothing needs it';

-- Apart from endpoints, so that whoever may read endpoints cannot read these.
CREATE TABLE webhooks.endpoint_secrets (
	endpoint_id uuid NOT NULL,
	secret text NOT NULL,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	expires_at timestamptz,
	kind text NOT NULL DEFAULT 'signing' CHECK (kind IN ('signing', 'authorization', 'client_key')),
	encryption_key_id text
);
CREATE INDEX endpoint_secrets_endpoint_id_idx ON webhooks.endpoint_secrets (endpoint_id);
COMMENT ON TABLE webhooks.endpoint_secrets
IS 'what requests are signed with: the current secret (expires_at is NULL) and, during a rotation''s overlap, older '
	'ones; and an endpoint''s other secrets';
COMMENT ON COLUMN webhooks.endpoint_secrets.encryption_key_id
IS 'the key with which secret is encrypted; NULL: it is stored as it is';

-- Apart from endpoints, whose rows tell sessions and workers when they change.
CREATE TABLE webhooks.endpoint_health (
	endpoint_id uuid PRIMARY KEY,
	tenant_id text COLLATE "C" NOT NULL,
	failing_since timestamptz,
	alerted_at timestamptz,
	counted_from timestamptz
);
COMMENT ON TABLE webhooks.endpoint_health
IS 'what workers remember of endpoints that fail; written when an endpoint begins or ceases to fail, not with each '
	'delivery';
COMMENT ON COLUMN webhooks.endpoint_health.failing_since
IS 'the first of nothing but failures; NULL: the last request succeeded';
COMMENT ON COLUMN webhooks.endpoint_health.alerted_at IS 'when webhooks.endpoint_failing was last raised';
COMMENT ON COLUMN webhooks.endpoint_health.counted_from
IS 'when it was last enabled: dead letters from before count no longer';

CREATE TABLE webhooks.signing_keys (
	tenant_id text COLLATE "C" NOT NULL,
	key_id text COLLATE "C" NOT NULL,
	secret text NOT NULL,
	encryption_key_id text,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	retired_at timestamptz,
	PRIMARY KEY (tenant_id, key_id)
);
COMMENT ON TABLE webhooks.signing_keys
IS 'keys that targets of dispatch_to_urls sign with; a retired one signs what was dispatched with it';

CREATE TABLE webhooks.event_types (
	name text COLLATE "C" PRIMARY KEY,
	description text,
	example jsonb,
	validator text,
	retired_at timestamptz,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE webhooks.event_types
IS 'the event catalog: with webhooks.event_catalog = enforced, dispatch takes no other types';
COMMENT ON COLUMN webhooks.event_types.validator
IS 'a function (text, jsonb), by its qualified name, which every dispatch of the type calls as its user';
COMMENT ON COLUMN webhooks.event_types.retired_at IS 'since then an enforced catalog refuses the type';

CREATE TABLE webhooks.api_versions (
	version text COLLATE "C" PRIMARY KEY,
	transform text NOT NULL,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE webhooks.api_versions IS 'the versions in which endpoints may want payloads';
COMMENT ON COLUMN webhooks.api_versions.transform
IS 'a function (text, jsonb), by its qualified name, that makes the version''s payload, called by dispatch as its user';


-- ---------------------------------------------------------------------------------------------------------------------
-- Events and deliveries
--
-- The partitioned tables have no index of their own, each partition has: an index of the parent would be dumped twice
-- and make the restore fail. The dated partitions are no members of the extension, so that pg_dump writes them out.
-- ---------------------------------------------------------------------------------------------------------------------

CREATE TABLE webhooks.events (
	event_id uuid NOT NULL,
	tenant_id text COLLATE "C" NOT NULL,
	event_type text NOT NULL,
	payload jsonb,
	occurred_at timestamptz NOT NULL,
	created_at timestamptz NOT NULL,
	ordering_key text,
	body bytea,
	content_type text,
	headers jsonb,
	versions jsonb
) PARTITION BY RANGE (event_id);
COMMENT ON TABLE webhooks.events
IS 'what was dispatched: once, however many endpoints get it; insert-only; partitioned by day (ids sort by time)';

COMMENT ON COLUMN webhooks.events.payload IS 'NULL for an event of dispatch_raw, which has a body';
COMMENT ON COLUMN webhooks.events.body IS 'the very bytes that are sent, with content_type';
COMMENT ON COLUMN webhooks.events.headers
IS 'sent with each request, beside the endpoint''s; the value of Authorization stands in event_secrets';
COMMENT ON COLUMN webhooks.events.versions IS 'the payload as endpoints with an api_version get it, by version';

CREATE TABLE webhooks.events_default PARTITION OF webhooks.events DEFAULT;
ALTER TABLE webhooks.events_default ADD PRIMARY KEY (event_id);
COMMENT ON TABLE webhooks.events_default
IS 'events that found no partition, and events past retention that a delivery still needs';

-- Apart from events, so that whoever may read events cannot read these; and few events have one.
CREATE TABLE webhooks.event_secrets (
	event_id uuid PRIMARY KEY,
	secret text NOT NULL,
	encryption_key_id text
);
COMMENT ON TABLE webhooks.event_secrets
IS 'the values of Authorization in events'' own headers; a row goes after its event';
COMMENT ON COLUMN webhooks.event_secrets.encryption_key_id
IS 'the key with which secret is encrypted; NULL: it is stored as it is';

CREATE TABLE webhooks.queue (
	delivery_id uuid PRIMARY KEY,
	event_id uuid NOT NULL,
	endpoint_id uuid NOT NULL,
	due_at timestamptz NOT NULL,
	attempts integer NOT NULL DEFAULT 0,
	lane bigint,
	expires_at timestamptz,
	coalesce_key text COLLATE "C",
	event_place tid
) WITH (autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX queue_endpoint_id_due_at_idx ON webhooks.queue (endpoint_id, due_at, delivery_id);
CREATE INDEX queue_lane_idx ON webhooks.queue (endpoint_id, lane, delivery_id) WHERE lane IS NOT NULL;
CREATE INDEX queue_expires_at_idx ON webhooks.queue (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX queue_coalesce_key_idx ON webhooks.queue (endpoint_id, coalesce_key) WHERE coalesce_key IS NOT NULL;
COMMENT ON TABLE webhooks.queue IS 'deliveries that are not finished; a row goes when its delivery ends';
COMMENT ON COLUMN webhooks.queue.attempts IS 'attempts made so far, since the dispatch or the last replay';
COMMENT ON COLUMN webhooks.queue.lane
IS 'an endpoint''s deliveries of one lane are sent one after the other, in the order of their ids; NULL: in any order';
COMMENT ON COLUMN webhooks.queue.event_place
IS 'where in its partition the event''s row was when it was dispatched, which is looked at first; NULL: unknown';

CREATE TABLE webhooks.attempts (
	delivery_id uuid NOT NULL,
	event_id uuid NOT NULL,
	endpoint_id uuid NOT NULL,
	tenant_id text COLLATE "C" NOT NULL,
	url text NOT NULL,
	attempt integer NOT NULL,
	attempted_at timestamptz NOT NULL,
	duration_ms real,
	outcome text NOT NULL,
	status_code integer,
	error_class text,
	error text,
	response_headers jsonb,
	response_body text,
	remote_address inet,
	next_attempt_at timestamptz
) PARTITION BY RANGE (attempted_at);
COMMENT ON TABLE webhooks.attempts
IS 'one row for every request made, and for every delivery cancelled; insert-only; partitioned by day';
COMMENT ON COLUMN webhooks.attempts.attempt
IS 'the first request is 1; a replay counts anew; of a cancelled delivery, the requests made before';
COMMENT ON COLUMN webhooks.attempts.outcome IS 'succeeded, retrying, dead_letter or cancelled';
COMMENT ON COLUMN webhooks.attempts.response_body
IS 'its first webhooks.response_body_limit bytes; NULs and broken UTF-8 are replaced by U+FFFD';

CREATE TABLE webhooks.attempts_default PARTITION OF webhooks.attempts DEFAULT;
CREATE INDEX attempts_default_delivery_id_idx ON webhooks.attempts_default (delivery_id);
COMMENT ON TABLE webhooks.attempts_default IS 'attempts that found no partition';

CREATE TABLE webhooks.dead_letters (
	delivery_id uuid PRIMARY KEY,
	event_id uuid NOT NULL,
	endpoint_id uuid NOT NULL,
	tenant_id text COLLATE "C" NOT NULL,
	reason text NOT NULL,
	attempts integer NOT NULL,
	last_status_code integer,
	error_class text,
	last_error text,
	dead_at timestamptz NOT NULL
);
CREATE INDEX dead_letters_endpoint_id_dead_at_idx ON webhooks.dead_letters (endpoint_id, dead_at);
CREATE INDEX dead_letters_dead_at_idx ON webhooks.dead_letters (dead_at);
COMMENT ON TABLE webhooks.dead_letters
IS 'deliveries given up, until replayed, discarded or past webhooks.dead_letter_retention';
COMMENT ON COLUMN webhooks.dead_letters.reason IS 'exhausted, permanent, gone, expired or blocked_address';

CREATE TABLE webhooks.idempotency_keys (
	tenant_id text COLLATE "C" NOT NULL,
	idempotency_key text COLLATE "C" NOT NULL,
	event_id uuid NOT NULL,
	created_at timestamptz NOT NULL,
	PRIMARY KEY (tenant_id, idempotency_key)
);
CREATE INDEX idempotency_keys_created_at_idx ON webhooks.idempotency_keys (created_at);
COMMENT ON TABLE webhooks.idempotency_keys
IS 'which event a key was first dispatched with, for webhooks.idempotency_window';

-- ---------------------------------------------------------------------------------------------------------------------
-- What came in
-- ---------------------------------------------------------------------------------------------------------------------

CREATE TABLE webhooks.sources (
	tenant_id text COLLATE "C" NOT NULL,
	name text COLLATE "C" NOT NULL,
	scheme text NOT NULL,
	tolerance interval NOT NULL,
	id_path jsonpath,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	PRIMARY KEY (tenant_id, name)
);
COMMENT ON TABLE webhooks.sources
IS 'who sends webhooks to this database, and how they are verified';
COMMENT ON COLUMN webhooks.sources.id_path
IS 'where a message''s id stands in its body; NULL: where the scheme has it';

CREATE TABLE webhooks.source_secrets (
	tenant_id text COLLATE "C" NOT NULL,
	source text COLLATE "C" NOT NULL,
	secret text NOT NULL,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	expires_at timestamptz,
	encryption_key_id text
);
CREATE INDEX source_secrets_tenant_id_source_idx ON webhooks.source_secrets (tenant_id, source);
COMMENT ON TABLE webhooks.source_secrets
IS 'what a source''s messages are verified with: the current secret (expires_at is NULL) and, during a rotation''s '
	'overlap, older ones';
COMMENT ON COLUMN webhooks.source_secrets.encryption_key_id
IS 'the key with which secret is encrypted; NULL: it is stored as it is';

CREATE TABLE webhooks.source_handlers (
	tenant_id text COLLATE "C" NOT NULL,
	source text COLLATE "C" NOT NULL,
	event_type_pattern text COLLATE "C" NOT NULL,
	handler text NOT NULL,
	PRIMARY KEY (tenant_id, source, event_type_pattern)
);
COMMENT ON TABLE webhooks.source_handlers IS 'the functions that receive calls with new messages, by event type';
COMMENT ON COLUMN webhooks.source_handlers.handler
IS 'the function''s whole name and its arguments: as text, which pg_upgrade takes and a restore in any order stands';

CREATE TABLE webhooks.inbox (
	tenant_id text COLLATE "C" NOT NULL,
	source text COLLATE "C" NOT NULL,
	message_id text COLLATE "C" NOT NULL,
	event_type text,
	headers jsonb NOT NULL,
	body bytea NOT NULL,
	payload jsonb,
	received_at timestamptz NOT NULL
) PARTITION BY RANGE (received_at);
COMMENT ON TABLE webhooks.inbox
IS 'messages received: each once, however often it came; insert-only; partitioned by day; kept for '
	'webhooks.inbox_retention';
COMMENT ON COLUMN webhooks.inbox.headers
IS 'their names in lower case; without those that hold credentials (Authorization, Proxy-Authorization, Cookie)';
COMMENT ON COLUMN webhooks.inbox.body IS 'the very bytes that were signed';
COMMENT ON COLUMN webhooks.inbox.payload IS 'the body as JSON; NULL when it is none';

CREATE TABLE webhooks.inbox_default PARTITION OF webhooks.inbox DEFAULT;
CREATE INDEX inbox_default_source_idx ON webhooks.inbox_default (tenant_id, source, received_at);
COMMENT ON TABLE webhooks.inbox_default IS 'messages that found no partition';

-- Apart from inbox: its partitions cannot tell of each other's messages.
CREATE TABLE webhooks.inbox_messages (
	tenant_id text COLLATE "C" NOT NULL,
	source text COLLATE "C" NOT NULL,
	message_id text COLLATE "C" NOT NULL,
	received_at timestamptz NOT NULL,
	PRIMARY KEY (tenant_id, source, message_id)
);
CREATE INDEX inbox_messages_received_at_idx ON webhooks.inbox_messages (received_at);
COMMENT ON TABLE webhooks.inbox_messages IS 'the ids of messages received: what makes each be taken once';


CREATE FUNCTION webhooks.lane(ordering text, ordering_key text) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT CASE ordering
		WHEN 'endpoint' THEN 0
		WHEN 'key' THEN pg_catalog.hashtextextended(ordering_key COLLATE "C", 0)
	END;
END;
COMMENT ON FUNCTION webhooks.lane(text, text)
IS 'internal: the lane of an event with that key at an endpoint with that ordering';

-- Functions that run as the owner ask this, not current_setting: it loads the library, without which anybody may set
-- webhooks.*.
CREATE FUNCTION webhooks.session_tenant() RETURNS text
LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'wh_sql_session_tenant';
COMMENT ON FUNCTION webhooks.session_tenant()
IS 'internal: the tenant that webhooks.tenant_id confines the session to; NULL for none';

-- One call a statement: two in one statement fail.
SELECT pg_catalog.pg_extension_config_dump('webhooks.endpoints', '');
SELECT pg_catalog.pg_extension_config_dump('webhooks.endpoint_secrets', '');
SELECT pg_catalog.pg_extension_config_dump('webhooks.endpoint_health', '');
SELECT pg_catalog.pg_extension_config_dump('webhooks.signing_keys', '');
SELECT pg_catalog.pg_extension_config_dump('webhooks.event_types', '');
SELECT pg_catalog.pg_extension_config_dump('webhooks.api_versions', '');
SELECT pg_catalog.pg_extension_config_dump('webhooks.events_default', '');
SELECT pg_catalog.pg_extension_config_dump('webhooks.event_secrets', '');
SELECT pg_catalog.pg_extension_config_dump('webhooks.queue', '');
SELECT pg_catalog.pg_extension_config_dump('webhooks.attempts_default', '');
SELECT pg_catalog.pg_extension_config_dump('webhooks.dead_letters', '');
SELECT pg_catalog.pg_extension_config_dump('webhooks.idempotency_keys', '');
SELECT pg_catalog.pg_extension_config_dump('webhooks.sources', '');
SELECT pg_catalog.pg_extension_config_dump('webhooks.source_secrets', '');
SELECT pg_catalog.pg_extension_config_dump('webhooks.source_handlers', '');
SELECT pg_catalog.pg_extension_config_dump('webhooks.inbox_default', '');
SELECT pg_catalog.pg_extension_config_dump('webhooks.inbox_messages', '');


-- ---------------------------------------------------------------------------------------------------------------------
-- What can be read
-- ---------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION webhooks.in_flight(
	OUT delivery_id uuid,
	OUT endpoint_id uuid,
	OUT started_at timestamptz,
	OUT worker_pid integer)
RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'wh_sql_in_flight';
COMMENT ON FUNCTION webhooks.in_flight() IS 'the requests that workers of this database have sent and not yet recorded';

CREATE VIEW webhooks.in_flight AS SELECT * FROM webhooks.in_flight();
COMMENT ON VIEW webhooks.in_flight IS 'the requests that workers of this database have sent and not yet recorded';

CREATE FUNCTION webhooks.endpoint_breakers(
	OUT endpoint_id uuid,
	OUT state text,
	OUT since timestamptz,
	OUT next_probe_at timestamptz,
	OUT worker_pid integer)
RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'wh_sql_endpoint_breakers';
COMMENT ON FUNCTION webhooks.endpoint_breakers()
IS 'the endpoints of this database that do not answer, and are sent nothing but a probe now and then';

-- a worker learns a moment later that an endpoint was removed
CREATE VIEW webhooks.endpoint_breakers AS
SELECT b.* FROM webhooks.endpoint_breakers() b
WHERE EXISTS (SELECT FROM webhooks.endpoints e WHERE e.endpoint_id = b.endpoint_id);
COMMENT ON VIEW webhooks.endpoint_breakers
IS 'the endpoints that do not answer, and are sent nothing but a probe now and then: open (until next_probe_at) or '
	'probing';

CREATE VIEW webhooks.deliveries WITH (security_invoker = true) AS
SELECT d.delivery_id, d.event_id, d.endpoint_id,
	coalesce(ev.tenant_id, ep.tenant_id, last.tenant_id) AS tenant_id,
	ev.event_type,
	coalesce(ep.url, last.url) AS url,
	CASE
		WHEN d.place <> 'queue' THEN d.state
		WHEN f.delivery_id IS NOT NULL THEN 'in_flight'
		WHEN ep.state <> 'active' THEN 'held'
		WHEN d.attempts > 0 THEN 'retrying'
		ELSE 'pending'
	END AS state,
	d.attempts,
	last.status_code AS last_status_code,
	last.error_class,
	last.error AS last_error,
	last.duration_ms,
	d.next_attempt_at,
	ev.created_at,
	d.completed_at
FROM (
	SELECT q.delivery_id, q.event_id, q.endpoint_id, 'queue' AS place, NULL AS state, q.attempts,
		q.due_at AS next_attempt_at, NULL::timestamptz AS completed_at
	FROM webhooks.queue q
	UNION ALL
	SELECT l.delivery_id, l.event_id, l.endpoint_id, 'dead_letters', 'dead_letter', l.attempts, NULL, l.dead_at
	FROM webhooks.dead_letters l
	UNION ALL
	SELECT a.delivery_id, a.event_id, a.endpoint_id, 'attempts', a.outcome, a.attempt, NULL,
		a.attempted_at + coalesce(a.duration_ms, 0) * interval '1 millisecond'
	FROM webhooks.attempts a
	WHERE NOT EXISTS (SELECT FROM webhooks.queue q WHERE q.delivery_id = a.delivery_id)
		AND NOT EXISTS (SELECT FROM webhooks.dead_letters l WHERE l.delivery_id = a.delivery_id)
		-- the last to end says how the delivery ended, even if it was cancelled while a request was under way
		AND NOT EXISTS (
			SELECT FROM webhooks.attempts b
			WHERE b.delivery_id = a.delivery_id
				AND (b.attempted_at + coalesce(b.duration_ms, 0) * interval '1 millisecond', b.attempt)
					> (a.attempted_at + coalesce(a.duration_ms, 0) * interval '1 millisecond', a.attempt))
) d
LEFT JOIN webhooks.events ev ON ev.event_id = d.event_id
LEFT JOIN webhooks.endpoints ep ON ep.endpoint_id = d.endpoint_id
LEFT JOIN webhooks.in_flight f ON f.delivery_id = d.delivery_id
LEFT JOIN LATERAL (
	SELECT a.tenant_id, a.url, a.status_code, a.error_class, a.error, a.duration_ms
	FROM webhooks.attempts a
	WHERE a.delivery_id = d.delivery_id
	ORDER BY a.attempted_at + coalesce(a.duration_ms, 0) * interval '1 millisecond' DESC, a.attempt DESC
	LIMIT 1
) last ON true;
COMMENT ON VIEW webhooks.deliveries
IS 'one row a delivery, whether queued, dead or ended, with its state and its last attempt';

CREATE VIEW webhooks.delivery_log WITH (security_invoker = true) AS
SELECT a.attempted_at, ev.event_type, a.url, a.attempt, a.outcome, a.status_code, a.error_class, a.error, a.duration_ms,
	a.next_attempt_at, a.remote_address, a.response_headers, a.response_body,
	a.tenant_id, a.delivery_id, a.event_id, a.endpoint_id
FROM webhooks.attempts a
LEFT JOIN webhooks.events ev ON ev.event_id = a.event_id;
COMMENT ON VIEW webhooks.delivery_log
IS 'one row an attempt, with its event type and the address it went to; ORDER BY attempted_at DESC for the newest '
	'first';


-- ---------------------------------------------------------------------------------------------------------------------
-- Endpoints
-- ---------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION webhooks.register_endpoint(
	url text,
	event_types text[] DEFAULT '{*}',
	tenant_id text DEFAULT NULL,
	description text DEFAULT NULL,
	filter jsonpath DEFAULT NULL,
	headers jsonb DEFAULT '{}',
	secret text DEFAULT NULL,
	signature_schemes text[] DEFAULT '{v1}',
	payload_format text DEFAULT 'standard',
	api_version text DEFAULT NULL,
	retry_schedule interval[] DEFAULT NULL,
	retry_on text DEFAULT NULL,
	timeout interval DEFAULT NULL,
	rate_limit real DEFAULT NULL,
	max_in_flight integer DEFAULT NULL,
	ordering text DEFAULT 'none',
	client_certificate text DEFAULT NULL,
	client_key text DEFAULT NULL,
	metadata jsonb DEFAULT '{}',
	OUT endpoint_id uuid,
	OUT secret text)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wh_sql_register_endpoint';
COMMENT ON FUNCTION webhooks.register_endpoint(text, text[], text, text, jsonpath, jsonb, text, text[], text, text,
	interval[], text, interval, real, integer, text, text, text, jsonb)
IS 'subscribes a URL to event types; the secret is shown here and by rotate_secret, never again';

CREATE FUNCTION webhooks.update_endpoint(
	endpoint_id uuid,
	url text DEFAULT NULL,
	event_types text[] DEFAULT NULL,
	description text DEFAULT NULL,
	filter jsonpath DEFAULT NULL,
	headers jsonb DEFAULT NULL,
	signature_schemes text[] DEFAULT NULL,
	payload_format text DEFAULT NULL,
	api_version text DEFAULT NULL,
	retry_schedule interval[] DEFAULT NULL,
	retry_on text DEFAULT NULL,
	timeout interval DEFAULT NULL,
	rate_limit real DEFAULT NULL,
	max_in_flight integer DEFAULT NULL,
	ordering text DEFAULT NULL,
	client_certificate text DEFAULT NULL,
	client_key text DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	reset text[] DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wh_sql_update_endpoint';
COMMENT ON FUNCTION webhooks.update_endpoint(uuid, text, text[], text, jsonpath, jsonb, text[], text, text,
	interval[], text, interval, real, integer, text, text, text, jsonb, text[])
IS 'changes the options that are not NULL, and puts those named in reset back to their defaults; queued deliveries '
	'follow at their next attempt';

CREATE FUNCTION webhooks.pause_endpoint(endpoint_id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wh_sql_pause_endpoint';
COMMENT ON FUNCTION webhooks.pause_endpoint(uuid) IS 'events go on queueing for the endpoint and nothing is sent';

CREATE FUNCTION webhooks.resume_endpoint(endpoint_id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wh_sql_resume_endpoint';
COMMENT ON FUNCTION webhooks.resume_endpoint(uuid) IS 'sends again to a paused endpoint, what queued meanwhile first';

CREATE FUNCTION webhooks.disable_endpoint(endpoint_id uuid, reason text DEFAULT 'manual') RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wh_sql_disable_endpoint';
COMMENT ON FUNCTION webhooks.disable_endpoint(uuid, text)
IS 'no new deliveries for the endpoint; those queued are held';

CREATE FUNCTION webhooks.enable_endpoint(endpoint_id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wh_sql_enable_endpoint';
COMMENT ON FUNCTION webhooks.enable_endpoint(uuid)
IS 'takes a disabled endpoint back into service; the deliveries held go on';

CREATE FUNCTION webhooks.remove_endpoint(endpoint_id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wh_sql_remove_endpoint';
COMMENT ON FUNCTION webhooks.remove_endpoint(uuid)
IS 'cancels the endpoint''s queued deliveries and forgets it; its history stays until retention';

CREATE FUNCTION webhooks.ping_endpoint(endpoint_id uuid) RETURNS uuid
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wh_sql_ping_endpoint';
COMMENT ON FUNCTION webhooks.ping_endpoint(uuid)
IS 'sends a webhooks.ping event to the endpoint alone, whatever it subscribed to; returns the event''s id';

CREATE FUNCTION webhooks.exponential_backoff(
	initial interval, factor double precision, maximum interval, attempts integer)
RETURNS interval[] LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'wh_sql_exponential_backoff';
COMMENT ON FUNCTION webhooks.exponential_backoff(interval, double precision, interval, integer)
IS 'a retry_schedule for so many attempts: the first wait is initial, each further one factor times as long, none '
	'longer than maximum';

CREATE FUNCTION webhooks.raise_operational(event_type text, tenant_id text, data jsonb, only_notify boolean)
RETURNS void LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'wh_sql_raise_operational';
COMMENT ON FUNCTION webhooks.raise_operational(text, text, jsonb, boolean)
IS 'internal: sends an operational event to the endpoints of the tenant that name it, and notifies';

CREATE FUNCTION webhooks.rotate_secret(endpoint_id uuid, overlap interval DEFAULT '24 hours', secret text DEFAULT NULL)
RETURNS text LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wh_sql_rotate_secret';
COMMENT ON FUNCTION webhooks.rotate_secret(uuid, interval, text)
IS 'gives the endpoint a new secret and returns it; during the overlap both sign';

CREATE FUNCTION webhooks.reencrypt_secrets() RETURNS bigint
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wh_sql_reencrypt_secrets';
COMMENT ON FUNCTION webhooks.reencrypt_secrets()
IS 'encrypts with the current key every secret that is stored as it is or encrypted with another; returns how many';

CREATE FUNCTION webhooks.unencrypted_secrets() RETURNS bigint
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wh_sql_unencrypted_secrets';
COMMENT ON FUNCTION webhooks.unencrypted_secrets()
IS 'how many secrets are stored as they are, Authorization headers of events among them';

CREATE FUNCTION webhooks.unencrypted_configuration() RETURNS bigint
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'wh_sql_unencrypted_configuration';
COMMENT ON FUNCTION webhooks.unencrypted_configuration()
IS 'internal: how many secrets are stored as they are, those of events apart';

CREATE FUNCTION webhooks.secrets_encrypted() RETURNS boolean
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wh_sql_secrets_encrypted';
COMMENT ON FUNCTION webhooks.secrets_encrypted()
IS 'whether a key is configured and every secret is encrypted but, perhaps, Authorization headers of events that were '
	'dispatched before';

CREATE FUNCTION webhooks.public_key(endpoint_id uuid) RETURNS text
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wh_sql_public_key';
COMMENT ON FUNCTION webhooks.public_key(uuid)
IS 'whpk_ and the key with which a receiver verifies what the endpoint signs by v1a, or by rfc9421 with Ed25519';

CREATE FUNCTION webhooks.check_url(url text, OUT allowed boolean, OUT reason text)
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'wh_sql_check_url';
COMMENT ON FUNCTION webhooks.check_url(text) IS 'whether a URL could be registered, and if not, why';

CREATE FUNCTION webhooks.endpoint_changed() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'wh_sql_endpoint_changed';
COMMENT ON FUNCTION webhooks.endpoint_changed()
IS 'internal: tells sessions and workers that what they know of endpoints is out of date';

-- A target of dispatch_to_urls is what it was each time it comes, so nobody need be told of its coming and going;
-- save when it goes paused or disabled, and would come back active.
CREATE TRIGGER endpoint_added AFTER INSERT ON webhooks.endpoints
	FOR EACH ROW WHEN (NEW.registered) EXECUTE FUNCTION webhooks.endpoint_changed();
CREATE TRIGGER endpoint_changed AFTER UPDATE ON webhooks.endpoints
	FOR EACH ROW EXECUTE FUNCTION webhooks.endpoint_changed();
CREATE TRIGGER endpoint_removed AFTER DELETE ON webhooks.endpoints
	FOR EACH ROW WHEN (OLD.registered OR OLD.state <> 'active') EXECUTE FUNCTION webhooks.endpoint_changed();
CREATE TRIGGER endpoints_truncated AFTER TRUNCATE ON webhooks.endpoints
	FOR EACH STATEMENT EXECUTE FUNCTION webhooks.endpoint_changed();
CREATE TRIGGER endpoint_changed AFTER INSERT OR UPDATE OR DELETE ON webhooks.endpoint_secrets
	FOR EACH ROW EXECUTE FUNCTION webhooks.endpoint_changed();


-- ---------------------------------------------------------------------------------------------------------------------
-- Events
-- ---------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION webhooks.dispatch(
	event_type text,
	payload jsonb,
	tenant_id text DEFAULT NULL,
	endpoint_ids uuid[] DEFAULT NULL,
	idempotency_key text DEFAULT NULL,
	ordering_key text DEFAULT NULL,
	coalesce_key text DEFAULT NULL,
	occurred_at timestamptz DEFAULT NULL,
	deliver_at timestamptz DEFAULT NULL,
	expires_at timestamptz DEFAULT NULL,
	headers jsonb DEFAULT NULL) RETURNS uuid
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'wh_sql_dispatch';
COMMENT ON FUNCTION webhooks.dispatch(text, jsonb, text, uuid[], text, text, text,
	timestamptz, timestamptz, timestamptz, jsonb)
IS 'sends an event, once this transaction commits, to every endpoint of the tenant that subscribed; returns its id';

CREATE FUNCTION webhooks.dispatch_to_urls(
	event_type text,
	payload jsonb,
	targets text[],
	headers jsonb DEFAULT '{}',
	signing_key_id text DEFAULT NULL,
	tenant_id text DEFAULT NULL,
	retry_schedule interval[] DEFAULT '{}') RETURNS uuid
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'wh_sql_dispatch_to_urls';
COMMENT ON FUNCTION webhooks.dispatch_to_urls(text, jsonb, text[], jsonb, text, text, interval[])
IS 'sends an event, once this transaction commits, to URLs that nobody registered, by default without a retry; '
	'returns its id';

CREATE FUNCTION webhooks.add_signing_key(key_id text, secret text DEFAULT NULL, tenant_id text DEFAULT NULL)
RETURNS text LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wh_sql_add_signing_key';
COMMENT ON FUNCTION webhooks.add_signing_key(text, text, text)
IS 'adds a key that dispatch_to_urls can sign with, and returns its secret, which is shown here and never again';

CREATE FUNCTION webhooks.retire_signing_key(key_id text, tenant_id text DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wh_sql_retire_signing_key';
COMMENT ON FUNCTION webhooks.retire_signing_key(text, text)
IS 'nothing new is dispatched with the key; what is queued with it is still signed with it';

CREATE FUNCTION webhooks.dispatch_raw(
	event_type text,
	body bytea,
	content_type text DEFAULT 'application/json',
	tenant_id text DEFAULT NULL,
	endpoint_ids uuid[] DEFAULT NULL,
	idempotency_key text DEFAULT NULL,
	ordering_key text DEFAULT NULL,
	coalesce_key text DEFAULT NULL,
	occurred_at timestamptz DEFAULT NULL,
	deliver_at timestamptz DEFAULT NULL,
	expires_at timestamptz DEFAULT NULL,
	headers jsonb DEFAULT NULL) RETURNS uuid
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'wh_sql_dispatch_raw';
COMMENT ON FUNCTION webhooks.dispatch_raw(text, bytea, text, text, uuid[], text, text, text,
	timestamptz, timestamptz, timestamptz, jsonb)
IS 'the same with a body whose exact bytes are signed and sent, whatever the endpoint''s payload_format';

CREATE FUNCTION webhooks.delivery_id_range(event_id uuid, OUT low uuid, OUT high uuid)
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
	-- a delivery's id begins with the first eight bytes of its event's
	SELECT (pg_catalog.left(event_id::text, 18) || '-0000-000000000000')::uuid,
		(pg_catalog.left(event_id::text, 18) || '-ffff-ffffffffffff')::uuid;
END;
COMMENT ON FUNCTION webhooks.delivery_id_range(uuid)
IS 'internal: the range in which the ids of an event''s deliveries lie';

-- VOLATILE, so that each statement's snapshot is taken after its locks: while events move into a partition that is being
-- made, an older snapshot would find them in neither place.
CREATE FUNCTION webhooks.dispatch_status(
	event_id uuid,
	OUT delivery_id uuid,
	OUT endpoint_id uuid,
	OUT url text,
	OUT state text,
	OUT attempts integer,
	OUT last_status_code integer,
	OUT error_class text,
	OUT last_error text,
	OUT duration_ms real,
	OUT next_attempt_at timestamptz) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	session_tenant constant text := webhooks.session_tenant();
BEGIN
	IF dispatch_status.event_id IS NULL THEN
		RAISE invalid_parameter_value USING MESSAGE = 'event_id must not be NULL';
	END IF;
	IF NOT EXISTS (
		SELECT FROM webhooks.events e
		WHERE e.event_id = dispatch_status.event_id AND e.tenant_id = coalesce(session_tenant, e.tenant_id))
	THEN
		RAISE no_data_found USING
			MESSAGE = format('event %s does not exist', dispatch_status.event_id),
			HINT = 'It may have been dropped after webhooks.retention.';
	END IF;

	RETURN QUERY
	SELECT d.delivery_id, d.endpoint_id, d.url, d.state, d.attempts, d.last_status_code, d.error_class, d.last_error,
		d.duration_ms, d.next_attempt_at
	FROM webhooks.delivery_id_range(dispatch_status.event_id) r, webhooks.deliveries d
	WHERE d.delivery_id BETWEEN r.low AND r.high AND d.event_id = dispatch_status.event_id
	ORDER BY d.delivery_id;
END;
$$;
COMMENT ON FUNCTION webhooks.dispatch_status(uuid) IS 'how each delivery of an event stands';

CREATE FUNCTION webhooks.cancel_event(event_id uuid) RETURNS bigint
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wh_sql_cancel_event';
COMMENT ON FUNCTION webhooks.cancel_event(uuid)
IS 'calls off what is still queued of an event, and returns how many deliveries; what is in flight finishes';

CREATE FUNCTION webhooks.cancel_delivery(delivery_id uuid) RETURNS boolean
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wh_sql_cancel_delivery';
COMMENT ON FUNCTION webhooks.cancel_delivery(uuid)
IS 'calls off a queued delivery; false when it has ended already; what is in flight finishes';


-- ---------------------------------------------------------------------------------------------------------------------
-- The event catalog and API versions
-- ---------------------------------------------------------------------------------------------------------------------

-- These run as their caller, who needs EXECUTE on the functions named; the tables they write as the extension's owner.
CREATE FUNCTION webhooks.register_event_type(
	name text,
	description text DEFAULT NULL,
	example jsonb DEFAULT NULL,
	validator regprocedure DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'wh_sql_register_event_type';
COMMENT ON FUNCTION webhooks.register_event_type(text, text, jsonb, regprocedure)
IS 'adds an event type to the catalog, or changes it; the validator (event_type text, payload jsonb) raises or '
	'returns false to refuse a payload';

CREATE FUNCTION webhooks.retire_event_type(name text) RETURNS void
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'wh_sql_retire_event_type';
COMMENT ON FUNCTION webhooks.retire_event_type(text)
IS 'from now on an enforced catalog refuses the event type';

CREATE FUNCTION webhooks.register_api_version(version text, transform regprocedure) RETURNS void
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'wh_sql_register_api_version';
COMMENT ON FUNCTION webhooks.register_api_version(text, regprocedure)
IS 'a version in which endpoints may want payloads; the transform is (event_type text, payload jsonb), returns jsonb, '
	'and runs in dispatch as its user';

CREATE FUNCTION webhooks.catalog_changed() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'wh_sql_catalog_changed';
COMMENT ON FUNCTION webhooks.catalog_changed()
IS 'internal: tells sessions that what they know of event types or API versions is out of date';

CREATE TRIGGER catalog_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON webhooks.event_types
	FOR EACH STATEMENT EXECUTE FUNCTION webhooks.catalog_changed();
CREATE TRIGGER catalog_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON webhooks.api_versions
	FOR EACH STATEMENT EXECUTE FUNCTION webhooks.catalog_changed();


-- ---------------------------------------------------------------------------------------------------------------------
-- Events from tables
-- ---------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION webhooks.emit_change() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'wh_sql_emit_change';
COMMENT ON FUNCTION webhooks.emit_change()
IS 'for AFTER triggers: emits the changes of a table as events; the arguments are the resource and options';

CREATE FUNCTION webhooks.watch(
	relation regclass,
	resource text DEFAULT NULL,
	events text[] DEFAULT '{created,updated,deleted}',
	include_columns name[] DEFAULT NULL,
	exclude_columns name[] DEFAULT NULL,
	tenant_column name DEFAULT NULL,
	ordered boolean DEFAULT false,
	level text DEFAULT 'row') RETURNS void
LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wh_sql_watch';
COMMENT ON FUNCTION webhooks.watch(regclass, text, text[], name[], name[], name, boolean, text)
IS 'makes every committed change of a table an event, by triggers; called again, it replaces them';

CREATE FUNCTION webhooks.unwatch(relation regclass) RETURNS void
LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wh_sql_unwatch';
COMMENT ON FUNCTION webhooks.unwatch(regclass) IS 'drops the triggers that watch made';

-- Triggers are all there is of a watch. Their arguments end in a NUL each.
CREATE VIEW webhooks.watched AS
SELECT w.relation,
	w.arguments[1] AS resource,
	pg_catalog.array_agg(DISTINCT e.event ORDER BY e.event) AS events,
	w.level,
	o.tenant_column,
	o.include_columns,
	o.exclude_columns,
	o.ordering_columns,
	o.idempotency_column,
	o.when_changed,
	pg_catalog.array_agg(DISTINCT w.trigger_name ORDER BY w.trigger_name) AS triggers,
	pg_catalog.bool_and(w.enabled) AS enabled
FROM (
	SELECT t.tgrelid::regclass AS relation, t.tgname AS trigger_name, t.tgtype, t.tgenabled <> 'D' AS enabled,
		CASE WHEN t.tgtype & 1 = 1 OR t.tgtype & 32 = 32 AND EXISTS (
				SELECT FROM pg_catalog.pg_trigger r
				WHERE r.tgrelid = t.tgrelid AND r.tgfoid = t.tgfoid AND r.tgargs = t.tgargs AND r.tgtype & 1 = 1)
			THEN 'row' ELSE 'statement' END AS level,
		(SELECT pg_catalog.array_agg(
				pg_catalog.convert_from(pg_catalog.decode(a.hex[1], 'hex'), pg_catalog.getdatabaseencoding())
				ORDER BY a.n)
			FROM pg_catalog.regexp_matches(pg_catalog.encode(t.tgargs, 'hex'), '((?:(?!00)..)*)00', 'g')
				WITH ORDINALITY a(hex, n)) AS arguments
	FROM pg_catalog.pg_trigger t
	WHERE t.tgfoid = 'webhooks.emit_change()'::regprocedure AND t.tgparentid = 0
) w
CROSS JOIN LATERAL (
	SELECT event FROM (VALUES (4, 'created'), (16, 'updated'), (8, 'deleted'), (32, 'truncated')) k(bit, event)
	WHERE w.tgtype & k.bit <> 0
) e
CROSS JOIN LATERAL (
	SELECT (pg_catalog.max(n.names) FILTER (WHERE n.option = 'tenant_column'))[1] AS tenant_column,
		pg_catalog.max(n.names) FILTER (WHERE n.option = 'include') AS include_columns,
		pg_catalog.max(n.names) FILTER (WHERE n.option = 'exclude') AS exclude_columns,
		CASE WHEN 'ordering_columns=primary key' = ANY (w.arguments) OR 'ordering_column=primary key' = ANY (w.arguments)
			THEN (SELECT pg_catalog.array_agg(c.attname ORDER BY pg_catalog.array_position(i.indkey::smallint[], c.attnum))
				FROM pg_catalog.pg_index i
				JOIN pg_catalog.pg_attribute c ON c.attrelid = i.indrelid AND c.attnum = ANY (i.indkey::smallint[])
				WHERE i.indrelid = w.relation AND i.indisprimary)
			ELSE pg_catalog.max(n.names) FILTER (WHERE n.option IN ('ordering_columns', 'ordering_column'))
		END AS ordering_columns,
		(pg_catalog.max(n.names) FILTER (WHERE n.option = 'idempotency_column'))[1] AS idempotency_column,
		pg_catalog.max(n.names) FILTER (WHERE n.option = 'when_changed') AS when_changed
	FROM (
		SELECT pg_catalog.split_part(a, '=', 1) AS option,
			-- as SQL reads names: what is not quoted is in lower case
			(SELECT pg_catalog.array_agg(
					coalesce(pg_catalog.replace(m.found[1], '""', '"'), pg_catalog.lower(m.found[2]))::name ORDER BY m.n)
				FROM pg_catalog.regexp_matches(pg_catalog.substr(a, pg_catalog.strpos(a, '=') + 1),
					'"((?:[^"]|"")+)"|([^",\s]+)', 'g') WITH ORDINALITY m(found, n)) AS names
		FROM pg_catalog.unnest(w.arguments[2:]) a
	) n
) o
GROUP BY w.relation, w.arguments, w.level, o.tenant_column, o.include_columns, o.exclude_columns, o.ordering_columns,
	o.idempotency_column, o.when_changed;
COMMENT ON VIEW webhooks.watched
IS 'which tables emit what: a row for each resource, with its options, as the tables'' triggers tell';


CREATE TABLE webhooks.backfills (
	relation regclass NOT NULL,
	endpoint_id uuid NOT NULL,
	resource text NOT NULL,
	last_key text[],
	sent bigint NOT NULL DEFAULT 0,
	started_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	updated_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	finished_at timestamptz,
	PRIMARY KEY (relation, endpoint_id, resource)
);
COMMENT ON TABLE webhooks.backfills
IS 'how far each backfill is: its next call goes on after last_key, or begins anew once finished';
COMMENT ON COLUMN webhooks.backfills.last_key
IS 'the primary key of the last row that is through, a column each as text';
SELECT pg_catalog.pg_extension_config_dump('webhooks.backfills', '');

CREATE PROCEDURE webhooks.backfill(
	relation regclass,
	endpoint_id uuid,
	resource text DEFAULT NULL,
	batch_size integer DEFAULT 100,
	INOUT sent bigint DEFAULT NULL)
LANGUAGE c AS 'MODULE_PATHNAME', 'wh_sql_backfill';
COMMENT ON PROCEDURE webhooks.backfill(regclass, uuid, text, integer, bigint)
IS 'sends a watched table''s present rows to one endpoint, as events named snapshot; commits as it goes, and goes on '
	'where it was interrupted';


-- ---------------------------------------------------------------------------------------------------------------------
-- Dead letters and replays
-- ---------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION webhooks.replay_delivery(delivery_id uuid) RETURNS uuid
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wh_sql_replay_delivery';
COMMENT ON FUNCTION webhooks.replay_delivery(uuid)
IS 'sends a delivery again, whether dead, ended or waiting: same webhook-id, the full retry schedule';

CREATE FUNCTION webhooks.replay_event(event_id uuid, endpoint_id uuid DEFAULT NULL) RETURNS bigint
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wh_sql_replay_event';
COMMENT ON FUNCTION webhooks.replay_event(uuid, uuid)
IS 'replays an event''s deliveries, or the one to an endpoint, whatever became of them; returns how many';

CREATE FUNCTION webhooks.replay_failed(endpoint_id uuid, since timestamptz, until timestamptz DEFAULT now())
RETURNS bigint LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wh_sql_replay_failed';
COMMENT ON FUNCTION webhooks.replay_failed(uuid, timestamptz, timestamptz)
IS 'replays the endpoint''s dead letters of a time; returns how many';

CREATE FUNCTION webhooks.discard_dead_letter(delivery_id uuid) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wh_sql_discard_dead_letter';
COMMENT ON FUNCTION webhooks.discard_dead_letter(uuid) IS 'removes a dead letter; its attempts stay until retention';


-- ---------------------------------------------------------------------------------------------------------------------
-- Delivering
-- ---------------------------------------------------------------------------------------------------------------------

CREATE PROCEDURE webhooks.deliver_due(
	max_deliveries integer DEFAULT 1000,
	time_limit interval DEFAULT '30 seconds',
	INOUT attempted bigint DEFAULT NULL,
	INOUT succeeded bigint DEFAULT NULL,
	INOUT retried bigint DEFAULT NULL,
	INOUT dead_lettered bigint DEFAULT NULL)
LANGUAGE c AS 'MODULE_PATHNAME', 'wh_sql_deliver_due';
COMMENT ON PROCEDURE webhooks.deliver_due(integer, interval, bigint, bigint, bigint, bigint)
IS 'delivers what is due from this session, for endpoints that no worker serves; commits as it goes';

CREATE FUNCTION webhooks.wait_until_idle(timeout interval DEFAULT '30 seconds') RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	session_tenant constant text := webhooks.session_tenant();
	deadline timestamptz;
BEGIN
	IF timeout IS NULL OR timeout < interval '0' OR timeout > interval '366 days' THEN
		RAISE invalid_parameter_value USING MESSAGE = 'timeout must be between 0 and 366 days, and not NULL';
	END IF;
	deadline := clock_timestamp() + timeout;
	IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
		RAISE invalid_transaction_state USING
			MESSAGE = format('wait_until_idle cannot see deliveries end in a %s transaction',
				current_setting('transaction_isolation')),
			HINT = 'Call it in a READ COMMITTED transaction.';
	END IF;
	-- those of a savepoint are overlooked, and waited for in vain
	IF pg_current_xact_id_if_assigned() IS NOT NULL AND EXISTS (
		SELECT FROM webhooks.queue q WHERE q.xmin = pg_current_xact_id_if_assigned()::xid)
	THEN
		RAISE invalid_transaction_state USING
			MESSAGE = 'wait_until_idle cannot wait for deliveries of its own transaction',
			HINT = 'COMMIT first: they are sent only then.';
	END IF;

	LOOP
		IF NOT EXISTS (SELECT FROM webhooks.in_flight)
			AND NOT EXISTS (
				SELECT FROM webhooks.endpoints e
				WHERE e.state = 'active' AND e.tenant_id = coalesce(session_tenant, e.tenant_id) AND EXISTS (
					SELECT FROM webhooks.queue q
					WHERE q.endpoint_id = e.endpoint_id AND q.due_at <= clock_timestamp()))
		THEN
			RETURN true;
		END IF;
		IF clock_timestamp() >= deadline THEN
			RETURN false;
		END IF;
		PERFORM pg_sleep(0.005);
	END LOOP;
END;
$$;
COMMENT ON FUNCTION webhooks.wait_until_idle(interval)
IS 'waits until nothing is due and nothing in flight, of the session''s tenant where it has one; false when the '
	'timeout passes first';


-- ---------------------------------------------------------------------------------------------------------------------
-- How it goes
-- ---------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION webhooks.processes(
	OUT pid integer,
	OUT worker integer,
	OUT database text,
	OUT in_flight integer,
	OUT attempted bigint,
	OUT succeeded bigint,
	OUT retried bigint,
	OUT dead_lettered bigint,
	OUT bytes_sent bigint,
	OUT started_at timestamptz,
	OUT last_error text,
	OUT last_error_at timestamptz)
RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'wh_sql_processes';
COMMENT ON FUNCTION webhooks.processes()
IS 'the processes of the whole server that deliver, and what they have done since they started';

CREATE VIEW webhooks.pg_stat_webhooks AS SELECT * FROM webhooks.processes();
COMMENT ON VIEW webhooks.pg_stat_webhooks
IS 'one row a process that delivers, with its counts since it started: workers, and sessions in deliver_due (worker '
	'is NULL); last_error is told in its own database, figures to no session that is confined to a tenant';

CREATE FUNCTION webhooks.checked_endpoint(endpoint_id uuid, period interval) RETURNS uuid
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF period IS NULL OR period <= interval '0' OR period > interval '100 years' THEN
		RAISE invalid_parameter_value USING MESSAGE = 'period must be above 0, at most 100 years, and not NULL';
	END IF;
	IF endpoint_id IS NOT NULL
		AND NOT EXISTS (SELECT FROM webhooks.endpoints e WHERE e.endpoint_id = checked_endpoint.endpoint_id)
	THEN
		RAISE no_data_found USING MESSAGE = format('endpoint %s does not exist', endpoint_id);
	END IF;
	RETURN endpoint_id;
END;
$$;
COMMENT ON FUNCTION webhooks.checked_endpoint(uuid, interval) IS 'of endpoint_stats: its arguments, judged';

CREATE FUNCTION webhooks.endpoint_stats(
	endpoint_id uuid DEFAULT NULL,
	period interval DEFAULT '1 day',
	OUT endpoint_id uuid,
	OUT url text,
	OUT total bigint,
	OUT succeeded bigint,
	OUT failed bigint,
	OUT success_rate double precision,
	OUT avg_ms double precision,
	OUT p50_ms double precision,
	OUT p95_ms double precision,
	OUT p99_ms double precision,
	OUT errors jsonb)
RETURNS SETOF record LANGUAGE sql STABLE
BEGIN ATOMIC
	WITH wanted AS MATERIALIZED (
		SELECT webhooks.checked_endpoint(endpoint_stats.endpoint_id, endpoint_stats.period) AS endpoint_id
	), made AS (
		SELECT a.endpoint_id, a.outcome, a.duration_ms,
			-- under a 2xx status it is what became of the answer that failed
			CASE WHEN a.status_code BETWEEN 200 AND 299 THEN a.error_class
				ELSE coalesce(a.status_code::text, a.error_class) END AS error
		FROM webhooks.attempts a, wanted w
		WHERE a.attempted_at > now() - least(endpoint_stats.period, interval '100 years')
			AND a.outcome <> 'cancelled'
			AND (w.endpoint_id IS NULL OR a.endpoint_id = w.endpoint_id)
	), kinds AS (
		SELECT k.endpoint_id, jsonb_object_agg(k.error, k.n) AS errors
		FROM (SELECT m.endpoint_id, m.error, count(*) AS n FROM made m
			WHERE m.outcome <> 'succeeded' AND m.error IS NOT NULL GROUP BY 1, 2) k
		GROUP BY 1
	), sums AS (
		SELECT m.endpoint_id,
			count(*) AS total,
			count(*) FILTER (WHERE m.outcome = 'succeeded') AS succeeded,
			avg(m.duration_ms) AS avg_ms,
			percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY m.duration_ms) AS percentiles
		FROM made m
		GROUP BY 1
	)
	SELECT e.endpoint_id, e.url, coalesce(s.total, 0), coalesce(s.succeeded, 0),
		coalesce(s.total - s.succeeded, 0),
		pg_catalog.round(s.succeeded::numeric / s.total, 4),
		pg_catalog.round(s.avg_ms::numeric, 3), pg_catalog.round(s.percentiles[1]::numeric, 3),
		pg_catalog.round(s.percentiles[2]::numeric, 3), pg_catalog.round(s.percentiles[3]::numeric, 3),
		coalesce(k.errors, '{}')
	FROM wanted w
	JOIN webhooks.endpoints e ON w.endpoint_id IS NULL OR e.endpoint_id = w.endpoint_id
	LEFT JOIN sums s ON s.endpoint_id = e.endpoint_id
	LEFT JOIN kinds k ON k.endpoint_id = e.endpoint_id
	WHERE e.registered OR s.total > 0
	ORDER BY coalesce(s.total - s.succeeded, 0) DESC, s.total DESC NULLS LAST, e.endpoint_id;
END;
COMMENT ON FUNCTION webhooks.endpoint_stats(uuid, interval)
IS 'attempts of each endpoint within the period: how many succeeded (success_rate is 0 to 1), how long they took, and '
	'the failures by status or error class; those with most failures first';

-- shared_preload_libraries itself is not for everybody to read.
CREATE FUNCTION webhooks.is_preloaded() RETURNS boolean
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'wh_sql_is_preloaded';
COMMENT ON FUNCTION webhooks.is_preloaded() IS 'internal: whether the server has loaded the library at its start';

CREATE FUNCTION webhooks.oldest_in_turn(endpoint_id uuid) RETURNS timestamptz
LANGUAGE sql STABLE
BEGIN ATOMIC
	-- The first of each lane by itself, however many are behind it; of what is in no lane, the first rows must do.
	WITH RECURSIVE firsts AS (
		(SELECT q.lane, q.due_at FROM webhooks.queue q
		WHERE q.endpoint_id = oldest_in_turn.endpoint_id AND q.lane IS NOT NULL
		ORDER BY q.lane, q.delivery_id LIMIT 1)
		UNION ALL
		SELECT n.lane, n.due_at FROM firsts f CROSS JOIN LATERAL (
			SELECT q.lane, q.due_at FROM webhooks.queue q
			WHERE q.endpoint_id = oldest_in_turn.endpoint_id AND q.lane > f.lane
			ORDER BY q.lane, q.delivery_id LIMIT 1) n
	)
	SELECT min(t.due_at) FROM (
		(SELECT f.due_at FROM firsts f LIMIT 1000)
		UNION ALL
		SELECT q.due_at FROM (
			SELECT q.due_at, q.lane FROM webhooks.queue q
			WHERE q.endpoint_id = oldest_in_turn.endpoint_id
			ORDER BY q.due_at, q.delivery_id LIMIT 1000) q
		WHERE q.lane IS NULL
	) t;
END;
COMMENT ON FUNCTION webhooks.oldest_in_turn(uuid)
IS 'internal: when the first of an ordered endpoint''s deliveries is due that waits for no other''s retry; of very many '
	'lanes some are looked at';

CREATE FUNCTION webhooks.health(
	OUT ok boolean,
	OUT reason text,
	OUT workers_running integer,
	OUT workers_wanted integer,
	OUT due bigint,
	OUT oldest_due interval,
	OUT dead_letters bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	late constant interval := '5 minutes';
	session_tenant constant text := webhooks.session_tenant();
	broken text[] := '{}';
	notes text[] := '{}';
	held_named constant integer := 3;
	held text[];
	held_count bigint;
	late_by interval;
	unencrypted bigint;
BEGIN
	workers_running := (SELECT count(*) FROM webhooks.processes() p
		WHERE p.database = current_database() AND p.worker IS NOT NULL);
	workers_wanted := CASE WHEN current_setting('webhooks.enabled')::boolean AND NOT pg_is_in_recovery()
		THEN current_setting('webhooks.workers')::integer ELSE 0 END;

	-- What an endpoint's receiver or options hold back is late through no fault of this side.
	WITH queued AS MATERIALIZED (
		SELECT e.endpoint_id, e.rate_limit, e.ordering, q.n, clock_timestamp() - q.oldest AS age
		FROM webhooks.endpoints e, LATERAL (
			SELECT count(*) AS n, min(q.due_at) AS oldest FROM webhooks.queue q
			WHERE q.endpoint_id = e.endpoint_id AND q.due_at <= clock_timestamp()) q
		WHERE e.state = 'active' AND (session_tenant IS NULL OR e.tenant_id = session_tenant)
	), judged AS MATERIALIZED (
		SELECT q.endpoint_id, q.age, CASE
				WHEN q.endpoint_id IN (SELECT b.endpoint_id FROM webhooks.endpoint_breakers() b)
					THEN 'because it does not answer'
				WHEN q.rate_limit IS NOT NULL THEN 'because of its rate_limit'
				WHEN q.ordering <> 'none' AND webhooks.oldest_in_turn(q.endpoint_id) > clock_timestamp() - late
					THEN 'because an earlier one is tried again' END AS held_by
		FROM queued q WHERE q.age > late
	)
	SELECT a.due, a.oldest, j.late_by, j.held, j.held_count INTO due, oldest_due, late_by, held, held_count
	FROM (SELECT coalesce(sum(q.n), 0) AS due, max(q.age) AS oldest FROM queued q) a, (
		SELECT max(j.age) FILTER (WHERE j.held_by IS NULL) AS late_by,
			(array_agg(format('deliveries to endpoint %s have waited for up to %s %s',
				j.endpoint_id, date_trunc('second', j.age), j.held_by) ORDER BY j.age DESC)
				FILTER (WHERE j.held_by IS NOT NULL))[:held_named] AS held,
			count(j.held_by) AS held_count
		FROM judged j) j;
	dead_letters := (SELECT count(*) FROM webhooks.dead_letters d
		WHERE session_tenant IS NULL OR d.tenant_id = session_tenant);
	unencrypted := webhooks.unencrypted_configuration();

	IF NOT webhooks.is_preloaded() THEN
		broken := broken || ('webhooks is not in shared_preload_libraries, so no worker runs: add it there and restart '
			'the server')::text;
	ELSIF pg_is_in_recovery() THEN
		notes := notes || 'this server is a standby, which delivers nothing until it is promoted'::text;
	ELSIF NOT current_setting('webhooks.enabled')::boolean THEN
		broken := broken || 'webhooks.enabled is off'::text;
	ELSIF workers_running < workers_wanted THEN
		broken := broken || format('%s of %s workers run', workers_running, workers_wanted);
	END IF;
	IF late_by IS NOT NULL THEN
		broken := broken || format('deliveries have been due for up to %s', date_trunc('second', late_by));
	END IF;
	notes := notes || held;
	IF held_count > held_named THEN
		notes := notes || format('so have those to %s more', held_count - held_named);
	END IF;
	IF to_regclass(format('webhooks.events_%s', to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD'))) IS NULL
		AND EXISTS (SELECT FROM webhooks.endpoints WHERE created_at < now() - interval '1 hour')
	THEN
		notes := notes || 'there is no partition for today, events go to the default one'::text;
	END IF;
	IF unencrypted > 0 AND session_tenant IS NULL THEN
		notes := notes || format('%s stored unencrypted',
			CASE unencrypted WHEN 1 THEN '1 secret is' ELSE unencrypted || ' secrets are' END);
	END IF;
	ok := broken = '{}';
	reason := nullif(array_to_string(broken || notes, '; '), '');
END;
$$;
COMMENT ON FUNCTION webhooks.health()
IS 'whether deliveries go on as they should, and if not, why; reason may hold remarks while ok is true, such as which '
	'endpoints hold their deliveries back; due and dead_letters are the session''s tenant''s where one is set';

CREATE FUNCTION webhooks.metrics(OUT name text, OUT labels jsonb, OUT value double precision)
RETURNS SETOF record LANGUAGE sql STABLE
BEGIN ATOMIC
	WITH h AS MATERIALIZED (SELECT * FROM webhooks.health()),
	p AS MATERIALIZED (SELECT * FROM webhooks.processes() WHERE database = current_database())
	SELECT m.name, m.labels, m.value FROM h, LATERAL (VALUES
		('webhooks_up', jsonb '{}', h.ok::integer::double precision),
		('webhooks_workers_running', '{}', h.workers_running),
		('webhooks_workers_wanted', '{}', h.workers_wanted),
		('webhooks_deliveries_due', '{}', h.due),
		('webhooks_oldest_due_seconds', '{}', coalesce(EXTRACT(epoch FROM h.oldest_due)::double precision, 0)),
		('webhooks_dead_letters', '{}', h.dead_letters)
	) m(name, labels, value)
	UNION ALL
	SELECT 'webhooks_endpoints', jsonb_build_object('state', s.state), count(e.endpoint_id)
	FROM unnest(ARRAY['active', 'paused', 'disabled']) s(state)
	LEFT JOIN webhooks.endpoints e ON e.state = s.state AND e.registered
	GROUP BY s.state
	UNION ALL
	SELECT m.name, m.labels, m.value FROM p, LATERAL (VALUES
		('webhooks_in_flight', jsonb '{}', p.in_flight::double precision),
		('webhooks_attempts_total', jsonb '{"outcome": "succeeded"}', p.succeeded),
		('webhooks_attempts_total', '{"outcome": "retrying"}', p.retried),
		('webhooks_attempts_total', '{"outcome": "dead_letter"}', p.dead_lettered),
		('webhooks_sent_bytes_total', '{}', p.bytes_sent)
	) v(name, labels, value), LATERAL (
		SELECT v.name, v.labels || jsonb_build_object('worker', p.worker::text) AS labels, v.value
	) m
	-- a tenant is told no figures of workers
	WHERE p.worker IS NOT NULL AND v.value IS NOT NULL;
END;
COMMENT ON FUNCTION webhooks.metrics()
IS 'figures for a monitoring system; those named _total only grow while their worker runs, and begin at 0 with it';

CREATE FUNCTION webhooks.html(text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT replace(replace(replace(replace(replace(coalesce($1, ''), '&', '&amp;'), '<', '&lt;'), '>', '&gt;'),
		'"', '&quot;'), '''', '&#39;');
END;
COMMENT ON FUNCTION webhooks.html(text) IS 'of report_html: text as HTML';

CREATE FUNCTION webhooks.html_table(head text[], body text, empty text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT CASE WHEN coalesce(body, '') = '' THEN '<p class="empty">' || webhooks.html(empty) || '</p>'
		ELSE '<table><thead><tr>'
			|| (SELECT string_agg('<th>' || webhooks.html(h) || '</th>', '' ORDER BY n)
				FROM unnest(head) WITH ORDINALITY u(h, n))
			|| '</tr></thead><tbody>' || body || '</tbody></table>' END;
END;
COMMENT ON FUNCTION webhooks.html_table(text[], text, text)
IS 'of report_html: a table, or a sentence where it has no rows';

CREATE FUNCTION webhooks.html_row(VARIADIC cells text[]) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT '<tr>' || (SELECT string_agg('<td>' || webhooks.html(c) || '</td>', '' ORDER BY n)
		FROM unnest(cells) WITH ORDINALITY u(c, n)) || '</tr>';
END;
COMMENT ON FUNCTION webhooks.html_row(text[]) IS 'of report_html: a row of a table';

CREATE FUNCTION webhooks.report_html() RETURNS text
LANGUAGE sql STABLE
BEGIN ATOMIC
	WITH h AS MATERIALIZED (SELECT * FROM webhooks.health()),
	asked AS MATERIALIZED (SELECT * FROM webhooks.endpoint_stats() WHERE total > 0),
	s AS (
		SELECT a.*, e.tenant_id,
			concat_ws(', ', e.state || coalesce(' (' || e.disabled_reason || ')', ''), 'breaker ' || b.state) AS state
		FROM asked a
		LEFT JOIN webhooks.endpoints e ON e.endpoint_id = a.endpoint_id
		LEFT JOIN LATERAL (
			SELECT min(b.state) AS state FROM webhooks.endpoint_breakers b WHERE b.endpoint_id = a.endpoint_id) b ON true
		ORDER BY a.failed DESC, a.total DESC, a.endpoint_id LIMIT 50
	),
	recent AS (
		SELECT l.attempted_at, l.event_type, l.url, l.attempt, l.outcome, l.status_code, l.error
		FROM webhooks.delivery_log l
		WHERE l.attempted_at > now() - interval '1 day' AND l.outcome IN ('retrying', 'dead_letter')
		ORDER BY l.attempted_at DESC LIMIT 50
	), dead AS (
		SELECT d.reason, count(*) AS n, min(d.dead_at) AS first, max(d.dead_at) AS last
		FROM webhooks.dead_letters d GROUP BY d.reason
	)
	SELECT '<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>webhooks: ' || webhooks.html(current_database()) || '</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #1b1f24; background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.state { padding: .6rem 1rem; border-radius: .4rem; } .ok { background: #e3f5e6; } .bad { background: #fbe4e4; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1rem 0; padding: 0; list-style: none; }
.figures li { background: #f3f4f6; border-radius: .4rem; padding: .6rem 1rem; min-width: 8rem; } .figures b { display: block; font-size: 1.3rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid #e2e5e9; vertical-align: top; }
td { overflow-wrap: anywhere; min-width: 5.6rem; } .empty { color: #5b6470; }
</style>
</head>
<body>
<h1>Webhooks of ' || webhooks.html(current_database()) || '</h1>
<p class="state ' || CASE WHEN h.ok THEN 'ok' ELSE 'bad' END || '"><b>' || CASE WHEN h.ok THEN 'Delivering' ELSE 'Needs attention' END
		|| '</b>' || coalesce(': ' || webhooks.html(h.reason), '') || '</p>
<ul class="figures">
<li><b>' || h.workers_running || ' of ' || h.workers_wanted || '</b>workers run</li>
<li><b>' || h.due || '</b>deliveries due</li>
<li><b>' || webhooks.html(coalesce(date_trunc('second', h.oldest_due)::text, '–')) || '</b>the oldest is late by</li>
<li><b>' || h.dead_letters || '</b>dead letters</li>
</ul>
<h2>Endpoints, last 24 hours</h2>
<div class="wide">' || webhooks.html_table(
			ARRAY['URL', 'Tenant', 'State', 'Attempts', 'Failed', 'Success', 'Median ms', 'p95 ms', 'p99 ms', 'Failures by kind'],
			(SELECT string_agg(webhooks.html_row(s.url, s.tenant_id, s.state, s.total::text, s.failed::text,
				pg_catalog.round((s.success_rate * 100)::numeric, 1) || ' %', pg_catalog.round(s.p50_ms::numeric, 1)::text,
				pg_catalog.round(s.p95_ms::numeric, 1)::text, pg_catalog.round(s.p99_ms::numeric, 1)::text,
				(SELECT string_agg(e.key || ' × ' || e.value, ', ' ORDER BY e.value::bigint DESC, e.key)
					FROM jsonb_each_text(s.errors) e)), '' ORDER BY s.failed DESC, s.total DESC) FROM s),
			'No request was made.')
		|| coalesce((SELECT '<p class="empty">and ' || count(*) - 50 || ' more</p>' FROM asked HAVING count(*) > 50), '')
		|| '</div>
<h2>Latest failures</h2>
<div class="wide">' || webhooks.html_table(ARRAY['When', 'Event type', 'URL', 'Attempt', 'Outcome', 'Status', 'Error'],
			(SELECT string_agg(webhooks.html_row(to_char(r.attempted_at, 'YYYY-MM-DD HH24:MI:SS TZ'), r.event_type, r.url,
				r.attempt::text, r.outcome, r.status_code::text, r.error), '' ORDER BY r.attempted_at DESC) FROM recent r),
			'There is none.') || '</div>
<h2>Dead letters</h2>
<div class="wide">' || webhooks.html_table(ARRAY['Reason', 'Deliveries', 'First', 'Last'],
			(SELECT string_agg(webhooks.html_row(d.reason, d.n::text, to_char(d.first, 'YYYY-MM-DD HH24:MI:SS TZ'),
				to_char(d.last, 'YYYY-MM-DD HH24:MI:SS TZ')), '' ORDER BY d.n DESC) FROM dead d),
			'There is none.') || '</div>
<p class="empty">As of ' || to_char(now(), 'YYYY-MM-DD HH24:MI:SS TZ') || '.</p>
</body>
</html>
'
	FROM h;
END;
COMMENT ON FUNCTION webhooks.report_html()
IS 'one HTML page: health, endpoints, latest failures, dead letters; psql -XAt -c ''SELECT webhooks.report_html()'' > '
	'report.html';


-- ---------------------------------------------------------------------------------------------------------------------
-- Signatures
-- ---------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION webhooks.sign(secret text, message_id text, sent_at timestamptz, body text, scheme text DEFAULT 'v1')
RETURNS text LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'wh_sql_sign_text';
COMMENT ON FUNCTION webhooks.sign(text, text, timestamptz, text, text)
IS 'a message''s signature, as the header of the scheme has it; of rfc9421 the three headers, a line each';

CREATE FUNCTION webhooks.sign(secret text, message_id text, sent_at timestamptz, body bytea, scheme text DEFAULT 'v1')
RETURNS text LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'wh_sql_sign_bytea';
COMMENT ON FUNCTION webhooks.sign(text, text, timestamptz, bytea, text)
IS 'a message''s signature, as the header of the scheme has it; of rfc9421 the three headers, a line each';

CREATE FUNCTION webhooks.verify(
	secret text, headers jsonb, body text, tolerance interval DEFAULT '5 minutes', scheme text DEFAULT 'v1')
RETURNS boolean LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'wh_sql_verify_text';
COMMENT ON FUNCTION webhooks.verify(text, jsonb, text, interval, text)
IS 'whether a message that came in is signed with the secret, and its time within the tolerance';

CREATE FUNCTION webhooks.verify(
	secret text, headers jsonb, body bytea, tolerance interval DEFAULT '5 minutes', scheme text DEFAULT 'v1')
RETURNS boolean LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'wh_sql_verify_bytea';
COMMENT ON FUNCTION webhooks.verify(text, jsonb, bytea, interval, text)
IS 'whether a message that came in is signed with the secret, and its time within the tolerance';

CREATE FUNCTION webhooks.verify(
	secrets text[], headers jsonb, body text, tolerance interval DEFAULT '5 minutes', scheme text DEFAULT 'v1')
RETURNS boolean LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'wh_sql_verify_any_text';
COMMENT ON FUNCTION webhooks.verify(text[], jsonb, text, interval, text)
IS 'the same with any of several secrets, as while one is being replaced';

CREATE FUNCTION webhooks.verify(
	secrets text[], headers jsonb, body bytea, tolerance interval DEFAULT '5 minutes', scheme text DEFAULT 'v1')
RETURNS boolean LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'wh_sql_verify_any_bytea';
COMMENT ON FUNCTION webhooks.verify(text[], jsonb, bytea, interval, text)
IS 'the same with any of several secrets, as while one is being replaced';


-- ---------------------------------------------------------------------------------------------------------------------
-- Receiving
-- ---------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION webhooks.add_source(
	name text,
	secret text,
	scheme text DEFAULT 'v1',
	tolerance interval DEFAULT '5 minutes',
	id_path jsonpath DEFAULT NULL,
	tenant_id text DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wh_sql_add_source';
COMMENT ON FUNCTION webhooks.add_source(text, text, text, interval, jsonpath, text)
IS 'says who sends webhooks to this database and how they are signed';

CREATE FUNCTION webhooks.remove_source(name text, tenant_id text DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wh_sql_remove_source';
COMMENT ON FUNCTION webhooks.remove_source(text, text)
IS 'takes no more messages of the source; those received stay until webhooks.inbox_retention';

CREATE FUNCTION webhooks.rotate_source_secret(
	name text, secret text, overlap interval DEFAULT '24 hours', tenant_id text DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wh_sql_rotate_source_secret';
COMMENT ON FUNCTION webhooks.rotate_source_secret(text, text, interval, text)
IS 'gives the source the secret that its sender has now; during the overlap what the older ones signed is taken, too';

CREATE FUNCTION webhooks.on_event(
	source text, event_type_pattern text, handler regprocedure, tenant_id text DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wh_sql_on_event';
COMMENT ON FUNCTION webhooks.on_event(text, text, regprocedure, text)
IS 'has receive call handler(message_id, event_type, payload) with each new message of these types; NULL ends that';

CREATE FUNCTION webhooks.receive(
	source text,
	headers jsonb,
	body text,
	tenant_id text DEFAULT NULL,
	OUT message_id text,
	OUT event_type text,
	OUT payload jsonb,
	OUT is_new boolean)
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'wh_sql_receive_text';
COMMENT ON FUNCTION webhooks.receive(text, jsonb, text, text)
IS 'verifies a message, stores it once and calls its handlers, all in this transaction; is_new is false for a repeat';

CREATE FUNCTION webhooks.receive(
	source text,
	headers jsonb,
	body bytea,
	tenant_id text DEFAULT NULL,
	OUT message_id text,
	OUT event_type text,
	OUT payload jsonb,
	OUT is_new boolean)
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'wh_sql_receive_bytea';
COMMENT ON FUNCTION webhooks.receive(text, jsonb, bytea, text)
IS 'verifies a message, stores it once and calls its handlers, all in this transaction; is_new is false for a repeat';

CREATE FUNCTION webhooks.reprocess(
	source text,
	since timestamptz,
	tenant_id text DEFAULT NULL,
	OUT message_id text,
	OUT event_type text,
	OUT payload jsonb,
	OUT headers jsonb,
	OUT body bytea,
	OUT received_at timestamptz) RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	session_tenant constant text := webhooks.session_tenant();
	of_tenant constant text := coalesce(reprocess.tenant_id, session_tenant, '');
BEGIN
	IF of_tenant <> coalesce(session_tenant, of_tenant) THEN
		RAISE insufficient_privilege USING MESSAGE = 'tenant_id must be the session''s own tenant',
			DETAIL = 'The session is confined to one tenant by webhooks.tenant_id.';
	END IF;
	IF octet_length(of_tenant) > 255 THEN
		RAISE invalid_parameter_value USING MESSAGE = 'tenant_id must have at most 255 bytes';
	END IF;
	IF reprocess.source IS NULL THEN
		RAISE invalid_parameter_value USING MESSAGE = 'source must not be NULL';
	END IF;
	IF since IS NULL THEN
		RAISE invalid_parameter_value USING MESSAGE = 'since must not be NULL';
	END IF;
	IF NOT EXISTS (SELECT FROM webhooks.sources s WHERE s.tenant_id = of_tenant AND s.name = reprocess.source) THEN
		RAISE no_data_found USING MESSAGE = format('source "%s" does not exist', reprocess.source);
	END IF;

	RETURN QUERY
	SELECT i.message_id, i.event_type, i.payload, i.headers, i.body, i.received_at
	FROM webhooks.inbox i
	WHERE i.tenant_id = of_tenant AND i.source = reprocess.source AND i.received_at >= since
	ORDER BY i.received_at, i.message_id;
END;
$$;
COMMENT ON FUNCTION webhooks.reprocess(text, timestamptz, text)
IS 'the messages received since then, again and in their order, for whoever wants to apply them anew; calls no handler';


-- ---------------------------------------------------------------------------------------------------------------------
-- Partitions and retention
-- ---------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION webhooks.event_id_floor(at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
	-- the smallest UUIDv7 of a moment: 48 bits of Unix milliseconds, zeros after; none is older than 1970
	SELECT pg_catalog.rpad(pg_catalog.lpad(pg_catalog.to_hex(
		greatest(pg_catalog.floor(EXTRACT(epoch FROM at) * 1000)::bigint, 0)), 12, '0'), 32, '0')::uuid;
END;
COMMENT ON FUNCTION webhooks.event_id_floor(timestamptz) IS 'internal: the smallest event id of a moment';

CREATE FUNCTION webhooks.make_partition(parent regclass, day date) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms' SET "TimeZone" = 'UTC' SET default_tablespace = ''
AS $$
DECLARE
	parent_name text := (SELECT relname FROM pg_class WHERE oid = parent);
	name text := parent_name || to_char(day, '_YYYYMMDD');
	key text := CASE parent_name WHEN 'events' THEN 'event_id' WHEN 'inbox' THEN 'received_at' ELSE 'attempted_at' END;
	low text := CASE parent_name
		WHEN 'events' THEN webhooks.event_id_floor(day::timestamptz)::text
		ELSE day::timestamptz::text END;
	high text := CASE parent_name
		WHEN 'events' THEN webhooks.event_id_floor((day + 1)::timestamptz)::text
		ELSE (day + 1)::timestamptz::text END;
	in_default text := format('SELECT EXISTS (SELECT FROM webhooks.%1$I WHERE %2$I >= %3$L AND %2$I < %4$L)',
		parent_name || '_default', key, low, high);
	to_move boolean;
	came_late boolean;
BEGIN
	EXECUTE in_default INTO to_move;
	IF to_move THEN
		-- Who planned with the old bounds would look for the rows in their old place: nobody may be
		-- between plan and look.
		EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', parent);
	ELSE
		-- ATTACH wants this lock anyway; taken first, no row slips in before it.
		EXECUTE format('LOCK TABLE webhooks.%I IN ACCESS EXCLUSIVE MODE', parent_name || '_default');
		EXECUTE in_default INTO came_late;
		IF came_late THEN
			RAISE lock_not_available USING MESSAGE = format('rows for %s came in meanwhile', name), HINT = 'Try again.';
		END IF;
	END IF;

	EXECUTE format('CREATE TABLE webhooks.%I (LIKE %s INCLUDING DEFAULTS INCLUDING COMMENTS)', name, parent);
	EXECUTE format('ALTER TABLE webhooks.%I ENABLE ROW LEVEL SECURITY', name);
	EXECUTE format('WITH moved AS (DELETE FROM webhooks.%1$I WHERE %2$I >= %3$L AND %2$I < %4$L RETURNING *)
		INSERT INTO webhooks.%5$I SELECT * FROM moved', parent_name || '_default', key, low, high, name);
	IF parent_name = 'events' THEN
		EXECUTE format('ALTER TABLE webhooks.%I ADD PRIMARY KEY (event_id)', name);
	ELSIF parent_name = 'inbox' THEN
		EXECUTE format('CREATE INDEX ON webhooks.%I (tenant_id, source, received_at)', name);
	ELSE
		EXECUTE format('CREATE INDEX ON webhooks.%I (delivery_id)', name);
	END IF;
	-- One that was never analyzed is planned for as if it had ten pages: so many of them make any plan cost so much that
	-- it is compiled. Of one that was, the size of its file tells when it grows.
	EXECUTE format('ANALYZE webhooks.%I', name);
	EXECUTE format('ALTER TABLE %s ATTACH PARTITION webhooks.%I FOR VALUES FROM (%L) TO (%L)', parent, name, low, high);
	RETURN 'made ' || name;
END;
$$;
COMMENT ON FUNCTION webhooks.make_partition(regclass, date)
IS 'internal: makes a day''s partition of events, attempts or inbox and moves the day''s rows there';

CREATE FUNCTION webhooks.drop_partition(parent regclass, part regclass) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms' SET "TimeZone" = 'UTC'
AS $$
DECLARE
	name text := part::text;
BEGIN
	EXECUTE format('ALTER TABLE %s DETACH PARTITION %s', parent, part);
	IF parent = 'webhooks.events'::regclass THEN
		-- a delivery that is still queued, or a dead letter that may be replayed, needs its event
		EXECUTE format('INSERT INTO webhooks.events SELECT e.* FROM %s e
			WHERE EXISTS (SELECT FROM webhooks.queue q WHERE q.event_id = e.event_id)
				OR EXISTS (SELECT FROM webhooks.dead_letters d WHERE d.event_id = e.event_id)', part);
	END IF;
	EXECUTE format('DROP TABLE %s', part);
	RETURN 'dropped ' || name;
END;
$$;
COMMENT ON FUNCTION webhooks.drop_partition(regclass, regclass)
IS 'internal: drops a day past retention; events that a delivery still needs move to the default partition';

CREATE FUNCTION webhooks.remove_unused_targets() RETURNS boolean
LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wh_sql_remove_unused_targets';
COMMENT ON FUNCTION webhooks.remove_unused_targets()
IS 'internal: removes targets of dispatch_to_urls that nothing needs any more; returns whether there may be more';

CREATE FUNCTION webhooks.maintain() RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET "TimeZone" = 'UTC'
AS $$
DECLARE
	days_ahead constant integer := 7;
	rows_a_call constant bigint := 2000;
	-- loads the library, which keeps webhooks.retention from the session
	session_tenant constant text := webhooks.session_tenant();
	kept_from date := (now() - current_setting('webhooks.retention')::interval)::date;
	inbox_kept_from date := (now() - current_setting('webhooks.inbox_retention')::interval)::date;
	sends boolean := EXISTS (SELECT FROM webhooks.endpoints);
	receives boolean := EXISTS (SELECT FROM webhooks.sources);
	parent regclass;
	part regclass;
	day date;
	removed bigint;
BEGIN
	-- Nothing to deliver to or to receive from, nothing to make room for; and a dump being restored brings its own
	-- partitions first.
	IF NOT (sends OR receives) THEN
		RETURN NULL;
	END IF;

	-- One partition a call: the locks this takes stand in the way of every dispatch until the transaction ends.
	SELECT p.parent, d.day INTO parent, day
	FROM unnest(ARRAY['webhooks.events', 'webhooks.attempts', 'webhooks.inbox']::regclass[],
			ARRAY[sends, sends, receives]) WITH ORDINALITY p(parent, wanted, n),
		LATERAL (SELECT now()::date + i FROM generate_series(0, days_ahead) i) d(day)
	WHERE p.wanted AND to_regclass(p.parent::text || to_char(d.day, '_YYYYMMDD')) IS NULL
	ORDER BY d.day, p.n
	LIMIT 1;
	IF FOUND THEN
		RETURN webhooks.make_partition(parent, day);
	END IF;

	SELECT i.inhparent, i.inhrelid INTO parent, part
	FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
	WHERE i.inhparent IN ('webhooks.events'::regclass, 'webhooks.attempts'::regclass, 'webhooks.inbox'::regclass)
		AND c.relname ~ '_[0-9]{8}$' AND to_date(right(c.relname, 8), 'YYYYMMDD')
			< CASE WHEN i.inhparent = 'webhooks.inbox'::regclass THEN inbox_kept_from ELSE kept_from END
	ORDER BY c.relname
	LIMIT 1;
	IF FOUND THEN
		RETURN webhooks.drop_partition(parent, part);
	END IF;

	-- So many rows a call: the deliveries of the worker that calls wait meanwhile.
	-- whatever a transaction is replaying is not waited for
	DELETE FROM webhooks.dead_letters WHERE delivery_id IN (
		SELECT delivery_id FROM webhooks.dead_letters
		WHERE dead_at < now() - current_setting('webhooks.dead_letter_retention')::interval
		LIMIT rows_a_call FOR UPDATE SKIP LOCKED);
	GET DIAGNOSTICS removed = ROW_COUNT;
	IF removed = rows_a_call THEN
		RETURN 'removed dead letters';
	END IF;
	-- never waits for a dispatch that takes one over: neither could end
	DELETE FROM webhooks.idempotency_keys k USING (
		SELECT o.tenant_id, o.idempotency_key FROM webhooks.idempotency_keys o
		WHERE o.created_at < now() - current_setting('webhooks.idempotency_window')::interval
		LIMIT rows_a_call
		FOR UPDATE SKIP LOCKED) old
	WHERE k.tenant_id = old.tenant_id AND k.idempotency_key = old.idempotency_key;
	GET DIAGNOSTICS removed = ROW_COUNT;
	IF removed = rows_a_call THEN
		RETURN 'removed idempotency keys';
	END IF;
	DELETE FROM webhooks.inbox_messages WHERE (tenant_id, source, message_id) IN (
		SELECT tenant_id, source, message_id FROM webhooks.inbox_messages
		WHERE received_at < inbox_kept_from
		LIMIT rows_a_call);
	GET DIAGNOSTICS removed = ROW_COUNT;
	IF removed = rows_a_call THEN
		RETURN 'removed messages known by their ids';
	END IF;
	DELETE FROM webhooks.attempts_default WHERE attempted_at < kept_from;
	DELETE FROM webhooks.events_default e
	WHERE e.event_id < webhooks.event_id_floor(kept_from::timestamptz)
		AND NOT EXISTS (SELECT FROM webhooks.queue q WHERE q.event_id = e.event_id)
		AND NOT EXISTS (SELECT FROM webhooks.dead_letters d WHERE d.event_id = e.event_id);
	DELETE FROM webhooks.inbox_default WHERE received_at < inbox_kept_from;
	-- events go by the day, in one stroke; their secrets after them
	DELETE FROM webhooks.event_secrets WHERE event_id IN (
		SELECT s.event_id FROM webhooks.event_secrets s
		WHERE s.event_id < webhooks.event_id_floor(kept_from::timestamptz) AND NOT EXISTS (
			SELECT FROM webhooks.events e
			WHERE e.event_id = s.event_id AND e.event_id < webhooks.event_id_floor(kept_from::timestamptz))
		LIMIT rows_a_call);
	GET DIAGNOSTICS removed = ROW_COUNT;
	IF removed = rows_a_call THEN
		RETURN 'removed secrets of events';
	END IF;
	DELETE FROM webhooks.endpoint_secrets WHERE expires_at < now();
	DELETE FROM webhooks.source_secrets WHERE expires_at < now();
	DELETE FROM webhooks.endpoint_health h
	WHERE (failing_since IS NULL AND coalesce(greatest(alerted_at, counted_from), '-infinity') < now() - interval '1 day')
		OR NOT EXISTS (SELECT FROM webhooks.endpoints e WHERE e.endpoint_id = h.endpoint_id);
	IF webhooks.remove_unused_targets() THEN
		RETURN 'removed unused targets';
	END IF;
	RETURN NULL;
END;
$$;
COMMENT ON FUNCTION webhooks.maintain()
IS 'makes partitions a week ahead and drops what is past retention and not needed, one partition or so many rows a '
	'call, and says which; NULL when nothing is left to do; workers call it every few minutes';

CREATE FUNCTION webhooks.announce() RETURNS void
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'wh_sql_announce';
COMMENT ON FUNCTION webhooks.announce()
IS 'internal: tells the launcher, when this transaction commits, that this database has the extension';


-- ---------------------------------------------------------------------------------------------------------------------
-- Privileges: PUBLIC has nothing
--
-- The tables' row-level security has no policy in the catalog: the library gives it one (see src/sql/tenant_rule.c).
-- ---------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION webhooks.access_levels(OUT level text, OUT kind text, OUT name text) RETURNS SETOF record
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT l.level, l.kind, n.name
	FROM (VALUES
		('dispatch', 'function', '{
			dispatch, dispatch_raw, dispatch_to_urls, dispatch_status,
			emit_change,
			sign, verify, receive}'::text[]),
		('observe', 'function', '{
			endpoint_stats, checked_endpoint, health, metrics, in_flight, endpoint_breakers, processes,
			report_html, html, html_table, html_row, secrets_encrypted,
			check_url, public_key, exponential_backoff, reprocess,
			wait_until_idle}'),
		('observe', 'relation', '{
			endpoints, endpoint_health, events, queue, attempts, dead_letters, event_types, api_versions, idempotency_keys,
			inbox, inbox_messages, sources, source_handlers,
			deliveries, delivery_log, in_flight, endpoint_breakers, pg_stat_webhooks, watched, backfills}'),
		('manage', 'function', '{
			register_endpoint, update_endpoint, pause_endpoint, resume_endpoint, disable_endpoint, enable_endpoint,
			remove_endpoint, rotate_secret, ping_endpoint,
			add_signing_key, retire_signing_key,
			cancel_event, cancel_delivery, replay_delivery, replay_event, replay_failed, discard_dead_letter,
			register_event_type, retire_event_type, register_api_version,
			watch, unwatch, backfill, add_source, rotate_source_secret, remove_source, on_event,
			deliver_due}'),
		('owner', 'function', '{
			maintain, reencrypt_secrets, unencrypted_secrets,
			access_levels, grant_access, revoke_access}')
	) l(level, kind, names), LATERAL pg_catalog.unnest(l.names) n(name);
END;
COMMENT ON FUNCTION webhooks.access_levels()
IS 'what each level of grant_access allows, manage all that dispatch and observe do as well; what is the owner''s can '
	'be granted by hand alone';

CREATE FUNCTION webhooks.grant_access(role regrole, level text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	levels constant text[] := CASE grant_access.level
		WHEN 'dispatch' THEN '{dispatch}'
		WHEN 'observe' THEN '{observe}'
		WHEN 'manage' THEN '{dispatch,observe,manage}' END;
	granted text;
BEGIN
	IF role IS NULL OR role = 0 THEN
		RAISE invalid_parameter_value USING MESSAGE = 'role must not be NULL';
	END IF;
	IF NOT EXISTS (SELECT FROM pg_roles WHERE oid = role) THEN
		RAISE undefined_object USING MESSAGE = format('role %s does not exist', role);
	END IF;
	IF levels IS NULL THEN
		RAISE invalid_parameter_value USING MESSAGE = 'level must be dispatch, observe or manage';
	END IF;

	EXECUTE format('GRANT USAGE ON SCHEMA webhooks TO %s', role);
	FOR granted IN
		SELECT format('EXECUTE ON ROUTINE %s', p.oid::regprocedure)
		FROM webhooks.access_levels() a JOIN pg_proc p ON p.proname = a.name
		WHERE a.kind = 'function' AND a.level = ANY (levels) AND p.pronamespace = 'webhooks'::regnamespace
		UNION ALL
		SELECT format('SELECT ON %s', c.oid::regclass)
		FROM webhooks.access_levels() a JOIN pg_class c ON c.relname = a.name
		WHERE a.kind = 'relation' AND a.level = ANY (levels) AND c.relnamespace = 'webhooks'::regnamespace
	LOOP
		EXECUTE format('GRANT %s TO %s', granted, role);
	END LOOP;
END;
$$;
COMMENT ON FUNCTION webhooks.grant_access(regrole, text)
IS 'lets a role dispatch, observe or manage, beside what it may already; again after ALTER EXTENSION UPDATE for what '
	'is new';

CREATE FUNCTION webhooks.revoke_access(role regrole) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	granted text;
BEGIN
	IF role IS NULL OR role = 0 THEN
		RAISE invalid_parameter_value USING MESSAGE = 'role must not be NULL';
	END IF;
	IF NOT EXISTS (SELECT FROM pg_roles WHERE oid = role) THEN
		RAISE undefined_object USING MESSAGE = format('role %s does not exist', role);
	END IF;

	FOR granted IN
		SELECT format('ALL ON ROUTINE %s', p.oid::regprocedure)
		FROM pg_proc p
		WHERE p.pronamespace = 'webhooks'::regnamespace
			AND EXISTS (SELECT FROM aclexplode(p.proacl) a WHERE a.grantee = role)
		UNION ALL
		SELECT format('ALL ON %s', c.oid::regclass)
		FROM pg_class c
		WHERE c.relnamespace = 'webhooks'::regnamespace
			AND (EXISTS (SELECT FROM aclexplode(c.relacl) a WHERE a.grantee = role)
				OR EXISTS (
					SELECT FROM pg_attribute att, aclexplode(att.attacl) a
					WHERE att.attrelid = c.oid AND a.grantee = role))
		UNION ALL
		SELECT 'ALL ON SCHEMA webhooks'
	LOOP
		EXECUTE format('REVOKE %s FROM %s', granted, role);
	END LOOP;
END;
$$;
COMMENT ON FUNCTION webhooks.revoke_access(regrole)
IS 'takes from a role everything that was granted to it on the extension, of whatever level';

DO $$
DECLARE
	rel regclass;
BEGIN
	FOR rel IN
		SELECT c.oid FROM pg_catalog.pg_class c
		WHERE c.relnamespace OPERATOR(pg_catalog.=) 'webhooks'::pg_catalog.regnamespace
			AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p}'::pg_catalog."char"[])
	LOOP
		EXECUTE pg_catalog.format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', rel);
	END LOOP;
END;
$$;

REVOKE ALL ON SCHEMA webhooks FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA webhooks FROM PUBLIC;
REVOKE ALL ON ALL ROUTINES IN SCHEMA webhooks FROM PUBLIC;

-- as make_partition does with the others
ANALYZE webhooks.events_default, webhooks.attempts_default, webhooks.inbox_default;

SELECT webhooks.announce();
