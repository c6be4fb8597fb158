/*
 * Messages that came in: lines of headers, an empty line, a body. Whatever they are, they are read
 * without harm; what is signed over their parts verifies, and nothing else does.
 */
#include "core/http_signature.h"
#include "core/signature.h"
#include "core/verification.h"

#include "fuzz.h"

#define HEADERS_MAX 64
#define NOW_S INT64_C(1614265330)
#define TIMESTAMP "1614265330"

static const char shared[] = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
static const char pair[] = "whsk_n4Ni+HpISpVObnQMW0wOhCKROaIKqKtW/2ZYb2p9KcU=";

/* The input taken apart; its lines end in NULs. */
typedef struct Parts
{
	WhHeader	headers[HEADERS_MAX];
	int			header_count;
	char	   *body;
	size_t		body_len;
} Parts;

static bool
has(const Parts *parts, const char *name)
{
	for (int i = 0; i < parts->header_count; i++)
		if (strcmp(parts->headers[i].name, name) == 0)
			return true;
	return false;
}

static void
take_apart(char *text, size_t len, Parts *parts)
{
	char	   *end = text + len;

	parts->header_count = 0;
	while (text < end && *text != '\n' && parts->header_count < HEADERS_MAX)
	{
		char	   *line_end = memchr(text, '\n', (size_t) (end - text));
		char	   *colon;

		if (line_end == NULL)
			line_end = end;
		*line_end = '\0';
		colon = strchr(text, ':');
		if (colon != NULL)
		{
			*colon = '\0';
			for (char *c = text; *c; c++)
				*c = *c >= 'A' && *c <= 'Z' ? (char) (*c + 32) : *c;
			if (!has(parts, text))
				parts->headers[parts->header_count++] =
					(WhHeader) {text, colon + 1 + strspn(colon + 1, " ")};
		}
		text = line_end < end ? line_end + 1 : end;
	}
	if (text < end && *text == '\n')
		text++;
	parts->body = text;
	parts->body_len = (size_t) (end - text);
}

static bool
verify(WhScheme scheme, const WhHeader *headers, int count, WhBytes body)
{
	WhSecretKey keys[2];
	WhReceived	message = {
		.headers = headers, .header_count = count, .body = body, .now_ms = NOW_S * 1000,
		.tolerance_ms = 300000, .keys = keys, .key_count = 1
	};
	const char *id = NULL;
	bool		valid;

	(void) wh_scheme_key(scheme, scheme == WH_SCHEME_V1A ? pair : shared, &keys[0]);
	if (scheme == WH_SCHEME_RFC9421)
		(void) wh_scheme_key(scheme, pair, &keys[message.key_count++]);
	message.scratch_size = wh_verify_scratch_size(&message);
	message.scratch = malloc(message.scratch_size);
	if (message.scratch == NULL)
		abort();
	valid = wh_verify(scheme, &message, &id);
	free(message.scratch);
	HOLDS(valid || id == NULL);
	return valid;
}

/* The headers of a message signed by a scheme; returns how many. */
static int
sign(WhScheme scheme, const char *id, WhBytes body, WhHeader headers[4], char texts[4][1024])
{
	static char scratch[WH_SIGNED_SCRATCH_SIZE(INPUT_MAX, INPUT_MAX)];
	WhSigned	message = {id, NOW_S, body, scratch};
	WhSecretKey key;

	(void) wh_scheme_key(scheme, scheme == WH_SCHEME_V1A ? pair : shared, &key);
	if (scheme == WH_SCHEME_RFC9421)
	{
		WhHeader	covered[] = {{"content-digest", texts[2]}, {"a-id", id}};
		WhComponents components = {covered, 2, NOW_S};
		WhHttpSignature made;

		HOLDS(wh_content_digest(body, texts[2]));
		HOLDS(wh_http_signature_make(&key, &components, scratch, &made) || strpbrk(id, "\r\n"));
		snprintf(texts[0], 1024, "a=%s", made.input);
		snprintf(texts[1], 1024, "a=:%s:", made.signature);
		headers[0] = (WhHeader) {"signature-input", texts[0]};
		headers[1] = (WhHeader) {"signature", texts[1]};
		headers[2] = covered[0];
		headers[3] = covered[1];
		return 4;
	}
	HOLDS(wh_signature_make(scheme, &key, &message, texts[0]));
	if (scheme == WH_SCHEME_STRIPE)
	{
		snprintf(texts[1], 1024, "t=" TIMESTAMP ",%s", texts[0]);
		headers[0] = (WhHeader) {"stripe-signature", texts[1]};
		return 1;
	}
	headers[0] = (WhHeader) {scheme == WH_SCHEME_GITHUB ? "x-hub-signature-256" :
		scheme == WH_SCHEME_X_WEBHOOK ? "x-webhook-signature" : "a-signature", texts[0]};
	headers[1] = (WhHeader) {scheme == WH_SCHEME_X_WEBHOOK ? "x-webhook-timestamp" : "a-timestamp",
		TIMESTAMP};
	headers[2] = (WhHeader) {"a-id", id};
	return 3;
}

/* With the id and the body of the input: as they are, and with a bit of the body altered. */
static void
check_round_trip(const char *id, char *body, size_t len)
{
	for (int scheme = 0; scheme < WH_SCHEME_NONE; scheme++)
	{
		WhHeader	headers[4];
		char		texts[4][1024];
		int			count;

		if (id[0] == '\0' || strlen(id) > 500)
			return;
		if (strpbrk(id, "\r\n") && scheme == WH_SCHEME_RFC9421)
			continue;
		count = sign((WhScheme) scheme, id, (WhBytes) {body, len}, headers, texts);
		HOLDS(verify((WhScheme) scheme, headers, count, (WhBytes) {body, len}));
		if (len == 0)
			continue;
		body[len / 2] ^= 4;
		HOLDS(!verify((WhScheme) scheme, headers, count, (WhBytes) {body, len}));
		body[len / 2] ^= 4;
	}
}

static void
target(const char *text, size_t len)
{
	char	   *copy = malloc(len + 1);
	Parts		parts;

	if (copy == NULL)
		abort();
	memcpy(copy, text, len + 1);
	take_apart(copy, len, &parts);
	for (int scheme = 0; scheme < WH_SCHEME_COUNT; scheme++)
		(void) verify((WhScheme) scheme, parts.headers, parts.header_count,
					  (WhBytes) {parts.body, parts.body_len});
	check_round_trip(parts.header_count > 0 ? parts.headers[0].value : "id", parts.body,
					 parts.body_len);
	free(copy);
}
