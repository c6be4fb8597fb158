/*
 * Keys, and the two algorithms that use them. What stood in scratch memory is wiped.
 */
#include "core/key.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "core/encoding.h"

/*
 * {"crv":"Ed25519","kty":"OKP","x":"…"} and {"k":"…","kty":"oct"} with 86 characters for 64 bytes
 */
#define JWK_SIZE 128

static bool
has_prefix(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* What follows the prefix, of min to max bytes, into key. */
static WhSecretError
decode(const char *text, size_t min, size_t max, WhSecretKey *key)
{
	size_t		len = strlen(text);

	if (!wh_base64_measure(text, len, &key->len))
		return WH_SECRET_NOT_BASE64;
	if (key->len < min)
		return WH_SECRET_TOO_SHORT;
	if (key->len > max)
		return WH_SECRET_TOO_LONG;
	return wh_base64_decode(text, len, key->bytes) ? WH_SECRET_OK : WH_SECRET_NOT_BASE64;
}

WhSecretError
wh_secret_decode(const char *secret, WhSecretKey *key)
{
	if (!has_prefix(secret, WH_SECRET_PREFIX))
		return WH_SECRET_NO_PREFIX;
	key->kind = WH_KEY_HMAC;
	return decode(secret + strlen(WH_SECRET_PREFIX), WH_SECRET_MIN_BYTES, WH_SECRET_MAX_BYTES, key);
}

bool
wh_key_is_ed25519(const char *text)
{
	return has_prefix(text, WH_PRIVATE_PREFIX) || has_prefix(text, WH_PUBLIC_PREFIX);
}

bool
wh_key_complete(WhSecretKey *key)
{
	EVP_PKEY   *pair = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, key->bytes,
													WH_ED25519_KEY_BYTES);
	size_t		len = WH_ED25519_KEY_BYTES;
	bool		done = pair != NULL &&
		EVP_PKEY_get_raw_public_key(pair, key->bytes + WH_ED25519_KEY_BYTES, &len) == 1;

	EVP_PKEY_free(pair);
	key->kind = WH_KEY_PRIVATE;
	key->len = 2 * WH_ED25519_KEY_BYTES;
	return done;
}

static WhSecretError
decode_private(const char *text, WhSecretKey *key)
{
	WhSecretError error = decode(text, WH_ED25519_KEY_BYTES, 2 * WH_ED25519_KEY_BYTES, key);
	unsigned char given[WH_ED25519_KEY_BYTES];
	size_t		given_len = key->len - WH_ED25519_KEY_BYTES;

	if (error != WH_SECRET_OK)
		return error;
	if (given_len != 0 && given_len != WH_ED25519_KEY_BYTES)
		return WH_SECRET_TOO_SHORT;
	memcpy(given, key->bytes + WH_ED25519_KEY_BYTES, given_len);

	/* a wrong public half would be told to receivers, and is what some forgeries begin with */
	if (!wh_key_complete(key) || memcmp(given, key->bytes + WH_ED25519_KEY_BYTES, given_len) != 0)
		return WH_SECRET_MISMATCH;
	return WH_SECRET_OK;
}

WhSecretError
wh_key_decode_ed25519(const char *text, WhSecretKey *key)
{
	if (has_prefix(text, WH_PRIVATE_PREFIX))
		return decode_private(text + strlen(WH_PRIVATE_PREFIX), key);
	if (!has_prefix(text, WH_PUBLIC_PREFIX))
		return WH_SECRET_NO_PREFIX;
	key->kind = WH_KEY_PUBLIC;
	return decode(text + strlen(WH_PUBLIC_PREFIX), WH_ED25519_KEY_BYTES, WH_ED25519_KEY_BYTES, key);
}

WhSecretError
wh_key_literal(const char *secret, WhSecretKey *key)
{
	size_t		len = strlen(secret);

	if (wh_key_is_ed25519(secret))
		return WH_SECRET_NO_PREFIX;
	if (len == 0)
		return WH_SECRET_TOO_SHORT;
	if (len > WH_SECRET_TEXT_MAX)
		return WH_SECRET_TOO_LONG;
	key->kind = WH_KEY_HMAC;
	key->len = len;
	if (len <= sizeof(key->bytes))
	{
		memcpy(key->bytes, secret, len);
		return WH_SECRET_OK;
	}

	/* as HMAC itself does with a key longer than a block (RFC 2104, 2) */
	key->len = WH_HMAC_BYTES;
	return EVP_Digest(secret, len, key->bytes, NULL, EVP_sha256(), NULL) ? WH_SECRET_OK :
		WH_SECRET_TOO_LONG;
}

