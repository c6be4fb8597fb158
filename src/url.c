/*
 * Asks the rules for URLs as the settings have them.
 */
#include "postgres.h"

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
