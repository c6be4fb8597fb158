-- Secrets: rotating, and what signs during the overlap.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
SELECT endpoint_id AS ep, secret AS s1 FROM webhooks.register_endpoint('https://example.com/') \gset
SELECT endpoint_id AS other, secret AS other_secret FROM webhooks.register_endpoint('https://example.com/other') \gset
CREATE FUNCTION secrets(ep uuid, known text[]) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(concat_ws(' ', coalesce('s' || array_position(known, secret), '?'), coalesce('expires in ' || (expires_at - now())::text, 'current')), ', ' ORDER BY created_at)
	FROM webhooks.endpoint_secrets WHERE endpoint_id = ep
$$;

-- A new one, made here; the old one signs for a day more.
BEGIN;
SELECT webhooks.rotate_secret(:'ep') AS s2 \gset
SELECT :'s2' ~ '^whsec_[A-Za-z0-9+/]{43}=$', :'s2' <> :'s1';
SELECT count(*) FILTER (WHERE secret = :'s2' AND expires_at IS NULL), count(*) FILTER (WHERE secret = :'s1' AND expires_at = now() + interval '24 hours'), count(*)
FROM webhooks.endpoint_secrets WHERE endpoint_id = :'ep';
COMMIT;

-- Once more, with a shorter overlap: what already expires does so no later than it would have, and sooner when the overlap says so.
BEGIN;
SELECT webhooks.rotate_secret(:'ep', '1 hour', 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw') AS s3 \gset
SELECT :'s3';
SELECT secrets(:'ep', ARRAY[:'s1', :'s2', :'s3']) = 's1 expires in @ 1 hour, s2 expires in @ 1 hour, s3 current';
COMMIT;
BEGIN;
SELECT webhooks.rotate_secret(:'ep', '10 days') AS s4 \gset
SELECT count(*) FILTER (WHERE expires_at <= now() + interval '1 hour' AND secret IN (:'s1', :'s2')),
	count(*) FILTER (WHERE expires_at = now() + interval '10 days' AND secret = :'s3'), count(*) FILTER (WHERE expires_at IS NULL AND secret = :'s4'), count(*)
FROM webhooks.endpoint_secrets WHERE endpoint_id = :'ep';
ROLLBACK;
SELECT count(*) FILTER (WHERE expires_at IS NULL AND secret = :'s3'), count(*) FROM webhooks.endpoint_secrets WHERE endpoint_id = :'ep';

-- No overlap: the old ones are over at once, and go when the house is kept.
SELECT webhooks.rotate_secret(:'ep', '0') AS s5 \gset
SELECT count(*) FILTER (WHERE expires_at <= clock_timestamp()), count(*) FILTER (WHERE expires_at IS NULL AND secret = :'s5') FROM webhooks.endpoint_secrets WHERE endpoint_id = :'ep';
DO $$ BEGIN WHILE webhooks.maintain() IS NOT NULL LOOP END LOOP; END $$;
SELECT webhooks.maintain();
SELECT count(*), bool_and(secret = :'s5') FROM webhooks.endpoint_secrets WHERE endpoint_id = :'ep';

-- The other endpoint's secret is as it was.
SELECT secret = :'other_secret', expires_at FROM webhooks.endpoint_secrets WHERE endpoint_id = :'other';

-- Refused, and nothing changed.
SELECT a, tried(format('SELECT webhooks.rotate_secret(%L, %s)', :'ep', a)) FROM unnest(ARRAY[
	$$'-1 second'$$, $$'1 day -25 hours'$$, $$NULL$$, $$'1 day', 'plain'$$, $$'1 day', ''$$, $$'1 day', 'whsec_c2hvcnQ='$$, $$'1 day', 'whsec_' || repeat('!', 40)$$
]) a;
SELECT count(*), bool_and(secret = :'s5') FROM webhooks.endpoint_secrets WHERE endpoint_id = :'ep';

CALL leave_nothing();
DROP FUNCTION secrets(uuid, text[]);
