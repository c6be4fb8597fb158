/*
 * The keys that secrets are encrypted with, as a file or a command gives them: a line a key, "<key
 * id>:<base64 of 32 bytes>". The first is the current one, the others only open what was sealed
 * before. Empty lines, and lines that begin with '#', do not count.
 */
#ifndef WH_CORE_KEYRING_H
#define WH_CORE_KEYRING_H

#include <stdbool.h>
#include <stddef.h>

#include "core/cipher.h"

#define WH_KEYS_MAX 64
#define WH_KEY_ID_MAX 64

typedef struct WhKey
{
	char		id[WH_KEY_ID_MAX + 1];
	unsigned char bytes[WH_CIPHER_KEY_BYTES];
} WhKey;

typedef struct WhKeyring
{
	int			count;
	WhKey		keys[WH_KEYS_MAX];	/* the current one first */
} WhKeyring;

typedef enum WhKeyringError
{
	WH_KEYRING_OK,
	WH_KEYRING_EMPTY,
	WH_KEYRING_NO_COLON,
	WH_KEYRING_BAD_ID,			/* 1 to 64 letters, digits, '.', '_' and '-' are wanted */
	WH_KEYRING_BAD_KEY,
	WH_KEYRING_SAME_ID,			/* as another line's */
	WH_KEYRING_TOO_MANY
} WhKeyringError;

/*
 * Reads len bytes of text. On an error *line is its number, from 1, and the ring is wiped.
 */
extern WhKeyringError wh_keyring_parse(const char *text, size_t len, WhKeyring *ring, int *line);

/* NULL when there is none of that id. */
extern const WhKey *wh_keyring_find(const WhKeyring *ring, const char *id);

#endif
