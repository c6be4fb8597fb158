/*
 * A sealed text has one spelling: base64 that decodes to the same bytes, but is spelled otherwise,
 * does not open. So whoever changes a sealed text in any way has a text that does not open.
 */
#include "core/cipher.h"

#include <limits.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#define VERSION 1

/* A text longer than OpenSSL's ints would be cut. */
#define LEN_MAX (INT_MAX / 2)

static bool
begin(EVP_CIPHER_CTX *context, const WhCipher *c, int encrypt)
{
	int			len;

	return context != NULL && c->associated_len <= LEN_MAX &&
		EVP_CipherInit_ex(context, EVP_aes_256_gcm(), NULL, c->key, c->nonce, encrypt) == 1 &&
		(c->associated_len == 0 ||
		 EVP_CipherUpdate(context, NULL, &len, c->associated, (int) c->associated_len) == 1);
}

bool
wh_cipher_encrypt(const WhCipher *c, const void *in, size_t len, unsigned char *out,
				  unsigned char tag[WH_CIPHER_TAG_BYTES])
{
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	unsigned char none[EVP_MAX_BLOCK_LENGTH];
	int			written;
	bool		done = len <= LEN_MAX && begin(context, c, 1) &&
		(len == 0 || EVP_CipherUpdate(context, out, &written, in, (int) len) == 1) &&
		EVP_CipherFinal_ex(context, none, &written) == 1 &&
		EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, WH_CIPHER_TAG_BYTES, tag) == 1;

	EVP_CIPHER_CTX_free(context);
	return done;
}

bool
wh_cipher_decrypt(const WhCipher *c, const unsigned char *in, size_t len,
				  const unsigned char tag[WH_CIPHER_TAG_BYTES], unsigned char *out)
{
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	unsigned char expected[WH_CIPHER_TAG_BYTES];
	unsigned char none[EVP_MAX_BLOCK_LENGTH];
	int			written;
	bool		done;

	memcpy(expected, tag, sizeof(expected));
	done = len <= LEN_MAX && begin(context, c, 0) &&
		(len == 0 || EVP_CipherUpdate(context, out, &written, in, (int) len) == 1) &&
		EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, WH_CIPHER_TAG_BYTES, expected) == 1 &&
		EVP_CipherFinal_ex(context, none, &written) == 1;

	/* what was decrypted before the tag failed is not to be had */
	if (!done)
		OPENSSL_cleanse(out, len);
	EVP_CIPHER_CTX_free(context);
	return done;
}

bool
wh_cipher_seal(const unsigned char *key, const unsigned char *nonce, const char *owner,
			   const char *text, char *out)
{
	const WhCipher cipher = {
		.key = key, .nonce = nonce, .associated = owner, .associated_len = strlen(owner)
	};
	size_t		len = strlen(text);
	size_t		sealed_len = len + WH_SEALED_OVERHEAD;

	/* behind its base64, which is made of it */
	unsigned char *sealed = (unsigned char *) out + (sealed_len + 2) / 3 * 4 + 1;
	unsigned char *encrypted = sealed + 1 + WH_CIPHER_NONCE_BYTES;

	if (sealed_len > LEN_MAX)
		return false;
	sealed[0] = VERSION;
	memcpy(sealed + 1, nonce, WH_CIPHER_NONCE_BYTES);
	if (!wh_cipher_encrypt(&cipher, text, len, encrypted, encrypted + len))
		return false;
	EVP_EncodeBlock((unsigned char *) out, sealed, (int) sealed_len);
	return true;
}

/*
 * Decodes base64 into out. Returns the number of bytes, 0 unless text is their one spelling.
 */
static size_t
decode(const char *text, size_t len, unsigned char *out)
{
	size_t		bytes = len / 4 * 3;
	unsigned char again[5];

	if (len == 0 || len % 4 != 0 || len > LEN_MAX ||
		EVP_DecodeBlock(out, (const unsigned char *) text, (int) len) != (int) bytes)
		return 0;

	/* the decoder forgives white space, and stray bits in the last group */
	for (size_t i = 0; i < len; i += 4)
	{
		size_t		in_group = 3;

		if (i + 4 == len)
			in_group -= (text[len - 1] == '=') + (text[len - 2] == '=');
		EVP_EncodeBlock(again, out + i / 4 * 3, (int) in_group);
		if (memcmp(again, text + i, 4) != 0)
			return 0;
		bytes -= 3 - in_group;
	}
	return bytes;
}

bool
wh_cipher_open(const unsigned char *key, const char *owner, const char *sealed, char *out)
{
	size_t		room = WH_OPENED_SIZE(strlen(sealed));
	unsigned char *bytes = (unsigned char *) out;
	size_t		sealed_len = decode(sealed, strlen(sealed), bytes);
	unsigned char *encrypted = bytes + 1 + WH_CIPHER_NONCE_BYTES;
	const WhCipher cipher = {
		.key = key, .nonce = bytes + 1, .associated = owner, .associated_len = strlen(owner)
	};
	size_t		len = sealed_len - WH_SEALED_OVERHEAD;	/* once it is known to be as long */

	if (sealed_len < WH_SEALED_OVERHEAD || bytes[0] != VERSION ||
		!wh_cipher_decrypt(&cipher, encrypted, len, encrypted + len, encrypted))
	{
		OPENSSL_cleanse(out, room);
		return false;
	}
	memmove(out, encrypted, len);
	OPENSSL_cleanse(out + len, room - len);
	return true;
}
