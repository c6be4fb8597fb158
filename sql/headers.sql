-- Headers of endpoints: which are the sender's own, and Authorization, whose value is a secret.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
CREATE FUNCTION tried_headers(headers jsonb) RETURNS text LANGUAGE sql AS $$
	SELECT tried(format('SELECT webhooks.register_endpoint(%L, headers => %L)', 'https://example.com/', headers))
$$;

-- The sender's own, or nobody's: in any case, and with '_' for '-'.
SELECT h, tried_headers(jsonb_build_object(h, 'x')) FROM unnest('{Host,content-length,Transfer_Encoding,X-Forwarded-For,Stripe-Signature}'::text[]) h;
SELECT left(tried_headers(jsonb_build_object(h, 'x')), 30) AS refused, string_agg(h, ' ' ORDER BY n) FROM unnest('{
	host,content-length,content-type,content-encoding,content-range,range,transfer-encoding,connection,keep-alive,te,trailer,upgrade,http2-settings,
	proxy-connection,proxy-authorization,proxy-anything,expect,max-forwards,alt-used,cookie,cookie2,user-agent,content-digest,repr-digest,digest,
	content-md5,signature,signature-input,stripe-signature,x-hub-signature,X-Hub-Signature-256,X-Webhook-Event,webhook-id,svix-id,forwarded,via,
	x-forwarded-host,x-real-ip,x-client-ip,true-client-ip,cf-connecting-ip,x-original-url,x-original-host,x-rewrite-url,x-host,x-http-method,
	x-http-method-override,x-method-override,Content_Length}'::text[]) WITH ORDINALITY u(h, n) GROUP BY 1;

-- Whatever begins with webhooks.header_prefix, too.
ALTER SYSTEM SET webhooks.header_prefix = 'Acme-';
SELECT pg_reload_conf();
\c -
SELECT h, left(tried_headers(jsonb_build_object(h, 'x')), 50) FROM unnest('{acme-id,ACME-Signature,Acme_Id,webhook-id,acme}'::text[]) h;
ALTER SYSTEM RESET webhooks.header_prefix;
SELECT pg_reload_conf();
\c -
SELECT h, tried_headers(jsonb_build_object(h, 'x')) FROM unnest('{acme-id}'::text[]) h;

-- Once only, whatever the case.
SELECT tried_headers('{"X-A": "1", "x-a": "2"}'), tried_headers('{"X-A": "1", "x_a": "2"}');
SELECT tried_headers('{"Authorization": "Bearer top", "AUTHORIZATION": "Bearer secret"}');

-- Authorization's value is kept apart, as a secret; what can be read shows that there is one.
SELECT endpoint_id AS ep FROM webhooks.register_endpoint('https://example.com/', headers => '{"X-A": "b", "AUTHorization": "Bearer top secret"}') \gset
SELECT headers FROM webhooks.endpoints WHERE endpoint_id = :'ep';
SELECT kind, secret, expires_at, encryption_key_id FROM webhooks.endpoint_secrets WHERE endpoint_id = :'ep' AND kind <> 'signing';
SELECT e::text ~ 'top secret' FROM webhooks.endpoints e WHERE endpoint_id = :'ep';

-- It is a value like any other, but never shown in a message; the mask is none.
SELECT tried_headers('{"Authorization": ""}'), tried_headers('{"Authorization": "*********"}'), tried_headers(jsonb_build_object('Authorization', repeat('v', 4096)));
SELECT tried_headers('{"Authorization": "********"}');
SELECT v, tried_headers(jsonb_build_object('Authorization', v)) FROM unnest(ARRAY['1', 'true', 'null', '["top secret"]', '{"top": "secret"}', '"top\u0001secret"', '"top\r\nsecret: x"']::jsonb[]) v;
SELECT tried_headers(jsonb_build_object('Authorization', repeat('top secret', 410)));

-- Rotating the signing secret leaves it alone; removing the endpoint does not.
SELECT length(webhooks.rotate_secret(:'ep'));
SELECT kind, count(*), count(*) FILTER (WHERE expires_at IS NULL) FROM webhooks.endpoint_secrets WHERE endpoint_id = :'ep' GROUP BY kind ORDER BY kind;
SELECT webhooks.remove_endpoint(:'ep');
SELECT count(*) FROM webhooks.endpoint_secrets WHERE endpoint_id = :'ep';

CALL leave_nothing();
DROP FUNCTION tried_headers(jsonb);
