/*
 * Standard Webhooks signatures, scheme v1: HMAC-SHA256 over "id.timestamp.body".
 * https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
 */
#ifndef WH_CORE_SIGNATURE_H
#define WH_CORE_SIGNATURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WH_SECRET_PREFIX "whsec_"
#define WH_SECRET_MIN_BYTES 24
#define WH_SECRET_MAX_BYTES 64

/* "v1," and 44 characters of base64 and the terminating NUL */
#define WH_SIGNATURE_V1_SIZE 48

/* "whsec_", 88 characters of base64 (64 bytes) and the terminating NUL */
#define WH_SECRET_TEXT_SIZE 95

typedef enum WhSecretError
{
	WH_SECRET_OK,
	WH_SECRET_NO_PREFIX,
	WH_SECRET_NOT_BASE64,
	WH_SECRET_TOO_SHORT,
	WH_SECRET_TOO_LONG
} WhSecretError;

/* The decoded bytes of a secret: what the HMAC is keyed with. */
typedef struct WhSecretKey
{
	unsigned char bytes[WH_SECRET_MAX_BYTES];
	size_t		len;
} WhSecretKey;

/* Decodes "whsec_<base64>". On an error *key is not meaningful. */
extern WhSecretError wh_secret_decode(const char *secret, WhSecretKey *key);

/* Writes key as "whsec_<base64>" into out. */
extern void wh_secret_encode(const WhSecretKey *key, char out[WH_SECRET_TEXT_SIZE]);

/*
 * Writes "v1,<base64>" over id, timestamp (Unix seconds) and body, which may hold any bytes.
 * Returns false when OpenSSL fails (out of memory, no HMAC provider).
 */
extern bool wh_signature_v1(const WhSecretKey *key, const char *id, int64_t timestamp_s,
							const void *body, size_t body_len, char out[WH_SIGNATURE_V1_SIZE]);

#endif
