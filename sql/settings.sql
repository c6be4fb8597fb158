-- Settings: what each is, and that a bad value is refused when it is set.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin

-- Defaults, units, ranges; all save tenant_id change with a reload.
SELECT replace(name, 'webhooks.', ''), vartype, regexp_replace(boot_val, '^(pg-webhooks/)\d+\.\d+\.\d+$', '\1<version>'), unit, min_val, max_val, context
FROM pg_settings
WHERE name = ANY (ARRAY(SELECT 'webhooks.' || n FROM unnest('{enabled,workers,max_in_flight,max_in_flight_per_endpoint,connect_timeout,timeout,retry_schedule,
	retry_jitter,retry_on,max_payload_size,response_body_limit,allow_http,allowed_networks,blocked_networks,allowed_ports,ca_file,secret_key_file,secret_key_command,header_prefix,user_agent,
	retention,dead_letter_retention,store_unmatched,failing_alert,auto_disable_after,auto_disable_dead_letters,tenant_id}'::text[]) n))
ORDER BY name COLLATE "C";
SELECT name FROM pg_settings WHERE name LIKE 'webhooks.%' AND short_desc !~ '^[A-Z].*\.$';
SHOW webhooks.connect_timeout;
SHOW webhooks.timeout;
SHOW webhooks.max_payload_size;
SHOW webhooks.response_body_limit;
SHOW webhooks.retry_schedule;

-- They are the server's, not the session's; and a name that does not exist is refused.
SET webhooks.timeout = '1s';
SET webhooks.enabled = on;
SET webhooks.retry_on = '*';
ALTER DATABASE contrib_regression SET webhooks.allow_http = on;
SET webhooks.time_out = '1s';
ALTER SYSTEM SET webhooks.time_out = '1s';

CREATE TEMPORARY TABLE wanted (n serial, name text, value text, good boolean);
INSERT INTO wanted (name, value, good)
SELECT name, value, true FROM (VALUES
	('workers', '{1,16}'::text[]),
	('max_in_flight', '{1,2048}'),
	('max_in_flight_per_endpoint', '{1,2048}'),
	('connect_timeout', '{1,1ms,1h}'),
	('timeout', '{1,1ms,1h}'),
	('retry_schedule', ARRAY['', ' ', '0', '5s', ' 5s , 5min,1 hour 30 minutes,1d', '366 days', '1 year', '1 mon', '00:00:05', '1.5s', array_to_string(array_fill('1s'::text, '{100}'), ',')]),
	('retry_jitter', '{0,0.25,1}'),
	('retry_on', '{"",*," * ",5xx,"408, 425 ,429,5xx",100,999}'),
	('max_payload_size', '{1,1kB,64MB}'),
	('response_body_limit', '{0,1kB,1MB}'),
	('allowed_networks', '{"",10.0.0.0/8," 10.0.0.0/8 , fd00::/8",127.0.0.1,::1/128,0.0.0.0/0,::/0,::ffff:10.0.0.0/104}'),
	('blocked_networks', '{"",10.0.0.0/8,fd00::/8}'),
	('allowed_ports', ARRAY['', '443', ' 80 , 443', '1,65535', array_to_string(array_fill('443'::text, '{64}'), ',')]),
	('header_prefix', ARRAY['webhook-', 'Svix-', 'x', repeat('x', 64)]),
	('user_agent', ARRAY['', 'acme/1.0 (+https://example.com; contact=a@b)', repeat('x', 256)]),
	('retention', '{0,"30 days","1 day","100 years","1 week 2 days"}'),
	('dead_letter_retention', '{0,"90 days"}'),
	('failing_alert', '{0,1,100000}'),
	('auto_disable_after', '{0,"5 days","12 hours"}'),
	('auto_disable_dead_letters', '{0,1,100000}')
) v(name, vals), unnest(vals) value;
INSERT INTO wanted (name, value, good)
SELECT name, value, false FROM (VALUES
	('enabled', '{perhaps}'::text[]),
	('workers', '{0,17,-1,many}'),
	('max_in_flight', '{0,2049}'),
	('max_in_flight_per_endpoint', '{0,2049}'),
	('connect_timeout', '{0,-1,"61 min",5x}'),
	('timeout', '{0,"61 min"}'),
	('retry_schedule', ARRAY['soon', '5s,', ',5s', '5s,,5s', '-5s', '5s,-1 day', '367 days', '5s;5s', '1e9 days', 'infinity', '1h ago', array_to_string(array_fill('1s'::text, '{101}'), ',')]),
	('retry_jitter', '{-0.1,1.1,NaN,much}'),
	('retry_on', '{99,1000,5x,5XX,"429,","*,429",all}'),
	('max_payload_size', '{0,65MB,big}'),
	('response_body_limit', '{-1,2MB}'),
	('store_unmatched', '{perhaps}'),
	('allow_http', '{perhaps}'),
	('allowed_networks', '{localhost,10.0.0.0/33,10.0.0.1/8,10.0.0.0/,10/8,::1/129,"10.0.0.0/8,","10.0.0.0/8 fd00::/8",256.0.0.0/8,127.1,0x7f.0.0.1,10.0.0.0/08}'),
	('blocked_networks', '{evil.example,10.0.0.0/8;11.0.0.0/8}'),
	('allowed_ports', ARRAY['0', '65536', '-1', 'https', '443,', '80-90', '443 80', '0x50', '+80', array_to_string(array_fill('443'::text, '{65}'), ',')]),
	('header_prefix', ARRAY['', 'webhook:', 'web hook-', 'x_', 'é', E'x\r\n', repeat('x', 65)]),
	('user_agent', ARRAY[E'a\r\nX-Evil: b', E'a\x01', 'é', repeat('x', 257)]),
	('retention', '{"",forever,"-1 day",-1,"102 years",infinity,"1 day ago","1e30 days"}'),
	('dead_letter_retention', '{forever,"-1 day"}'),
	('failing_alert', '{-1,100001,many}'),
	('auto_disable_after', '{"",never,"-1 day"}'),
	('auto_disable_dead_letters', '{-1,100001,many}')
) v(name, vals), unnest(vals) value;

-- The good ones are taken in silence; the bad ones are refused, and those that are too long or would spoil a terminal are not shown.
SELECT count(*) FILTER (WHERE good), count(*) FILTER (WHERE NOT good) FROM wanted;
\set ECHO none
SELECT format('ALTER SYSTEM SET webhooks.%I = %L', name, value) FROM wanted WHERE good ORDER BY n \gexec
SELECT format('ALTER SYSTEM SET webhooks.%I = %L', name, value) FROM wanted WHERE NOT good AND length(value) < 60 AND value !~ '[[:cntrl:]]' ORDER BY n \gexec
\set VERBOSITY sqlstate
SELECT format('ALTER SYSTEM SET webhooks.%I = %L', name, value) FROM wanted WHERE NOT good AND (length(value) >= 60 OR value ~ '[[:cntrl:]]') ORDER BY n \gexec
\set VERBOSITY default
\set ECHO all

-- The last good value of each is what the server has after a reload.
SELECT name, value FROM wanted w WHERE good AND n = (SELECT max(n) FROM wanted v WHERE v.good AND v.name = w.name) AND length(value) < 60 ORDER BY n;
SELECT pg_reload_conf();
\c -
SHOW webhooks.workers;
SHOW webhooks.timeout;
SHOW webhooks.max_payload_size;
SHOW webhooks.retry_on;
SHOW webhooks.allowed_networks;
SHOW webhooks.blocked_networks;
SHOW webhooks.retention;
ALTER SYSTEM RESET ALL;
SELECT pg_reload_conf();
\c -
SELECT name FROM pg_settings WHERE name LIKE 'webhooks.%' AND setting <> boot_val;
