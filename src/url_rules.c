/*
 * libcurl parses the URL, since libcurl will be what requests it: two parsers that disagree are how
 * address filters are got around.
 */
#include "url_rules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <curl/curl.h>

#include "core/host.h"

/* Parts of a URL as libcurl takes it; NULL where it has none. */
typedef struct Parts
{
	char	   *scheme;
	char	   *user;
	char	   *password;
	char	   *host;
	char	   *port;
} Parts;

/* False: out of memory. */
static bool
take_part(CURLU *url, CURLUPart which, unsigned int flags, char **part)
{
	CURLUcode	code = curl_url_get(url, which, part, flags);

	if (code != CURLUE_OK)
		*part = NULL;
	return code != CURLUE_OUT_OF_MEMORY;
}

static bool
take_parts(CURLU *url, Parts *parts)
{
	return take_part(url, CURLUPART_SCHEME, 0, &parts->scheme) &&
		take_part(url, CURLUPART_USER, 0, &parts->user) &&
		take_part(url, CURLUPART_PASSWORD, 0, &parts->password) &&
		take_part(url, CURLUPART_HOST, 0, &parts->host) &&
		take_part(url, CURLUPART_PORT, CURLU_DEFAULT_PORT, &parts->port);
}

static void
free_parts(Parts *parts)
{
	curl_free(parts->scheme);
	curl_free(parts->user);
	curl_free(parts->password);
	curl_free(parts->host);
	curl_free(parts->port);
}

static const char *
port_refusal(const WhUrlRules *rules, const char *text)
{
	int			port = text ? atoi(text) : 0;

	if (port < 1 || port > 65535)
		return "its port must be between 1 and 65535";
	for (size_t i = 0; i < rules->port_count; i++)
		if (rules->ports[i] == port)
			return NULL;
	return rules->port_count == 0 ? NULL : "its port is not among webhooks.allowed_ports";
}

static bool
is_localhost(const char *name)
{
	static const char localhost[] = "localhost";
	size_t		len = strlen(name);

	if (len > 0 && name[len - 1] == '.')
		len--;
	if (len < strlen(localhost))
		return false;
	name += len - strlen(localhost);
	return strncasecmp(name, localhost, strlen(localhost)) == 0 &&
		(len == strlen(localhost) || name[-1] == '.');
}

static const char *
address_refusal(const WhUrlRules *rules, const char *text)
{
	WhHost		host = wh_host_read(text);

	/* the proxy would resolve it, to its own machine */
	if (host.kind == WH_HOST_NAME && rules->proxied && is_localhost(text))
		host = wh_host_read("127.0.0.1");
	return host.kind == WH_HOST_ADDRESS ?
		wh_address_refusal(&rules->addresses, &host.address.any) : NULL;
}

/* NULL when the parts are allowed, else why not: in reason, or a static string. */
static const char *
parts_refusal(const WhUrlRules *rules, const Parts *parts, char reason[WH_URL_REASON_SIZE])
{
	const char *refusal;
	WhHost		host;

	if (parts->scheme == NULL ||
		(strcmp(parts->scheme, "https") != 0 && strcmp(parts->scheme, "http") != 0))
		return "its scheme must be https";
	if (strcmp(parts->scheme, "http") == 0 && !rules->allow_http)
		return "its scheme must be https while webhooks.allow_http is off";
	if (parts->user != NULL || parts->password != NULL)
		return "it must not contain a user name or password";
	if (parts->host == NULL || parts->host[0] == '\0')
		return "it has no host";
	refusal = port_refusal(rules, parts->port);
	if (refusal != NULL)
		return refusal;
	host = wh_host_read(parts->host);
	if (host.kind == WH_HOST_NEITHER)
		return host.error;
	refusal = address_refusal(rules, parts->host);
	if (refusal == NULL)
		return NULL;
	snprintf(reason, WH_URL_REASON_SIZE, "its address is not allowed: %s", refusal);
	return reason;
}

