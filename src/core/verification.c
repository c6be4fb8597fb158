/*
 * What is read here is a stranger's until the very end. Every signature is looked at, with every
 * key, so that the time it takes says nothing about which of them came close.
 */
#include "core/verification.h"

#include <string.h>

#include <openssl/crypto.h>

#include "core/encoding.h"
#include "core/http_verification.h"

#define SIGNATURES_MAX 16		/* looked at in one header: one costs Ed25519 a look at the body */
#define PREFIXES_MAX 4			/* of triples looked at */
#define TIMESTAMP_DIGITS_MAX 15

#define MILLISECONDS_FROM INT64_C(100000000000) /* as seconds the year 5138, as milliseconds 1973 */

#define SEPARATORS " \t,"

const char *
wh_header_find_prefixed(const WhReceived *message, WhBytes prefix, const char *name)
{
	for (int i = 0; i < message->header_count; i++)
	{
		const char *candidate = message->headers[i].name;

		if (strncmp(candidate, prefix.data, prefix.len) == 0 &&
			strcmp(candidate + prefix.len, name) == 0)
			return message->headers[i].value;
	}
	return NULL;
}

const char *
wh_header_find(const WhReceived *message, const char *name)
{
	return wh_header_find_prefixed(message, (WhBytes) {"", 0}, name);
}

