-- Which URLs are allowed: check_url says what register_endpoint applies.
\getenv tree PG_ABS_SRCDIR
\set begin :tree /test/lib/regress.sql
\i :begin
-- libcurl's words for what is malformed change between its versions
CREATE FUNCTION judged(url text) RETURNS text LANGUAGE sql AS $$
	SELECT CASE WHEN allowed AND reason IS NULL THEN 'allowed' WHEN NOT allowed THEN regexp_replace(reason, '^(it is malformed): .+', '\1') END
	FROM webhooks.check_url(url)
$$;

-- scheme
SELECT u, judged(u) FROM unnest(ARRAY[
	'https://example.com', 'https://example.com/', 'HTTPS://EXAMPLE.COM/Path?q=1#f', 'https://a.b.example/x%20y',
	'http://example.com/', 'ftp://example.com/', 'file:///etc/passwd', 'gopher://example.com/', 'wss://example.com/', 'dict://example.com/'
]) u;

-- malformed
SELECT to_json(u), judged(u) FROM unnest(ARRAY[
	'', ' ', 'example.com', '//example.com/', 'https://', 'https:example.com', 'https//example.com', ' https://example.com/',
	'https://exa mple.com/', 'https://example.com/a b', E'https://example.com/\n', E'https://example.com/\r\nX-Evil: 1', E'https://example.com/\x01',
	E'https://exam\tple.com/', 'https://[::1/', 'https://[::g]/', 'https://[v1.x]/', 'javascript:alert(1)', NULL
]) u;

-- credentials
SELECT u, judged(u) FROM unnest(ARRAY[
	'https://user@example.com/', 'https://user:password@example.com/', 'https://:password@example.com/', 'https://@example.com/',
	'https://example.com\@example.org/', 'https://example.com/@user', 'https://example.com/?a=b@c', 'https://example.com/#u@v'
]) u;

-- length
SELECT n, judged('https://example.com/' || repeat('a', n - 20)) FROM unnest('{2048,2049,100000}'::integer[]) n;

-- addresses, in all the spellings that a resolver takes for one
SELECT u, judged(u) FROM unnest(ARRAY[
	'https://127.0.0.1/', 'https://127.1/', 'https://127.255.255.254/', 'https://2130706433/', 'https://0x7f000001/', 'https://0x7f.1/', 'https://0177.0.0.1/',
	'https://017700000001/', 'https://%31%32%37.0.0.1/', 'https://127.0.0.1#@example.com/', 'https://[::1]/', 'https://[0:0:0:0:0:0:0:1]/', 'https://[::1%25lo]/',
	'https://[::ffff:127.0.0.1]/', 'https://[::ffff:7f00:1]/', 'https://[0:0:0:0:0:ffff:7f00:1]/', 'https://[::127.0.0.1]/',
	'https://0/', 'https://0.0.0.0/', 'https://[::]/', 'https://10.0.0.1/', 'https://172.16.0.1/', 'https://172.31.255.255/', 'https://192.168.0.1/',
	'https://100.64.0.1/', 'https://169.254.0.1/', 'https://169.254.169.254/', 'https://[fe80::1]/', 'https://[fe80::1%25eth0]/', 'https://[fc00::1]/',
	'https://[fd12::1]/', 'https://[64:ff9b::7f00:1]/', 'https://[2002:7f00:1::]/', 'https://224.0.0.1/', 'https://255.255.255.255/', 'https://[ff02::1]/',
	'https://1.1.1.1/', 'https://172.15.255.255/', 'https://172.32.0.0/', 'https://192.169.0.1/', 'https://128.0.0.1/', 'https://[2606:4700::1111]/'
]) u;

