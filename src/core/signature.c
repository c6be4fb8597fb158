/*
 * The HMAC of Standard Webhooks, and the secrets that key it.
 *
 * A secret's base64 is taken in its one canonical spelling (RFC 4648, 3.5), with its padding or
 * without it. OpenSSL's decoder forgives white space and stray bits; a receiver's may not, and the
 * two would then sign with different keys.
 */
#include "core/signature.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#define BASE64_ALPHABET "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
#define BASE64_LEN(bytes) (((bytes) + 2) / 3 * 4)

#define HMAC_BYTES 32

/* ".-9223372036854775808." */
#define TIMESTAMP_SIZE 22

/*
 * Counts the base64 characters before the padding. False when another character follows them, or
 * when the padding is neither absent nor what their number calls for.
 */
static bool
measure(const char *text, size_t *chars)
{
	static const char *const padding[] = {"", NULL, "==", "="};
	const char *rest;

	*chars = strspn(text, BASE64_ALPHABET);
	rest = text + *chars;
	if (padding[*chars % 4] == NULL)
		return false;
	return *rest == '\0' || strcmp(rest, padding[*chars % 4]) == 0;
}

/*
 * Fills the key->len bytes that these characters, all of the alphabet, stand for. False when the
 * bytes are not spelled so: the last character has bits that belong to no byte.
 */
static bool
decode(const char *text, size_t chars, WhSecretKey *key)
{
	struct
	{
		unsigned char padded[BASE64_LEN(WH_SECRET_MAX_BYTES)];
		unsigned char bytes[BASE64_LEN(WH_SECRET_MAX_BYTES) / 4 * 3];
		unsigned char encoded[BASE64_LEN(WH_SECRET_MAX_BYTES) + 1];
	}			scratch;
	bool		canonical;

	memset(scratch.padded, '=', sizeof(scratch.padded));
	memcpy(scratch.padded, text, chars);
	EVP_DecodeBlock(scratch.bytes, scratch.padded, (int) BASE64_LEN(key->len));
	memcpy(key->bytes, scratch.bytes, key->len);

	EVP_EncodeBlock(scratch.encoded, key->bytes, (int) key->len);
	canonical = memcmp(scratch.encoded, text, chars) == 0;

	OPENSSL_cleanse(&scratch, sizeof(scratch));
	return canonical;
}

WhSecretError
wh_secret_decode(const char *secret, WhSecretKey *key)
{
	const char *text;
	size_t		chars;

	if (strncmp(secret, WH_SECRET_PREFIX, strlen(WH_SECRET_PREFIX)) != 0)
		return WH_SECRET_NO_PREFIX;
	text = secret + strlen(WH_SECRET_PREFIX);

	if (!measure(text, &chars))
		return WH_SECRET_NOT_BASE64;

	key->len = chars * 3 / 4;
	if (key->len < WH_SECRET_MIN_BYTES)
		return WH_SECRET_TOO_SHORT;
	if (key->len > WH_SECRET_MAX_BYTES)
		return WH_SECRET_TOO_LONG;

	return decode(text, chars, key) ? WH_SECRET_OK : WH_SECRET_NOT_BASE64;
}

void
wh_secret_encode(const WhSecretKey *key, char out[WH_SECRET_TEXT_SIZE])
{
	size_t		prefix_len = strlen(WH_SECRET_PREFIX);

	memcpy(out, WH_SECRET_PREFIX, prefix_len);
	EVP_EncodeBlock((unsigned char *) out + prefix_len, key->bytes, (int) key->len);
}

static EVP_MAC_CTX *
make_context(void)
{
	char		digest[] = "SHA256";
	OSSL_PARAM	params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_end()
	};
	EVP_MAC    *mac = EVP_MAC_fetch(NULL, OSSL_MAC_NAME_HMAC, NULL);
	EVP_MAC_CTX *context = mac == NULL ? NULL : EVP_MAC_CTX_new(mac);

	EVP_MAC_free(mac);			/* the context holds its own reference */
	if (context != NULL && !EVP_MAC_CTX_set_params(context, params))
	{
		EVP_MAC_CTX_free(context);
		context = NULL;
	}
	return context;
}

/*
 * Kept for the life of the process, which signs in one thread, and keyed anew for each signature:
 * looking up the algorithm and making a context would take longer than the hashing.
 */
static EVP_MAC_CTX *
get_context(void)
{
	static EVP_MAC_CTX *context = NULL;

	if (context == NULL)
		context = make_context();
	return context;
}

/* Writes ".timestamp." into the tail of buffer and returns where it begins. */
static const char *
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
	return start;
}

bool
wh_signature_v1(const WhSecretKey *key, const char *id, int64_t timestamp_s,
				const void *body, size_t body_len, char out[WH_SIGNATURE_V1_SIZE])
{
	EVP_MAC_CTX *context = get_context();
	char		buffer[TIMESTAMP_SIZE];
	const char *timestamp = format_timestamp(timestamp_s, buffer);
	size_t		timestamp_len = (size_t) (buffer + TIMESTAMP_SIZE - timestamp);
	unsigned char hmac[HMAC_BYTES];
	size_t		hmac_len;

	if (context == NULL
		|| !EVP_MAC_init(context, key->bytes, key->len, NULL)
		|| !EVP_MAC_update(context, (const unsigned char *) id, strlen(id))
		|| !EVP_MAC_update(context, (const unsigned char *) timestamp, timestamp_len)
		|| !EVP_MAC_update(context, body, body_len)
		|| !EVP_MAC_final(context, hmac, &hmac_len, sizeof(hmac)))
		return false;

	memcpy(out, "v1,", 3);
	EVP_EncodeBlock((unsigned char *) out + 3, hmac, HMAC_BYTES);
	return true;
}