bool
wh_timestamp_acceptable(const WhReceived *message, const char *text, size_t len)
{
	int64_t		number = 0;
	int64_t		now = message->now_ms;
	int64_t		age;

	if (len == 0 || len > TIMESTAMP_DIGITS_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
	{
		if (text[i] < '0' || text[i] > '9')
			return false;
		number = number * 10 + (text[i] - '0');
	}
	if (number < MILLISECONDS_FROM)
	{
		number *= 1000;
		now -= now % 1000;		/* a clock of whole seconds, as the sender's */
	}
	age = now - number;
	return age <= message->tolerance_ms && age >= -message->tolerance_ms;
}

size_t
wh_verify_scratch_size(const WhReceived *message)
{
	size_t		headers = 0;

	for (int i = 0; i < message->header_count; i++)
		headers += strlen(message->headers[i].name) + strlen(message->headers[i].value);

	/*
	 * v1a copies an id, a timestamp and the body; rfc9421 names and values, some of them repeatedly
	 */
	return message->body.len + 8 * headers + 1024;
}

/*
 * The next of a list's signatures: what follows the version and its mark, in "v1,…" or "v1=…".
 * Moves *text on; false at the end. Lists are apart by blanks or commas, whatever joined them.
 */
static bool
next_signature(const char **text, char mark, const char *version, WhBytes *signature)
{
	size_t		version_len = strlen(version);

	for (;;)
	{
		const char *start = *text + strspn(*text, SEPARATORS);
		const char *value = start + strcspn(start, mark == ',' ? SEPARATORS : SEPARATORS "=");
		bool		matches = (size_t) (value - start) == version_len &&
			memcmp(start, version, version_len) == 0;

		if (*start == '\0')
			return false;
		if (*value != mark)
		{
			*text = value;
			continue;
		}
		value++;
		*signature = (WhBytes) {value, strcspn(value, SEPARATORS)};
		*text = value + signature->len;
		if (matches)
			return true;
	}
}

/* Whether a signature, in base64 or hexadecimal digits, is one of the HMACs. */
static bool
is_among(WhBytes text, bool hex, unsigned char (*hmacs)[WH_HMAC_BYTES], int count)
{
	unsigned char given[WH_HMAC_BYTES];
	size_t		len;
	bool		found = false;

	if (hex ? text.len != 2 * sizeof(given) || !wh_hex_decode(text.data, given, sizeof(given)) :
		!wh_base64_measure(text.data, text.len, &len) || len != sizeof(given) ||
		!wh_base64_decode(text.data, text.len, given))
		return false;
	for (int i = 0; i < count; i++)
		found |= CRYPTO_memcmp(given, hmacs[i], sizeof(given)) == 0;
	return found;
}

/* How a scheme spells its signatures. */
typedef struct Spelling
{
	const char *version;
	char		mark;			/* between the version and the signature */
	bool		hex;
} Spelling;

/* Keys are taken a few at a time, so that no memory is needed for them all. */
#define KEYS_AT_ONCE 8

static bool
verify_hmac(const WhReceived *message, const char *list, const Spelling *spelling,
			const WhBytes *parts, int count)
{
	bool		valid = false;

	for (int first = 0; first < message->key_count; first += KEYS_AT_ONCE)
	{
		unsigned char hmacs[KEYS_AT_ONCE][WH_HMAC_BYTES];
		int			keys = 0;
		const char *rest = list;
		WhBytes		signature;

		for (int i = first; i < message->key_count && keys < KEYS_AT_ONCE; i++)
			if (!wh_hmac_sha256(&message->keys[i], parts, count, hmacs[keys++]))
				return false;
		while (next_signature(&rest, spelling->mark, spelling->version, &signature))
			valid |= is_among(signature, spelling->hex, hmacs, keys);
		OPENSSL_cleanse(hmacs, sizeof(hmacs));
	}
	return valid;
}

static bool
verify_ed25519(const WhReceived *message, const char *list, const WhBytes *parts, int count)
{
	WhBytes		whole = {message->scratch, 0};
	WhBytes		text;
	bool		valid = false;

	for (int i = 0; i < count; i++)
	{
		if (parts[i].len > message->scratch_size - whole.len)
			return false;
		if (parts[i].len > 0)
			memcpy(message->scratch + whole.len, parts[i].data, parts[i].len);
		whole.len += parts[i].len;
	}
	for (int n = 0; n < SIGNATURES_MAX && next_signature(&list, ',', "v1a", &text); n++)
	{
		unsigned char signature[WH_ED25519_BYTES];
		size_t		len;

		if (!wh_base64_measure(text.data, text.len, &len) || len != sizeof(signature) ||
			!wh_base64_decode(text.data, text.len, signature))
			continue;
		for (int i = 0; i < message->key_count; i++)
			valid |= wh_ed25519_verify(&message->keys[i], whole, signature);
	}
	return valid;
}

/* One triple of headers. */
static bool
verify_triple(WhScheme scheme, const WhReceived *message, WhBytes prefix, const char *list,
			  const char **id)
{
	static const Spelling spelling = {"v1", ',', false};
	const char *timestamp = wh_header_find_prefixed(message, prefix, "timestamp");

	*id = wh_header_find_prefixed(message, prefix, "id");
	if (*id == NULL || **id == '\0' || timestamp == NULL ||
		!wh_timestamp_acceptable(message, timestamp, strlen(timestamp)))
		return false;
	{
		WhBytes		parts[] = {
			{*id, strlen(*id)}, {".", 1}, {timestamp, strlen(timestamp)}, {".", 1}, message->body
		};

		return scheme == WH_SCHEME_V1 ? verify_hmac(message, list, &spelling, parts, 5) :
			verify_ed25519(message, list, parts, 5);
	}
}

static bool
verify_standard(WhScheme scheme, const WhReceived *message, const char **id)
{
	static const char ending[] = "-signature";
	int			looked_at = 0;

	for (int i = 0; i < message->header_count && looked_at < PREFIXES_MAX; i++)
	{
		const char *name = message->headers[i].name;
		size_t		len = strlen(name);

		if (len < sizeof(ending) || strcmp(name + len - (sizeof(ending) - 1), ending) != 0)
			continue;
		looked_at++;
		if (verify_triple(scheme, message, (WhBytes) {name, len - (sizeof(ending) - 2)},
						  message->headers[i].value, id))
			return true;
	}
	return false;
}

/* "t=1492774577,v1=…,v1=…": one time, any number of signatures. */
static bool
verify_stripe(const WhReceived *message)
{
	static const Spelling spelling = {"v1", '=', true};
	const char *list = wh_header_find(message, "stripe-signature");
	const char *rest = list;
	WhBytes		timestamp;
	WhBytes		another;

	if (list == NULL || !next_signature(&rest, '=', "t", &timestamp) ||
		next_signature(&rest, '=', "t", &another) ||
		!wh_timestamp_acceptable(message, timestamp.data, timestamp.len))
		return false;
	{
		WhBytes		parts[] = {timestamp, {".", 1}, message->body};

		return verify_hmac(message, list, &spelling, parts, 3);
	}
}

static bool
verify_github(const WhReceived *message)
{
	static const Spelling spelling = {"sha256", '=', true};
	const char *list = wh_header_find(message, "x-hub-signature-256");

	return list != NULL && verify_hmac(message, list, &spelling, &message->body, 1);
}

static bool
verify_x_webhook(const WhReceived *message)
{
	static const Spelling spelling = {"v1", '=', true};
	const char *list = wh_header_find(message, "x-webhook-signature");
	const char *timestamp = wh_header_find(message, "x-webhook-timestamp");

	if (list == NULL || timestamp == NULL ||
		!wh_timestamp_acceptable(message, timestamp, strlen(timestamp)))
		return false;
	{
		WhBytes		parts[] = {{timestamp, strlen(timestamp)}, {".", 1}, message->body};

		return verify_hmac(message, list, &spelling, parts, 3);
	}
}

bool
wh_verify(WhScheme scheme, const WhReceived *message, const char **id)
{
	const char *covered = NULL;
	bool		valid = false;

	switch (scheme)
	{
		case WH_SCHEME_V1:
		case WH_SCHEME_V1A:
			valid = verify_standard(scheme, message, &covered);
			break;
		case WH_SCHEME_STRIPE:
			valid = verify_stripe(message);
			break;
		case WH_SCHEME_GITHUB:
			valid = verify_github(message);
			break;
		case WH_SCHEME_X_WEBHOOK:
			valid = verify_x_webhook(message);
			break;
		case WH_SCHEME_RFC9421:
			valid = wh_http_signature_valid(message, true, &covered);
			break;
		case WH_SCHEME_NONE:
			break;
	}
	if (id != NULL)
		*id = valid ? covered : NULL;
	return valid;
}
