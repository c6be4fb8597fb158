/*
 * Cleans what a stranger sent, so that it can be stored as text.
 *
 * Each broken byte is replaced on its own and nothing after it is skipped: a lead byte that lies
 * about its sequence must not swallow the valid text behind it.
 */
#include "core/text.h"

#include <string.h>

#define REPLACEMENT "\xEF\xBF\xBD"	/* U+FFFD */

/* The sequences of RFC 3629, 4, longer than a byte; bytes after the second are 80 to BF. */
static const struct
{
	unsigned char first_min;
	unsigned char first_max;
	unsigned char second_min;
	unsigned char second_max;
	size_t		len;
}			sequences[] = {
	{0xC2, 0xDF, 0x80, 0xBF, 2},
	{0xE0, 0xE0, 0xA0, 0xBF, 3},	/* below A0: overlong */
	{0xE1, 0xEC, 0x80, 0xBF, 3},
	{0xED, 0xED, 0x80, 0x9F, 3},	/* above 9F: surrogates */
	{0xEE, 0xEF, 0x80, 0xBF, 3},
	{0xF0, 0xF0, 0x90, 0xBF, 4},	/* below 90: overlong */
	{0xF1, 0xF3, 0x80, 0xBF, 4},
	{0xF4, 0xF4, 0x80, 0x8F, 4},	/* above 8F: beyond U+10FFFF */
};

#define SEQUENCE_COUNT (sizeof(sequences) / sizeof(sequences[0]))

/* How many bytes of in begin a sequence of *sequence_len bytes; 0 when none begins here. */
static size_t
match(const unsigned char *in, size_t len, size_t *sequence_len)
{
	size_t		i = 0;
	size_t		matched = 1;

	while (i < SEQUENCE_COUNT && (in[0] < sequences[i].first_min || in[0] > sequences[i].first_max))
		i++;
	if (i == SEQUENCE_COUNT)
		return 0;

	*sequence_len = sequences[i].len;
	while (matched < sequences[i].len && matched < len)
	{
		unsigned char min = matched == 1 ? sequences[i].second_min : 0x80;
		unsigned char max = matched == 1 ? sequences[i].second_max : 0xBF;

		if (in[matched] < min || in[matched] > max)
			break;
		matched++;
	}
	return matched;
}

/* How many bytes from in on are ASCII and no NUL: nearly all of most answers. */
static size_t
count_plain(const unsigned char *in, size_t len)
{
	size_t		count = 0;

	while (count < len && in[count] >= 0x01 && in[count] <= 0x7F)
		count++;
	return count;
}

size_t
wh_text_clean(char *out, const char *in, size_t len, bool truncated)
{
	size_t		read = 0;
	size_t		written = 0;

	for (;;)
	{
		size_t		plain = count_plain((const unsigned char *) in + read, len - read);
		size_t		sequence_len = 0;
		size_t		matched;

		if (plain > 0)
			memcpy(out + written, in + read, plain);
		read += plain;
		written += plain;
		if (read == len)
			break;

		matched = match((const unsigned char *) in + read, len - read, &sequence_len);
		if (matched > 0 && matched == sequence_len)
		{
			memcpy(out + written, in + read, matched);
			read += matched;
			written += matched;
		}
		else if (truncated && read + matched == len)
			break;
		else
		{
			memcpy(out + written, REPLACEMENT, strlen(REPLACEMENT));
			read++;
			written += strlen(REPLACEMENT);
		}
	}
	out[written] = '\0';
	return written;
}

size_t
wh_text_clean_ascii(char *out, const char *in, size_t len)
{
	for (size_t i = 0; i < len; i++)
	{
		unsigned char byte = (unsigned char) in[i];

		out[i] = byte >= 0x01 && byte <= 0x7F ? in[i] : '?';
	}
	out[len] = '\0';
	return len;
}

void
wh_text_mask(char *text, size_t len, const char *secret)
{
	size_t		secret_len = strlen(secret);

	if (secret_len < WH_MASKED_MIN)
		return;
	for (size_t i = 0; i + WH_MASKED_MIN <= len;)
	{
		const char *found = memchr(text + i, secret[0], len - WH_MASKED_MIN + 1 - i);
		size_t		shown;

		if (found == NULL)
			break;
		i = (size_t) (found - text);
		shown = secret_len < len - i ? secret_len : len - i;
		if (memcmp(text + i, secret, shown) == 0)
		{
			memset(text + i, '*', shown);
			i += shown;
		}
		else
			i++;
	}
}
