/*
 * Text from strangers: whatever comes in, valid UTF-8 (or ASCII) comes out.
 *
 * Each input is copied to the end of a block of its own length, so that the sanitizer sees a read
 * of one byte too many.
 */
#include "core/text.h"

#include <stdint.h>
#include <stdlib.h>

#include "tap.h"

#define R "\xEF\xBF\xBD"		/* what takes a broken byte's place */

/* Cleans a copy of in and returns the result, to be freed. */
static char *
clean(const char *in, size_t len, bool truncated)
{
	char	   *copy = malloc(len > 0 ? len : 1);
	char	   *out = malloc(WH_TEXT_CLEAN_BOUND(len));
	size_t		written;

	memcpy(copy, in, len);
	written = wh_text_clean(out, copy, len, truncated);
	if (written != strlen(out))
		printf("# returned %zu for %zu bytes\n", written, strlen(out));
	free(copy);
	return out;
}

#define BYTES(text) text, sizeof(text) - 1

typedef struct CleanCase
{
	const char *name;
	const char *in;
	size_t		len;
	const char *whole;			/* the result for a whole text */
	const char *truncated;		/* the result for a truncated one */
	const char *ascii;
} CleanCase;

static const CleanCase clean_cases[] = {
	{"nothing stays nothing", BYTES(""), "", "", ""},
	{"ASCII stays", BYTES("a\tb\r\n\x7F"), "a\tb\r\n\x7F", "a\tb\r\n\x7F", "a\tb\r\n\x7F"},
	{"sequences of two to four bytes stay",
		BYTES("\xC3\xA9\xE2\x82\xAC\xF0\x9F\x90\x98"), "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x90\x98",
	"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x90\x98", "?????????"},
	{"a NUL is replaced", BYTES("a\0b\0"), "a" R "b" R, "a" R "b" R, "a?b?"},
	{"every byte may be broken", BYTES("\xFF\xFF\xFF"), R R R, R R R, "???"},
	{"a continuation without a lead is replaced", BYTES("a\x80z"), "a" R "z", "a" R "z", "a?z"},
	{"a lead that lies does not swallow what follows",
	BYTES("\xE2\x82z"), R R "z", R R "z", "??z"},
	{"a lead before a valid sequence does not break it",
	BYTES("\xE2\xC3\xA9"), R "\xC3\xA9", R "\xC3\xA9", "???"},
	{"overlong forms of two bytes are broken",
	BYTES("\xC0\xAF\xC1\xBF"), R R R R, R R R R, "????"},
	{"overlong forms of three bytes are broken",
	BYTES("\xE0\x9F\xBF"), R R R, R R R, "???"},
	{"overlong forms of four bytes are broken",
	BYTES("\xF0\x8F\xBF\xBF"), R R R R, R R R R, "????"},
	{"the first surrogate is broken", BYTES("\xED\xA0\x80"), R R R, R R R, "???"},
	{"the last surrogate is broken", BYTES("\xED\xBF\xBF"), R R R, R R R, "???"},
	{"what is above U+10FFFF is broken",
	BYTES("\xF4\x90\x80\x80"), R R R R, R R R R, "????"},
	{"leads above F4 are broken", BYTES("\xF5\x80\x80\x80"), R R R R, R R R R, "????"},
	{"sequences of five bytes are broken",
	BYTES("\xF8\x88\x80\x80\x80"), R R R R R, R R R R R, "?????"},
	{"one byte of two is dropped where the text was cut",
	BYTES("a\xC3"), "a" R, "a", "a?"},
	{"two bytes of three are dropped where the text was cut",
	BYTES("a\xE2\x82"), "a" R R, "a", "a??"},
	{"three bytes of four are dropped where the text was cut",
	BYTES("a\xF0\x9F\x90"), "a" R R R, "a", "a???"},
	{"a cut text may be nothing but a cut sequence",
	BYTES("\xF0"), R, "", "?"},
	{"a sequence whole at the cut stays",
	BYTES("\xE2\x82\xAC"), "\xE2\x82\xAC", "\xE2\x82\xAC", "???"},
	{"what could never be completed is broken, not cut",
	BYTES("a\xF4\x90"), "a" R R, "a" R R, "a??"},
	{"a broken byte at the cut is broken", BYTES("a\xFF"), "a" R, "a" R, "a?"},
	{"a NUL at the cut is broken", BYTES("a\0"), "a" R, "a" R, "a?"},
	{"a sequence cut before the end is broken",
	BYTES("\xE2\x82\xE2\x82"), R R R R, R R, "????"},
};

static void
test_cases(void)
{
	for (size_t i = 0; i < COUNT(clean_cases); i++)
	{
		const CleanCase *c = &clean_cases[i];
		char	   *whole = clean(c->in, c->len, false);
		char	   *truncated = clean(c->in, c->len, true);
		char		ascii[32];
		size_t		ascii_len = wh_text_clean_ascii(ascii, c->in, c->len);

		ok(strcmp(whole, c->whole) == 0
		   && strcmp(truncated, c->truncated) == 0
		   && strcmp(ascii, c->ascii) == 0 && ascii_len == c->len, c->name);
		free(whole);
		free(truncated);
	}
}

static size_t
encode(uint32_t code_point, char out[4])
{
	static const unsigned char leads[] = {0, 0, 0xC0, 0xE0, 0xF0};
	size_t		len = code_point < 0x80 ? 1 : code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;

	for (size_t i = len - 1; i > 0; i--, code_point >>= 6)
		out[i] = (char) (0x80 | (code_point & 0x3F));
	out[0] = (char) (leads[len] | code_point);
	return len;
}

static void
test_code_points(void)
{
	bool		valid_stay = true;
	bool		others_go = true;

	for (uint32_t code_point = 1; code_point <= 0x1FFFFF; code_point++)
	{
		bool		valid = code_point <= 0x10FFFF && (code_point < 0xD800 || code_point > 0xDFFF);
		char		in[4];
		char		out[WH_TEXT_CLEAN_BOUND(4)];
		size_t		len = encode(code_point, in);
		size_t		written = wh_text_clean(out, in, len, false);

		if (valid)
			valid_stay = valid_stay && written == len && memcmp(in, out, len) == 0;
		else
			others_go = others_go && written == len * strlen(R);
	}
	ok(valid_stay, "every code point stays");
	ok(others_go, "every number that is no code point goes");
}

/* text is to be as it is expected, and what stands behind it to stay. */
static void
test_masked(const char *text, const char *secret, const char *expected, const char *name)
{
	char		buffer[100];

	snprintf(buffer, sizeof(buffer), "%s$secret-1", text);
	wh_text_mask(buffer, strlen(text), secret);
	ok(memcmp(buffer, expected, strlen(text)) == 0 &&
	   strcmp(buffer + strlen(text), "$secret-1") == 0, name);
}

static void
test_masking(void)
{
	test_masked("a secret-1 b secret-1", "secret-1", "a ******** b ********", "a secret is masked");
	test_masked("secret-1secret-1", "secret-1", "****************", "twice in succession");
	test_masked("ssecret-1", "secret-1", "s********", "after its own beginning");
	test_masked("a secret-12", "secret-123456", "a *********", "a beginning at the end is masked");
	test_masked("a secret-", "secret-123456", "a secret-", "unless it is short");
	test_masked("a secret-12 b", "secret-123456", "a secret-12 b", "or not at the end");
	test_masked("a secret", "secret", "a secret", "a short secret is not looked for");
	test_masked("", "secret-1", "", "nothing has nothing to mask");
}

int
main(void)
{
	test_masking();
	test_cases();
	test_code_points();
	return done();
}
