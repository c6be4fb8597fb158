/*
 * Every delivery passes here, so nothing is formatted by a template, and one allocation holds the
 * list and what is new in it.
 *
 * While a secret is being replaced both sign: in one header where the scheme's header takes several
 * signatures, the newest alone where it takes one (github, x-webhook).
 */
#include "postgres.h"

#include <limits.h>

#include "core/header.h"
#include "core/http_signature.h"
#include "core/id.h"
#include "core/signature.h"
#include "settings.h"
#include "utils/builtins.h"
#include "worker/headers.h"

#define BEFORE_CONTENT_TYPE "Content-Type: "

/* Names, their punctuation and what else is of a known length, of the headers below together. */
#define FIXED_TEXT_SIZE 512

/* "sig1=:…:, " beside the signature, in both headers; labels count to the number of keys. */
#define LABEL_SIZE 32

/* With much larger bodies libcurl would wait for 100 Continue. */
#define UNEXPECTING_BODY_MAX 1024

#define NAME_SIZE 80			/* webhooks.header_prefix has 64 characters at most */

#define HAS(config, scheme) (((config)->schemes & WH_SCHEME_BIT(scheme)) != 0)

/* Headers being made. */
typedef struct Headers
{
	const WhDelivery *delivery;
	const WhConfig *config;
	char		id[WH_ID_TEXT_SIZE];
	char		timestamp[MAXINT8LEN + 1];
	WhSigned	message;
	const char **list;
	int			count;
	char	   *end;			/* where the next header's text begins */
} Headers;

/* Begins a header: what is put on follows its name. */
static void
begin(Headers *h, const char *prefix, const char *name)
{
	h->list[h->count++] = h->end;
	h->end = stpcpy(stpcpy(stpcpy(h->end, prefix), name), ": ");
}

static void
put(Headers *h, const char *text)
{
	h->end = stpcpy(h->end, text);
}

static void
finish(Headers *h)
{
	h->end++;					/* past the NUL */
}

static void
add(Headers *h, const char *prefix, const char *name, const char *value)
{
	begin(h, prefix, name);
	put(h, value);
	finish(h);
}

/* The scheme's next key from *position on that has not expired; NULL after the last. */
static const WhSigningKey *
next_key(const Headers *h, WhScheme scheme, int *position)
{
	while (*position < h->config->key_count)
	{
		const WhSigningKey *key = &h->config->keys[(*position)++];

		if ((key->schemes & WH_SCHEME_BIT(scheme)) && key->expires_at > h->delivery->attempted_at)
			return key;
	}
	return NULL;
}

/*
 * Puts on the scheme's signatures, at most limit, with the separator before each but the first of
 * the header. False: there is none, or OpenSSL failed.
 */
static bool
put_signatures(Headers *h, WhScheme scheme, const char *separator, int limit)
{
	bool		first = h->end[-1] == ' ';
	int			position = 0;
	int			made = 0;
	const WhSigningKey *key;

	while (made < limit && (key = next_key(h, scheme, &position)) != NULL)
	{
		if (!first || made > 0)
			put(h, separator);
		if (!wh_signature_make(scheme, &key->key, &h->message, h->end))
			return false;
		h->end += strlen(h->end);
		made++;
	}
	return made > 0;
}

/* Standard Webhooks. The id and the time go with every request: receivers find repeats by them. */
static bool
add_standard(Headers *h)
{
	bool		v1 = HAS(h->config, WH_SCHEME_V1);
	bool		v1a = HAS(h->config, WH_SCHEME_V1A);

	add(h, wh_header_prefix, "id", h->id);
	add(h, wh_header_prefix, "timestamp", h->timestamp);
	if (!v1 && !v1a)
		return true;
	begin(h, wh_header_prefix, "signature");
	if (v1 && !put_signatures(h, WH_SCHEME_V1, " ", INT_MAX))
		return false;
	if (v1a && !put_signatures(h, WH_SCHEME_V1A, " ", INT_MAX))
		return false;
	finish(h);
	return true;
}

static bool
add_stripe(Headers *h)
{
	begin(h, "", "Stripe-Signature");
	put(h, "t=");
	put(h, h->timestamp);
	if (!put_signatures(h, WH_SCHEME_STRIPE, ",", INT_MAX))
		return false;
	finish(h);
	return true;
}

static bool
add_github(Headers *h)
{
	begin(h, "", "X-Hub-Signature-256");
	if (!put_signatures(h, WH_SCHEME_GITHUB, ",", 1))
		return false;
	finish(h);
	return true;
}

static bool
add_x_webhook(Headers *h)
{
	add(h, "X-Webhook-", "Event", h->delivery->event_type);
	add(h, "X-Webhook-", "Timestamp", h->timestamp);
	begin(h, "X-Webhook-", "Signature");
	if (!put_signatures(h, WH_SCHEME_X_WEBHOOK, ",", 1))
		return false;
	finish(h);
	return true;
}

/* What a signature covers; the names are in lower case, as it has them. */
typedef struct Cover
{
	WhHeader	items[8];
	char		digest[WH_CONTENT_DIGEST_SIZE];
	char		id_name[NAME_SIZE];
	char		timestamp_name[NAME_SIZE];
} Cover;

static char *
lower_name(char out[NAME_SIZE], const char *name)
{
	snprintf(out, NAME_SIZE, "%s%s", wh_header_prefix, name);
	for (char *c = out; *c; c++)
		*c = pg_ascii_tolower((unsigned char) *c);
	return out;
}

