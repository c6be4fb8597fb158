/*
 * Every delivery is signed here, so nothing is formatted by a template and, for an HMAC, nothing is
 * copied together.
 */
#include "core/signature.h"

#include <string.h>

#include "core/encoding.h"

/* ".-9223372036854775808." */
#define TIMESTAMP_SIZE 22

static const char *const names[] = {
	[WH_SCHEME_V1] = "v1",
	[WH_SCHEME_V1A] = "v1a",
	[WH_SCHEME_STRIPE] = "stripe",
	[WH_SCHEME_GITHUB] = "github",
	[WH_SCHEME_X_WEBHOOK] = "x-webhook",
	[WH_SCHEME_RFC9421] = "rfc9421",
	[WH_SCHEME_NONE] = "none"
};

bool
wh_scheme_parse(const char *name, WhScheme *scheme)
{
	for (int i = 0; i < WH_SCHEME_COUNT; i++)
		if (strcmp(names[i], name) == 0)
		{
			*scheme = (WhScheme) i;
			return true;
		}
	return false;
}

const char *
wh_scheme_name(WhScheme scheme)
{
	return names[scheme];
}

WhSecretError
wh_scheme_key(WhScheme scheme, const char *secret, WhSecretKey *key)
{
	switch (scheme)
	{
		case WH_SCHEME_V1:
			return wh_secret_decode(secret, key);
		case WH_SCHEME_V1A:
			return wh_key_decode_ed25519(secret, key);
		case WH_SCHEME_RFC9421:
			return wh_key_is_ed25519(secret) ? wh_key_decode_ed25519(secret, key) :
				wh_secret_decode(secret, key);
		case WH_SCHEME_STRIPE:
		case WH_SCHEME_GITHUB:
		case WH_SCHEME_X_WEBHOOK:
		case WH_SCHEME_NONE:
			return wh_key_literal(secret, key);
	}
	return WH_SECRET_NO_PREFIX;
}

/* Writes ".timestamp." into the tail of buffer. */
static WhBytes
format_timestamp(int64_t timestamp_s, char buffer[TIMESTAMP_SIZE])
{
	uint64_t	digits = timestamp_s < 0 ? 0 - (uint64_t) timestamp_s : (uint64_t) timestamp_s;
	char	   *start = buffer + TIMESTAMP_SIZE;

	*--start = '.';
	do
		*--start = (char) ('0' + digits % 10);
	while ((digits /= 10) > 0);
	if (timestamp_s < 0)
		*--start = '-';
	*--start = '.';
	return (WhBytes)
	{
		start, (size_t) (buffer + TIMESTAMP_SIZE - start)
	};
}

/* Ed25519 takes its message in one piece. */
static bool
sign_v1a(const WhSecretKey *key, const WhBytes *parts, int count, char *scratch, char *out)
{
	unsigned char signature[WH_ED25519_BYTES];
	WhBytes		message = {scratch, 0};

	if (key->kind != WH_KEY_PRIVATE)
		return false;
	for (int i = 0; i < count; i++)
	{
		if (parts[i].len > 0)
			memcpy(scratch + message.len, parts[i].data, parts[i].len);
		message.len += parts[i].len;
	}
	if (!wh_ed25519_sign(key, message, signature))
		return false;
	memcpy(out, "v1a,", 4);
	wh_base64_encode(out + 4, signature, sizeof(signature));
	return true;
}

static bool
sign_hex(const WhSecretKey *key, const WhBytes *parts, int count, const char *prefix, char *out)
{
	unsigned char hmac[WH_HMAC_BYTES];
	size_t		prefix_len = strlen(prefix);

	if (!wh_hmac_sha256(key, parts, count, hmac))
		return false;
	memcpy(out, prefix, prefix_len);
	wh_hex_encode(out + prefix_len, hmac, sizeof(hmac));
	return true;
}

bool
wh_signature_make(WhScheme scheme, const WhSecretKey *key, const WhSigned *message,
				  char out[WH_SIGNATURE_SIZE])
{
	char		buffer[TIMESTAMP_SIZE];
	WhBytes		timestamp = format_timestamp(message->timestamp_s, buffer);
	WhBytes		parts[] = {{message->id, strlen(message->id)}, timestamp, message->body};
	unsigned char hmac[WH_HMAC_BYTES];

	switch (scheme)
	{
		case WH_SCHEME_V1:
			if (!wh_hmac_sha256(key, parts, 3, hmac))
				return false;
			memcpy(out, "v1,", 3);
			wh_base64_encode(out + 3, hmac, sizeof(hmac));
			return true;
		case WH_SCHEME_V1A:
			return sign_v1a(key, parts, 3, message->scratch, out);
		case WH_SCHEME_STRIPE:
		case WH_SCHEME_X_WEBHOOK:
			/* without the dot that stands before it */
			parts[1].data = (const char *) timestamp.data + 1;
			parts[1].len--;
			return sign_hex(key, parts + 1, 2, "v1=", out);
		case WH_SCHEME_GITHUB:
			return sign_hex(key, parts + 2, 1, "sha256=", out);
		case WH_SCHEME_RFC9421:
		case WH_SCHEME_NONE:
			break;
	}
	return false;
}