static WhUrlVerdict
judge_parsed(const WhUrlRules *rules, CURLU *url, char reason[WH_URL_REASON_SIZE])
{
	Parts		parts = {0};
	WhUrlVerdict verdict = WH_URL_NOT_JUDGED;
	const char *refusal;

	if (take_parts(url, &parts))
	{
		refusal = parts_refusal(rules, &parts, reason);
		verdict = refusal ? WH_URL_REFUSED : WH_URL_ALLOWED;
		if (refusal != NULL && refusal != reason)
			snprintf(reason, WH_URL_REASON_SIZE, "%s", refusal);
	}
	free_parts(&parts);
	return verdict;
}

/* libcurl forgives a slash too few, and one too many. */
static bool
has_authority(const char *url)
{
	const char *colon = strchr(url, ':');

	return colon != NULL && strncmp(colon, "://", 3) == 0 && colon[3] != '/';
}

WhUrlVerdict
wh_url_judge(const WhUrlRules *rules, const char *url, char reason[WH_URL_REASON_SIZE])
{
	CURLU	   *parsed;
	CURLUcode	code;
	WhUrlVerdict verdict = WH_URL_MALFORMED;

	if (strlen(url) > WH_URL_MAX)
	{
		snprintf(reason, WH_URL_REASON_SIZE, "it is longer than %d bytes", WH_URL_MAX);
		return WH_URL_MALFORMED;
	}
	if (!has_authority(url))
	{
		snprintf(reason, WH_URL_REASON_SIZE, "it is malformed: https://host/path is wanted");
		return WH_URL_MALFORMED;
	}

	snprintf(reason, WH_URL_REASON_SIZE, "out of memory");
	parsed = curl_url();
	if (parsed == NULL)
		return WH_URL_NOT_JUDGED;
	code = curl_url_set(parsed, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME);
	if (code == CURLUE_OK)
		verdict = judge_parsed(rules, parsed, reason);
	else if (code == CURLUE_OUT_OF_MEMORY)
		verdict = WH_URL_NOT_JUDGED;
	else
		snprintf(reason, WH_URL_REASON_SIZE, "it is malformed: %s", curl_url_strerror(code));
	curl_url_cleanup(parsed);
	return verdict;
}

/* Without a port libcurl would take 1080, which is nobody's wish. */
static bool
proxy_parts_are_valid(CURLU *url)
{
	Parts		parts = {0};
	char	   *rest[3] = {NULL, NULL, NULL};
	bool		valid = false;

	if (take_parts(url, &parts) &&
		take_part(url, CURLUPART_PATH, 0, &rest[0]) &&
		take_part(url, CURLUPART_QUERY, 0, &rest[1]) &&
		take_part(url, CURLUPART_FRAGMENT, 0, &rest[2]))
	{
		curl_free(parts.port);
		valid = take_part(url, CURLUPART_PORT, 0, &parts.port) && parts.port != NULL &&
			atoi(parts.port) > 0 && parts.host != NULL &&
			wh_host_read(parts.host).kind != WH_HOST_NEITHER &&
			(strcmp(parts.scheme, "http") == 0 || strcmp(parts.scheme, "https") == 0 ||
			 strcmp(parts.scheme, "socks5h") == 0) &&
			strcmp(rest[0], "/") == 0 && rest[1] == NULL && rest[2] == NULL;
	}
	free_parts(&parts);
	for (int i = 0; i < 3; i++)
		curl_free(rest[i]);
	return valid;
}

bool
wh_proxy_is_valid(const char *url)
{
	CURLU	   *parsed;
	bool		valid;

	if (strlen(url) > WH_URL_MAX || !has_authority(url))
		return false;
	parsed = curl_url();
	if (parsed == NULL)
		return false;
	valid = curl_url_set(parsed, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK &&
		proxy_parts_are_valid(parsed);
	curl_url_cleanup(parsed);
	return valid;
}
