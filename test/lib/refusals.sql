\set ECHO none
-- What the scripts refusals_*.sql share. A script fills the tables, and at its end asks what_is_missing() and calls
-- forget_refusals().

-- A call that is taken: what stands for each argument that has no default. "f (x)" is another call of the function f.
CREATE TABLE taken (call text, argument text, value text, n serial);
-- What an argument refuses, in that call: an expression, behind which other arguments may stand.
CREATE TABLE refused (call text, argument text, value text, n serial);
-- Arguments that take whatever their type holds, and what becomes of it.
CREATE TABLE takes_all (call text, argument text, why text);

CREATE FUNCTION statement(of_call text, of_argument text, of_value text) RETURNS text LANGUAGE sql AS $$
	SELECT format('%s webhooks.%s(%s)',
		CASE WHEN (SELECT bool_or(prokind = 'p') FROM pg_proc WHERE pronamespace = 'webhooks'::regnamespace AND proname = split_part(of_call, ' ', 1))
			THEN 'CALL' ELSE 'SELECT' END,
		split_part(of_call, ' ', 1),
		concat_ws(', ',
			(SELECT string_agg(t.argument || ' => ' || t.value, ', ' ORDER BY t.n) FROM taken t WHERE t.call = of_call AND t.argument IS DISTINCT FROM of_argument),
			of_argument || ' => ' || of_value))
$$;

-- Each refusal of the calls named, and before them whether the call is taken without a fault. libcurl's words for what
-- is malformed change between its versions, and the number of a schema for temporary things between PostgreSQL's.
CREATE FUNCTION refusals(VARIADIC calls text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	c text;
	r refused;
BEGIN
	FOREACH c IN ARRAY calls LOOP
		RETURN NEXT c || ': ' || tried(statement(c, NULL, NULL), false);
		FOR r IN SELECT * FROM refused WHERE call = c ORDER BY n LOOP
			RETURN NEXT format('  %s => %s -> %s', r.argument, r.value,
				regexp_replace(tried(statement(c, r.argument, r.value), false), '(is malformed: )[A-Z].*|(pg_temp_)[0-9]+', '\1\2…'));
		END LOOP;
	END LOOP;
END
$$;

-- Which script asks about which functions.
CREATE FUNCTION asked(of_script text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT f FROM (VALUES
		('endpoints', '{register_endpoint, update_endpoint, pause_endpoint, resume_endpoint, disable_endpoint, enable_endpoint, remove_endpoint,
			rotate_secret, public_key, ping_endpoint, check_url, exponential_backoff}'::text[]),
		('events', '{dispatch, dispatch_raw, dispatch_to_urls, add_signing_key, retire_signing_key, dispatch_status, cancel_event, cancel_delivery,
			replay_delivery, replay_event, replay_failed, discard_dead_letter, register_event_type, retire_event_type, register_api_version}'),
		('others', '{watch, unwatch, backfill, sign, verify, add_source, rotate_source_secret, remove_source, on_event, receive, reprocess,
			deliver_due, wait_until_idle, endpoint_stats, grant_access, revoke_access}')
	) s(script, functions), unnest(functions) f
	WHERE script = coalesce(of_script, script)
$$;

-- Whoever adds a function has a script ask about it; whoever adds an argument says what it refuses, or that it takes everything.
CREATE FUNCTION what_is_missing(script text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT DISTINCT p.proname || ' is in no list' FROM pg_proc p
	WHERE p.pronamespace = 'webhooks'::regnamespace AND p.pronargs > 0 AND obj_description(p.oid, 'pg_proc') !~ '^(internal|of [a-z_]+):'
		AND p.proname NOT IN (SELECT asked(NULL))
	UNION ALL
	SELECT DISTINCT format('%s has no refusal of %s', p.proname, a.name)
	FROM asked(script) f JOIN pg_proc p ON p.proname = f AND p.pronamespace = 'webhooks'::regnamespace, unnest(p.proargnames, p.proargmodes) a(name, mode)
	WHERE coalesce(a.mode, 'i') IN ('i', 'b')
		AND NOT EXISTS (SELECT FROM (SELECT call, argument FROM refused UNION ALL SELECT call, argument FROM takes_all) r
			WHERE split_part(r.call, ' ', 1) = p.proname AND r.argument = a.name)
$$;

CREATE PROCEDURE forget_refusals() LANGUAGE sql AS $$
	DROP TABLE taken, refused, takes_all;
	DROP FUNCTION statement, refusals, asked, what_is_missing;
	DROP PROCEDURE forget_refusals;
$$;
\set ECHO all