-- what looks like an address and is none, what no host is made of, and other scripts: no resolver is asked
SELECT u, judged(u) FROM unnest(ARRAY[
	'https://256.0.0.1/', 'https://4294967296/', 'https://1.2.3.4.5/', 'https://08.0.0.1/', 'https://0x/', 'https://example.1/',
	'https://example..com/', 'https://.example.com/', 'https://example.com~/',
	'https://１２７.０.０.１/', 'https://127。0。0。1/', 'https://%ef%bc%91%ef%bc%92%ef%bc%97.0.0.1/', 'https://bücher.example/', 'https://xn--bcher-kva.example/',
	'https:/example.com/://', 'https://%00/', 'https://127.0.0.1%00.example.com/', 'https://example.com%2f/'
]) u;

-- a name is judged when it is resolved, for it may mean another address by then
SELECT u, judged(u) FROM unnest(ARRAY['https://localhost/', 'https://127.0.0.1.example.com/']) u;

-- ports
SELECT u, judged(u) FROM unnest(ARRAY[
	'https://example.com:1/', 'https://example.com:8443/', 'https://example.com:65535/', 'https://example.com:/',
	'https://example.com:0/', 'https://example.com:00443/', 'https://example.com:65536/', 'https://example.com:x/', 'https://example.com:-1/', 'https://example.com:4294967739/'
]) u;

-- The settings: http, ports, and networks allowed and blocked. A new connection has them for sure.
\c -
ALTER SYSTEM SET webhooks.allow_http = on;
ALTER SYSTEM SET webhooks.allowed_ports = '80, 443,8443';
ALTER SYSTEM SET webhooks.allowed_networks = '127.0.0.0/8, 10.1.0.0/16, fd00::/8, 64:ff9b::/96, 2002::/16';
ALTER SYSTEM SET webhooks.blocked_networks = '127.0.0.2, 1.1.1.0/24, 2606:4700::/32';
SELECT pg_reload_conf();
\c -
SELECT u, judged(u) FROM unnest(ARRAY[
	'http://example.com/', 'HTTP://example.com/', 'ftp://example.com/', 'http://user@example.com/',
	'https://example.com/', 'https://example.com:443/', 'http://example.com:8443/', 'https://example.com:8444/', 'http://example.com:81/',
	'https://127.0.0.1/', 'https://127.0.0.2/', 'https://[::ffff:127.0.0.1]/', 'https://[::ffff:127.0.0.2]/', 'https://[::1]/',
	'https://10.1.2.3/', 'https://10.2.0.1/', 'https://[fd12::1]/', 'https://[fc00::1]/',
	'https://1.1.1.1/', 'https://1.1.2.1/', 'https://[2606:4700::1111]/', 'https://[2606:4701::1111]/',
	-- an address that stands for another: both are judged
	'https://[64:ff9b::8.8.8.8]/', 'https://[64:ff9b::127.0.0.1]/', 'https://[64:ff9b::127.0.0.2]/', 'https://[64:ff9b::10.2.0.1]/', 'https://[64:ff9b::1.1.1.1]/',
	'https://[2002:808:808::1]/', 'https://[2002:a9fe:a9fe::1]/', 'https://[2002:101:101::1]/', 'https://[::127.0.0.1]/'
]) u;

-- register_endpoint refuses for the same reason, in these settings too.
SELECT u, allowed, tried(format('SELECT webhooks.register_endpoint(%L)', u)) = coalesce('22023 url is refused: ' || reason, 'ok') AS alike
FROM unnest(ARRAY[
	'http://example.com/', 'https://example.com:8444/', 'https://127.0.0.1/', 'https://127.0.0.2/', 'https://1.1.1.1/', 'https://10.2.0.1/',
	'https://user@example.com/', 'ftp://example.com/', 'https://[::1/', ''
]) u, webhooks.check_url(u);

ALTER SYSTEM RESET webhooks.allow_http;
ALTER SYSTEM RESET webhooks.allowed_ports;
ALTER SYSTEM RESET webhooks.allowed_networks;
ALTER SYSTEM RESET webhooks.blocked_networks;
SELECT pg_reload_conf();
\c -
SELECT u, judged(u) FROM unnest(ARRAY['http://example.com/', 'https://example.com:8444/', 'https://127.0.0.1/', 'https://1.1.1.1/']) u;

CALL leave_nothing();
DROP FUNCTION judged(text);
