/*
 * What a key file may hold, and what is told of one that holds something else.
 */
#include "core/keyring.h"

#include <stdlib.h>

#include "tap.h"

#define KEY_1 "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="	/* 00 01 … 1f */
#define KEY_2 "//////////////////////////////////////////8="
#define ID_64 "0123456789.123456789_123456789-123456789012345678901234567890123"

typedef struct Case
{
	const char *name;
	const char *text;
	WhKeyringError error;
	int			line;			/* with an error */
} Case;

static const Case cases[] = {
	{"one key", "a:" KEY_1 "\n", WH_KEYRING_OK, 0},
	{"without a newline at the end", "a:" KEY_1, WH_KEYRING_OK, 0},
	{"among comments and empty lines", "# keys\n\n  \t\n\ta:" KEY_1 "  \r\n #b:\n",
	WH_KEYRING_OK, 0},
	{"an id of 64 characters", ID_64 ":" KEY_1, WH_KEYRING_OK, 0},
	{"nothing", "", WH_KEYRING_EMPTY, 0},
	{"comments alone", "# a:" KEY_1 "\n\n", WH_KEYRING_EMPTY, 2},
	{"no colon", "# one\n" KEY_1 "\n", WH_KEYRING_NO_COLON, 2},
	{"no id", ":" KEY_1, WH_KEYRING_BAD_ID, 1},
	{"an id of 65 characters", ID_64 "x:" KEY_1, WH_KEYRING_BAD_ID, 1},
	{"an id with a blank", "a b:" KEY_1, WH_KEYRING_BAD_ID, 1},
	{"an id beyond ASCII", "\xC3\xA9:" KEY_1, WH_KEYRING_BAD_ID, 1},
	{"the same id twice", "a:" KEY_1 "\na:" KEY_2, WH_KEYRING_SAME_ID, 2},
	{"no key", "a:", WH_KEYRING_BAD_KEY, 1},
	{"a short key", "a:AAECAwQFBgcICQoLDA0ODw==", WH_KEYRING_BAD_KEY, 1},
	{"a key of 31 bytes", "a:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg==", WH_KEYRING_BAD_KEY, 1},
	{"a key of 33 bytes", "a:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g", WH_KEYRING_BAD_KEY, 1},
	{"a key of 64 bytes", "a:" KEY_1 KEY_1, WH_KEYRING_BAD_KEY, 1},
	{"no padding", "a:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", WH_KEYRING_BAD_KEY, 1},
	{"another spelling", "a:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=", WH_KEYRING_BAD_KEY, 1},
	{"the alphabet of URLs", "a:__________________________________________8=",
	WH_KEYRING_BAD_KEY, 1},
	{"hexadecimal", "a:000102030405060708090a0b0c0d0e0f101112131415", WH_KEYRING_BAD_KEY, 1},
	{"a blank after the colon", "a: " KEY_1, WH_KEYRING_BAD_KEY, 1},
	{"two keys in a line", "a:" KEY_1 " b:" KEY_2, WH_KEYRING_BAD_KEY, 1},
	{"a bad key after a good one", "a:" KEY_1 "\nb:x\n", WH_KEYRING_BAD_KEY, 2},
};

/* A copy on the heap, without a NUL, so that the sanitizer sees a read past its end. */
static WhKeyringError
parse(const char *text, size_t len, WhKeyring *ring, int *line)
{
	char	   *copy = malloc(len > 0 ? len : 1);
	WhKeyringError error;

	memcpy(copy, text, len);
	error = wh_keyring_parse(copy, len, ring, line);
	free(copy);
	return error;
}

static void
test_cases(void)
{
	static const WhKeyring wiped;
	WhKeyring	ring;
	int			line;

	for (size_t i = 0; i < COUNT(cases); i++)
	{
		const Case *c = &cases[i];
		WhKeyringError error = parse(c->text, strlen(c->text), &ring, &line);

		is_number(error, c->error, c->name);
		if (c->error == WH_KEYRING_OK)
			is_number(ring.count, 1, "is one key");
		else
			ok(line == c->line && memcmp(&ring, &wiped, sizeof(ring)) == 0,
			   "is told by its line, and leaves nothing");
	}
	is_number(parse("a\0b:" KEY_1, strlen(KEY_1) + 4, &ring, &line), WH_KEYRING_BAD_ID,
			  "a NUL is in no id");
}

static void
test_ring(void)
{
	static const char text[] = "new:" KEY_2 "\nold:" KEY_1 "\n";
	char		many[WH_KEYS_MAX + 1][64];
	char		lines[(WH_KEYS_MAX + 1) * 64] = "";
	WhKeyring	ring;
	unsigned char expected[WH_CIPHER_KEY_BYTES];
	int			line;

	for (int i = 0; i < WH_CIPHER_KEY_BYTES; i++)
		expected[i] = (unsigned char) i;
	is_number(parse(text, strlen(text), &ring, &line), WH_KEYRING_OK, "two keys");
	is_text(ring.keys[0].id, "new", "the first is the current one");
	ok(wh_keyring_find(&ring, "new") == &ring.keys[0], "it is found by its id");
	ok(wh_keyring_find(&ring, "old") == &ring.keys[1], "and so is the other");
	ok(memcmp(ring.keys[1].bytes, expected, sizeof(expected)) == 0, "with its bytes");
	ok(wh_keyring_find(&ring, "ol") == NULL && wh_keyring_find(&ring, "olds") == NULL &&
	   wh_keyring_find(&ring, "") == NULL, "by nothing else");

	for (int i = 0; i <= WH_KEYS_MAX; i++)
	{
		snprintf(many[i], sizeof(many[i]), "k%d:" KEY_1 "\n", i);
		strcat(lines, many[i]);
	}
	is_number(parse(lines, strlen(lines) - strlen(many[WH_KEYS_MAX]), &ring, &line),
			  WH_KEYRING_OK, "64 keys are allowed");
	is_number(parse(lines, strlen(lines), &ring, &line), WH_KEYRING_TOO_MANY, "65 are not");
	is_number(line, WH_KEYS_MAX + 1, "and the line says where");
}

int
main(void)
{
	test_cases();
	test_ring();
	return done();
}
