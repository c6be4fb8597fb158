/*
 * Strict, so that a typing error in a key is found when it is read, not when what was sealed with
 * it cannot be opened.
 */
#include "core/keyring.h"

#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#define ID_ALPHABET "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"

#define BASE64_LEN ((WH_CIPHER_KEY_BYTES + 2) / 3 * 4)

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static bool
take_id(const char *text, size_t len, WhKey *key)
{
	if (len == 0 || len > WH_KEY_ID_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		if (text[i] == '\0' || strchr(ID_ALPHABET, text[i]) == NULL)
			return false;
	memcpy(key->id, text, len);
	key->id[len] = '\0';
	return true;
}

/* In its one spelling: the decoder forgives white space and stray bits. */
static bool
take_bytes(const char *text, size_t len, WhKey *key)
{
	unsigned char bytes[BASE64_LEN / 4 * 3];
	unsigned char again[BASE64_LEN + 1];
	bool		good;

	if (len != BASE64_LEN)
		return false;
	good = EVP_DecodeBlock(bytes, (const unsigned char *) text, BASE64_LEN) == sizeof(bytes);
	if (good)
	{
		EVP_EncodeBlock(again, bytes, WH_CIPHER_KEY_BYTES);
		good = memcmp(again, text, BASE64_LEN) == 0;
		memcpy(key->bytes, bytes, WH_CIPHER_KEY_BYTES);
	}
	OPENSSL_cleanse(bytes, sizeof(bytes));
	OPENSSL_cleanse(again, sizeof(again));
	return good;
}

/* A line without blanks around it. */
static WhKeyringError
take_line(const char *text, size_t len, WhKeyring *ring)
{
	const char *colon = memchr(text, ':', len);
	size_t		id_len = colon ? (size_t) (colon - text) : 0;
	WhKey	   *key = &ring->keys[ring->count];

	if (colon == NULL)
		return WH_KEYRING_NO_COLON;
	if (ring->count == WH_KEYS_MAX)
		return WH_KEYRING_TOO_MANY;
	if (!take_id(text, id_len, key))
		return WH_KEYRING_BAD_ID;
	if (wh_keyring_find(ring, key->id) != NULL)
		return WH_KEYRING_SAME_ID;
	if (!take_bytes(colon + 1, len - id_len - 1, key))
		return WH_KEYRING_BAD_KEY;
	ring->count++;
	return WH_KEYRING_OK;
}

WhKeyringError
wh_keyring_parse(const char *text, size_t len, WhKeyring *ring, int *line)
{
	WhKeyringError error = WH_KEYRING_OK;
	const char *end = text + len;

	memset(ring, 0, sizeof(*ring));
	*line = 0;
	while (text < end && error == WH_KEYRING_OK)
	{
		const char *newline = memchr(text, '\n', (size_t) (end - text));
		const char *next = newline ? newline + 1 : end;
		const char *last = newline ? newline : end;

		(*line)++;
		while (text < last && is_blank(*text))
			text++;
		while (last > text && is_blank(last[-1]))
			last--;
		if (last > text && *text != '#')
			error = take_line(text, (size_t) (last - text), ring);
		text = next;
	}
	if (error == WH_KEYRING_OK && ring->count == 0)
		error = WH_KEYRING_EMPTY;
	if (error != WH_KEYRING_OK)
		OPENSSL_cleanse(ring, sizeof(*ring));
	return error;
}

const WhKey *
wh_keyring_find(const WhKeyring *ring, const char *id)
{
	for (int i = 0; i < ring->count; i++)
		if (strcmp(ring->keys[i].id, id) == 0)
			return &ring->keys[i];
	return NULL;
}
