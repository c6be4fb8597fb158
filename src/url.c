/*
 * Asks the rules for URLs as the settings have them.
 */
#include "postgres.h"

#include <curl/curl.h>

#include "settings.h"
#include "url.h"

char *
wh_url_refusal(const char *url)
{
	WhUrlRules	rules = wh_setting_url_rules();
	char		reason[WH_URL_REASON_SIZE];

	switch (wh_url_judge(&rules, url, reason))
	{
		case WH_URL_ALLOWED:
			return NULL;
		case WH_URL_MALFORMED:
		case WH_URL_REFUSED:
			break;
		case WH_URL_NOT_JUDGED:
			ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	}
	return pstrdup(reason);
}

/* Names beyond ASCII go out as Punycode; libcurl cannot tell it before 7.88. */
#ifndef CURLU_PUNYCODE
#define CURLU_PUNYCODE 0
#endif

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