/*
 * What a request is, where it goes and what it holds. @authority, @path and @query stand for
 * @target-uri, whose scheme a receiver behind a proxy that ends TLS does not know.
 */
static WhComponents
cover(const Headers *h, Cover *cover)
{
	const WhUrlTarget *target = &h->config->target;
	WhHeader   *items = cover->items;
	int			count = 0;

	items[count++] = (WhHeader) {"@method", "POST"};
	items[count++] = (WhHeader) {"@authority", target->authority};
	items[count++] = (WhHeader) {"@path", target->path};
	if (target->query)
		items[count++] = (WhHeader) {"@query", target->query};
	items[count++] = (WhHeader) {"content-digest", cover->digest};
	items[count++] = (WhHeader) {
		"content-type", h->delivery->content_type + strlen(BEFORE_CONTENT_TYPE)
	};
	items[count++] = (WhHeader) {lower_name(cover->id_name, "id"), h->id};
	items[count++] = (WhHeader) {lower_name(cover->timestamp_name, "timestamp"), h->timestamp};
	return (WhComponents)
	{
		items, count, h->message.timestamp_s
	};
}

/* A signature for each key, under labels sig1, sig2, …: the newest first. */
static bool
add_rfc9421(Headers *h)
{
	Cover		covered;
	WhHttpSignature *made = palloc(h->config->key_count * sizeof(WhHttpSignature));
	const WhSigningKey *key;
	WhComponents components;
	char	   *scratch;
	int			position = 0;
	int			count = 0;

	if (!wh_content_digest(h->message.body, covered.digest))
		return false;
	components = cover(h, &covered);
	scratch = palloc(wh_http_scratch_size(&components));
	while ((key = next_key(h, WH_SCHEME_RFC9421, &position)) != NULL)
		if (!wh_http_signature_make(&key->key, &components, scratch, &made[count++]))
			return false;

	add(h, "", "Content-Digest", covered.digest);
	begin(h, "", "Signature-Input");
	for (int i = 0; i < count; i++)
		h->end += sprintf(h->end, "%ssig%d=%s", i > 0 ? ", " : "", i + 1, made[i].input);
	finish(h);
	begin(h, "", "Signature");
	for (int i = 0; i < count; i++)
		h->end += sprintf(h->end, "%ssig%d=:%s:", i > 0 ? ", " : "", i + 1, made[i].signature);
	finish(h);
	pfree(scratch);
	pfree(made);
	return count > 0;
}

/* At most. */
static Size
text_size(const WhDelivery *d)
{
	const WhConfig *config = d->config;
	Size		size = FIXED_TEXT_SIZE + 3 * strlen(wh_header_prefix) + strlen(wh_user_agent) +
		strlen(d->event_type);
	Size		per_key = 3 * WH_SIGNATURE_SIZE;	/* the schemes that sign with one key */

	if (HAS(config, WH_SCHEME_RFC9421))
		per_key += WH_HTTP_INPUT_SIZE + WH_HTTP_SIGNATURE_SIZE + LABEL_SIZE;
	return size + config->key_count * per_key;
}

/* Those of the endpoint's schemes. False: it cannot be signed. */
static bool
add_signatures(Headers *h)
{
	const WhConfig *config = h->config;

	if (HAS(config, WH_SCHEME_V1A))
		h->message.scratch = palloc(WH_SIGNED_SCRATCH_SIZE(sizeof(h->id), h->message.body.len));
	if (!add_standard(h))
		return false;
	if (h->message.scratch)
		pfree(h->message.scratch);
	return (!HAS(config, WH_SCHEME_STRIPE) || add_stripe(h)) &&
		(!HAS(config, WH_SCHEME_GITHUB) || add_github(h)) &&
		(!HAS(config, WH_SCHEME_X_WEBHOOK) || add_x_webhook(h)) &&
		(!HAS(config, WH_SCHEME_RFC9421) || add_rfc9421(h));
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
 */
bool
wh_headers_make(WhDelivery *d)
{
	const WhConfig *config = d->config;
	Size		list_size = (config->header_count + d->event_header_count + WH_HEADERS_FIXED) *
		sizeof(char *);
	Headers		h = {.delivery = d, .config = config};

	d->headers = palloc(list_size + text_size(d));
	h.list = d->headers;
	h.end = (char *) d->headers + list_size;
	wh_id_text(h.id, d->event_id.data);
	h.message = (WhSigned)
	{
		.id = h.id,
		.timestamp_s = d->attempted_at / USECS_PER_SEC +
			(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY,
		.body = {d->request.body, d->request.body_len}
	};
	pg_lltoa(h.message.timestamp_s, h.timestamp);

	h.list[h.count++] = d->content_type;
	if (d->request.body_len > UNEXPECTING_BODY_MAX)
		h.list[h.count++] = "Expect:";
	if (wh_user_agent[0])
		add(&h, "", "User-Agent", wh_user_agent);
	if (!add_signatures(&h))
		return false;
	for (int i = 0; i < config->header_count; i++)
		if (!is_overridden(d, config->headers[i]))
			h.list[h.count++] = config->headers[i];
	for (int i = 0; i < d->event_header_count; i++)
		h.list[h.count++] = d->event_headers[i];
	h.list[h.count] = NULL;
	d->request.headers = d->headers;
	return true;
}
