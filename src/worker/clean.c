/*
 * An answer's bytes are any; what is stored of them must be text.
 */
#include "postgres.h"

#include "core/text.h"
#include "mb/pg_wchar.h"
#include "worker/clean.h"

char *
wh_clean(const char *text, size_t len, bool truncated)
{
	char	   *out = palloc(WH_TEXT_CLEAN_BOUND(len));

	if (GetDatabaseEncoding() == PG_UTF8)
		(void) wh_text_clean(out, text, len, truncated);
	else
		(void) wh_text_clean_ascii(out, text, len);
	return out;
}

char *
wh_error_text(const WhDelivery *d)
{
	return d->request.error[0] ? wh_clean(d->request.error, strlen(d->request.error), false) : NULL;
}
