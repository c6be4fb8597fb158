/*
 * Authenticated encryption, AES-256-GCM: what is sealed opens with the same key for the same owner,
 * or not at all. Takes its randomness from the caller.
 */
#ifndef WH_CORE_CIPHER_H
#define WH_CORE_CIPHER_H

#include <stdbool.h>
#include <stddef.h>

#define WH_CIPHER_KEY_BYTES 32
#define WH_CIPHER_NONCE_BYTES 12
#define WH_CIPHER_TAG_BYTES 16

typedef struct WhCipher
{
	const unsigned char *key;	/* WH_CIPHER_KEY_BYTES */
	const unsigned char *nonce; /* WH_CIPHER_NONCE_BYTES, never twice with one key */
	const void *associated;		/* is authenticated with the text, and not part of it */
	size_t		associated_len;
} WhCipher;

/* out gets len bytes. False when OpenSSL fails. */
extern bool wh_cipher_encrypt(const WhCipher *cipher, const void *in, size_t len,
							  unsigned char *out, unsigned char tag[WH_CIPHER_TAG_BYTES]);

/*
 * out gets len bytes, and may be in. False, and out wiped, unless key, nonce, associated data, text
 * and tag are the very ones.
 */
extern bool wh_cipher_decrypt(const WhCipher *cipher, const unsigned char *in, size_t len,
							  const unsigned char tag[WH_CIPHER_TAG_BYTES], unsigned char *out);

/*
 * The same for text, to be stored as text: base64 of a version byte, the nonce, what was encrypted,
 * and the tag.
 */

#define WH_SEALED_OVERHEAD (1 + WH_CIPHER_NONCE_BYTES + WH_CIPHER_TAG_BYTES)

/*
 * Room for sealing a text of len bytes, of which the sealed text takes somewhat more than half; and
 * for opening one of len bytes.
 */
#define WH_SEALED_SIZE(len) (((len) + WH_SEALED_OVERHEAD + 2) / 3 * 7 + 1)
#define WH_OPENED_SIZE(len) ((len) / 4 * 3 + 1)

/* owner stands in no sealed text, and must be given again to open it. False when OpenSSL fails. */
extern bool wh_cipher_seal(const unsigned char *key, const unsigned char *nonce, const char *owner,
						   const char *text, char *out);

/* False, and out wiped, when sealed does not open. */
extern bool wh_cipher_open(const unsigned char *key, const char *owner, const char *sealed,
						   char *out);

#endif
