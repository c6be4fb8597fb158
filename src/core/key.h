/*
 * The keys that requests are signed with, and their spelling as text: "whsec_…", a shared secret;
 * "whsk_…", an Ed25519 key pair; "whpk_…", its public half. Some schemes key their HMAC with the
 * text itself, whatever it is.
 */
#ifndef WH_CORE_KEY_H
#define WH_CORE_KEY_H

#include <stdbool.h>
#include <stddef.h>

#define WH_SECRET_PREFIX "whsec_"
#define WH_PRIVATE_PREFIX "whsk_"
#define WH_PUBLIC_PREFIX "whpk_"

#define WH_SECRET_MIN_BYTES 24
#define WH_SECRET_MAX_BYTES 64
#define WH_SECRET_TEXT_MAX 256	/* of a text that is itself the key */

#define WH_HMAC_BYTES 32
#define WH_ED25519_KEY_BYTES 32 /* of the seed, and of the public key */
#define WH_ED25519_BYTES 64		/* of a signature */

/* "whsec_" or less, 88 characters of base64 (64 bytes) and the terminating NUL */
#define WH_SECRET_TEXT_SIZE 95

/* An RFC 7638 thumbprint: 43 characters and the terminating NUL */
#define WH_KEY_ID_SIZE 44

typedef enum WhSecretError
{
	WH_SECRET_OK,
	WH_SECRET_NO_PREFIX,
	WH_SECRET_NOT_BASE64,
	WH_SECRET_TOO_SHORT,
	WH_SECRET_TOO_LONG,
	WH_SECRET_MISMATCH			/* the public half is not that of the seed */
} WhSecretError;

typedef enum WhKeyKind
{
	WH_KEY_HMAC,
	WH_KEY_PRIVATE,				/* 32 bytes of seed, 32 of public key */
	WH_KEY_PUBLIC				/* 32 bytes: verifies, signs nothing */
} WhKeyKind;

typedef struct WhSecretKey
{
	unsigned char bytes[WH_SECRET_MAX_BYTES];
	size_t		len;
	WhKeyKind	kind;
} WhSecretKey;

/* On an error *key is not meaningful, in each of these. */

/* "whsec_<base64>", of WH_SECRET_MIN_BYTES to WH_SECRET_MAX_BYTES. */
extern WhSecretError wh_secret_decode(const char *secret, WhSecretKey *key);

/* "whsk_<base64>", of the seed alone or of seed and public key, or "whpk_<base64>". */
extern WhSecretError wh_key_decode_ed25519(const char *text, WhSecretKey *key);

/*
 * The text is the key, prefix and all. What spells an Ed25519 key is refused as
 * WH_SECRET_NO_PREFIX: a private key must not become a shared secret.
 */
extern WhSecretError wh_key_literal(const char *secret, WhSecretKey *key);

/* Whether the text begins as an Ed25519 key does. */
extern bool wh_key_is_ed25519(const char *text);

/* Makes the pair of which the first WH_ED25519_KEY_BYTES of key->bytes are the seed. */
extern bool wh_key_complete(WhSecretKey *key);

/* Writes the key as text; a private one with its public half. */
extern void wh_secret_encode(const WhSecretKey *key, char out[WH_SECRET_TEXT_SIZE]);

/* Writes the public half of an Ed25519 key as "whpk_<base64>". */
extern void wh_key_encode_public(const WhSecretKey *key, char out[WH_SECRET_TEXT_SIZE]);

/*
 * Writes the key's JWK thumbprint with SHA-256 (RFC 7638, RFC 8037), in base64 for URLs: a name by
 * which a receiver that knows the key finds it. False when OpenSSL fails.
 */
extern bool wh_key_id(const WhSecretKey *key, char out[WH_KEY_ID_SIZE]);

typedef struct WhBytes
{
	const void *data;
	size_t		len;
} WhBytes;

/* Each of these is false also when OpenSSL fails (out of memory, no provider). */
extern bool wh_hmac_sha256(const WhSecretKey *key, const WhBytes *parts, int count,
						   unsigned char out[WH_HMAC_BYTES]);
extern bool wh_ed25519_sign(const WhSecretKey *key, WhBytes message,
							unsigned char out[WH_ED25519_BYTES]);
extern bool wh_ed25519_verify(const WhSecretKey *key, WhBytes message,
							  const unsigned char signature[WH_ED25519_BYTES]);

#endif
