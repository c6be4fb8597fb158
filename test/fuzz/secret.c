/*
 * Secrets: what is decoded is encoded and decoded to the same bytes, and nothing else spells them.
 */
#include "core/signature.h"

#include "fuzz.h"

static void
target(const char *text, size_t len)
{
	WhSecretKey key;
	WhSecretKey again;
	char		encoded[WH_SECRET_TEXT_SIZE];
	char		longer[INPUT_MAX + 2];
	WhSecretError error;

	if (strlen(text) != len)
		return;
	error = wh_secret_decode(text, &key);
	if (error == WH_SECRET_NO_PREFIX)
	{
		/* the more interesting part of an input that the prefix is missing from */
		static char with_prefix[INPUT_MAX + 8];

		snprintf(with_prefix, sizeof(with_prefix), WH_SECRET_PREFIX "%s", text);
		error = wh_secret_decode(with_prefix, &key);
		text = with_prefix;
		len = strlen(text);
		if (len > INPUT_MAX)
			return;
	}
	HOLDS(error != WH_SECRET_NO_PREFIX);
	if (error != WH_SECRET_OK)
		return;

	HOLDS(key.len >= WH_SECRET_MIN_BYTES && key.len <= WH_SECRET_MAX_BYTES);
	memset(encoded, 'x', sizeof(encoded));
	wh_secret_encode(&key, encoded);
	HOLDS(memchr(encoded, '\0', sizeof(encoded)) != NULL);

	/* the same text, but for the padding that may be left out */
	HOLDS(strncmp(encoded, text, len) == 0);
	HOLDS(strspn(encoded + len, "=") == strlen(encoded + len));
	HOLDS(wh_secret_decode(encoded, &again) == WH_SECRET_OK);
	HOLDS(again.len == key.len && memcmp(again.bytes, key.bytes, key.len) == 0);

	/* nothing may follow */
	memcpy(longer, text, len);
	strcpy(longer + len, "\n");
	HOLDS(wh_secret_decode(longer, &again) != WH_SECRET_OK);
}