static void
encode(const char *prefix, const unsigned char *bytes, size_t len, char *out)
{
	size_t		prefix_len = strlen(prefix);

	memcpy(out, prefix, prefix_len);
	wh_base64_encode(out + prefix_len, bytes, len);
}

/* Where an Ed25519 key's public half stands. */
static const unsigned char *
public_half(const WhSecretKey *key)
{
	return key->kind == WH_KEY_PRIVATE ? key->bytes + WH_ED25519_KEY_BYTES : key->bytes;
}

void
wh_secret_encode(const WhSecretKey *key, char out[WH_SECRET_TEXT_SIZE])
{
	const char *prefix = key->kind == WH_KEY_HMAC ? WH_SECRET_PREFIX :
		key->kind == WH_KEY_PRIVATE ? WH_PRIVATE_PREFIX : WH_PUBLIC_PREFIX;

	encode(prefix, key->bytes, key->len, out);
}

void
wh_key_encode_public(const WhSecretKey *key, char out[WH_SECRET_TEXT_SIZE])
{
	encode(WH_PUBLIC_PREFIX, public_half(key), WH_ED25519_KEY_BYTES, out);
}

/* Base64 for URLs, without padding (RFC 4648, 5), of what stands as base64 from text on. */
static char *
make_url_safe(char *text)
{
	for (; *text != '\0' && *text != '='; text++)
		*text = *text == '+' ? '-' : *text == '/' ? '_' : *text;
	*text = '\0';
	return text;
}

static char *
append(char *out, const char *text)
{
	size_t		len = strlen(text);

	memcpy(out, text, len + 1);
	return out + len;
}

bool
wh_key_id(const WhSecretKey *key, char out[WH_KEY_ID_SIZE])
{
	bool		shared = key->kind == WH_KEY_HMAC;
	char		jwk[JWK_SIZE];
	char	   *value = append(jwk, shared ? "{\"k\":\"" :
							   "{\"crv\":\"Ed25519\",\"kty\":\"OKP\",\"x\":\"");
	unsigned char digest[WH_HMAC_BYTES];
	char		text[WH_BASE64_LEN(WH_HMAC_BYTES) + 1];
	char	   *end;
	bool		done;

	wh_base64_encode(value, shared ? key->bytes : public_half(key),
					 shared ? key->len : WH_ED25519_KEY_BYTES);
	end = append(make_url_safe(value), shared ? "\",\"kty\":\"oct\"}" : "\"}");
	done = EVP_Digest(jwk, (size_t) (end - jwk), digest, NULL, EVP_sha256(), NULL) == 1;
	wh_base64_encode(text, digest, sizeof(digest));
	memcpy(out, text, (size_t) (make_url_safe(text) - text) + 1);
	OPENSSL_cleanse(jwk, sizeof(jwk));
	return done;
}


/* ---- HMAC-SHA256 ---- */

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

bool
wh_hmac_sha256(const WhSecretKey *key, const WhBytes *parts, int count,
			   unsigned char out[WH_HMAC_BYTES])
{
	EVP_MAC_CTX *context = get_context();
	size_t		len;

	if (context == NULL || !EVP_MAC_init(context, key->bytes, key->len, NULL))
		return false;
	for (int i = 0; i < count; i++)
		if (!EVP_MAC_update(context, parts[i].data, parts[i].len))
			return false;
	return EVP_MAC_final(context, out, &len, WH_HMAC_BYTES) == 1;
}


/* ---- Ed25519 ---- */

bool
wh_ed25519_sign(const WhSecretKey *key, WhBytes message, unsigned char out[WH_ED25519_BYTES])
{
	EVP_PKEY   *pair = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, key->bytes,
													WH_ED25519_KEY_BYTES);
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	size_t		len = WH_ED25519_BYTES;
	bool		done = pair != NULL && context != NULL &&
		EVP_DigestSignInit(context, NULL, NULL, NULL, pair) == 1 &&
		EVP_DigestSign(context, out, &len, message.data, message.len) == 1;

	EVP_MD_CTX_free(context);
	EVP_PKEY_free(pair);
	return done;
}

bool
wh_ed25519_verify(const WhSecretKey *key, WhBytes message,
				  const unsigned char signature[WH_ED25519_BYTES])
{
	EVP_PKEY   *public_key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public_half(key),
														 WH_ED25519_KEY_BYTES);
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	bool		valid = public_key != NULL && context != NULL &&
		EVP_DigestVerifyInit(context, NULL, NULL, NULL, public_key) == 1 &&
		EVP_DigestVerify(context, signature, WH_ED25519_BYTES, message.data, message.len) == 1;

	EVP_MD_CTX_free(context);
	EVP_PKEY_free(public_key);
	return valid;
}
