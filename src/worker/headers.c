/*
 * Every delivery passes here, so nothing is formatted by a template.
 */
#include "postgres.h"

#include "core/header.h"
#include "core/id.h"
#include "core/signature.h"
#include "settings.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "worker/headers.h"

/* "name: value" and a NUL; returns what follows. */
static char *
put_header(char *out, const char *prefix, const char *name, const char *value)
{
	out = stpcpy(out, prefix);
	out = stpcpy(out, name);
	out = stpcpy(out, ": ");
	return stpcpy(out, value) + 1;
}

/* All signatures of a request, apart by blanks. False: there is none, or OpenSSL failed. */
static bool
sign(const WhDelivery *d, const char *id, int64 timestamp_s, char *out)
{
	char	   *end = out;

	for (int i = 0; i < d->config->key_count; i++)
	{
		const WhSigningKey *key = &d->config->keys[i];

		if (key->expires_at <= d->attempted_at)
			continue;
		if (end > out)
			*end++ = ' ';
		if (!wh_signature_v1(&key->key, id, timestamp_s, d->request.body, d->request.body_len, end))
			return false;
		end += WH_SIGNATURE_V1_SIZE - 1;
	}
	return end > out;
}

/* Whether the event has a header of the same name as an endpoint's. */
static bool
is_overridden(const WhDelivery *d, const char *header)
{
	for (int i = 0; i < d->event_header_count; i++)
		if (wh_header_same_name(d->event_headers[i], strcspn(d->event_headers[i], ":;"),
								header, strcspn(header, ":;")))
			return true;
	return false;
}

/*
 * Signs anew for each attempt: a receiver that checks the timestamp's age must take a late one.
 * False: it cannot be signed. One allocation holds the list and what is new in it.
 */
bool
wh_headers_make(WhDelivery *d)
{
	const WhConfig *config = d->config;
	int64		timestamp_s = d->attempted_at / USECS_PER_SEC +
		(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY;
	Size		list_size = (config->header_count + d->event_header_count + WH_HEADERS_FIXED) *
		sizeof(char *);
	Size		signatures_size = config->key_count * WH_SIGNATURE_V1_SIZE + 1;
	Size		name_size = strlen(wh_header_prefix) + sizeof("signature: ");
	char		id[WH_ID_TEXT_SIZE];
	char		timestamp[MAXINT8LEN + 1];
	char	   *signatures;
	char	   *text;
	int			n = 0;

	d->headers = palloc(list_size + 3 * name_size + sizeof(id) + sizeof(timestamp) +
						2 * signatures_size);
	text = (char *) d->headers + list_size;
	signatures = text + 3 * name_size + sizeof(id) + sizeof(timestamp) + signatures_size;
	wh_id_text(id, d->event_id.data);
	pg_lltoa(timestamp_s, timestamp);
	if (config->is_signed && !sign(d, id, timestamp_s, signatures))
		return false;

	d->headers[n++] = d->content_type;
	d->headers[n++] = "Expect:";	/* never wait for 100 Continue */
	d->headers[n++] = text;
	text = put_header(text, wh_header_prefix, "id", id);
	d->headers[n++] = text;
	text = put_header(text, wh_header_prefix, "timestamp", timestamp);
	if (config->is_signed)
	{
		d->headers[n++] = text;
		(void) put_header(text, wh_header_prefix, "signature", signatures);
	}
	for (int i = 0; i < config->header_count; i++)
		if (!is_overridden(d, config->headers[i]))
			d->headers[n++] = config->headers[i];
	for (int i = 0; i < d->event_header_count; i++)
		d->headers[n++] = d->event_headers[i];
	d->headers[n] = NULL;
	d->request.headers = d->headers;
	return true;
}
