/*
 * libcurl parses the URL, since libcurl will be what requests it: two parsers that disagree are how
 * address filters are got around.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <curl/curl.h>

#include "core/address.h"
#include "settings.h"
#include "url.h"

/* A part of the URL, palloc'd, or NULL when it has none. */
static char *
part(CURLU *parsed, CURLUPart which, unsigned int flags)
{
	char	   *text;
	char	   *copy;

	if (curl_url_get(parsed, which, &text, flags) != CURLUE_OK)
		return NULL;
	copy = pstrdup(text);
	curl_free(text);
	return copy;
}

static char *
host_refusal(char *host)
{
	WhAddressPolicy policy = wh_setting_address_policy();
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
	const struct sockaddr *peer = NULL;
	const char *refusal;
	size_t		len = strlen(host);

	/* "127.0.0.1." is the same address to some resolvers, and inet_aton takes every odd spelling */
	if (len > 1 && host[len - 1] == '.')
		host[--len] = '\0';
	if (inet_aton(host, &v4.sin_addr) == 1)
		peer = (struct sockaddr *) &v4;
	else if (len > 2 && host[0] == '[' && host[len - 1] == ']')
	{
		host[len - 1] = '\0';
		if (inet_pton(AF_INET6, host + 1, &v6.sin6_addr) != 1)
			return pstrdup("its host is not a valid address");
		peer = (struct sockaddr *) &v6;
	}
	if (peer == NULL)
		return NULL;			/* a name: judged when it is resolved */
	refusal = wh_address_refusal(&policy, peer);
	return refusal ? psprintf("its address is not allowed: %s", refusal) : NULL;
}

static char *
parsed_refusal(CURLU *parsed)
{
	char	   *scheme = part(parsed, CURLUPART_SCHEME, 0);
	char	   *host = part(parsed, CURLUPART_HOST, 0);
	char	   *port = part(parsed, CURLUPART_PORT, CURLU_DEFAULT_PORT);

	if (scheme == NULL || (strcmp(scheme, "https") != 0 && strcmp(scheme, "http") != 0))
		return pstrdup("its scheme must be https");
	if (strcmp(scheme, "http") == 0 && !wh_allow_http)
		return pstrdup("its scheme must be https while webhooks.allow_http is off");
	if (part(parsed, CURLUPART_USER, 0) || part(parsed, CURLUPART_PASSWORD, 0))
		return pstrdup("it must not contain a user name or password");
	if (host == NULL || host[0] == '\0')
		return pstrdup("it has no host");
	if (port == NULL || !wh_port_allowed(atoi(port)))
		return pstrdup("its port is not among webhooks.allowed_ports");
	return host_refusal(host);
}

char *
wh_url_refusal(const char *url)
{
	CURLU	   *parsed;
	CURLUcode	code;
	char	   *refusal = NULL;

	const char *authority = strstr(url, "://");

	if (strlen(url) > WH_URL_MAX)
		return psprintf("it is longer than %d bytes", WH_URL_MAX);

	/* libcurl forgives a slash or two too many */
	if (authority == NULL || authority[3] == '/')
		return pstrdup("it is malformed: https://host/path is wanted");

	parsed = curl_url();
	if (parsed == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	code = curl_url_set(parsed, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME);
	PG_TRY();
	{
		refusal = code == CURLUE_OK ? parsed_refusal(parsed) :
			psprintf("it is malformed: %s", curl_url_strerror(code));
	}
	PG_FINALLY();
	{
		curl_url_cleanup(parsed);
	}
	PG_END_TRY();
	return refusal;
}

/* Names beyond ASCII go out as Punycode; libcurl cannot tell it before 7.88. */
#ifndef CURLU_PUNYCODE
#define CURLU_PUNYCODE 0
#endif

bool
wh_url_target(const char *url, WhUrlTarget *target)
{
	CURLU	   *parsed = curl_url();
	char	   *host;
	char	   *port;
	char	   *query;

	if (parsed == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	if (curl_url_set(parsed, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK)
	{
		curl_url_cleanup(parsed);
		return false;
	}

	/* nothing raises here but a lack of memory */
	host = part(parsed, CURLUPART_HOST, CURLU_PUNYCODE);
	port = part(parsed, CURLUPART_PORT, CURLU_NO_DEFAULT_PORT);
	query = part(parsed, CURLUPART_QUERY, 0);
	target->path = part(parsed, CURLUPART_PATH, 0);
	curl_url_cleanup(parsed);
	if (host == NULL || target->path == NULL)
		return false;
	target->query = query ? psprintf("?%s", query) : NULL;
	target->authority = port ? psprintf("%s:%s", host, port) : host;
	for (char *c = target->authority; *c; c++)
		*c = pg_ascii_tolower((unsigned char) *c);
	return true;
}
