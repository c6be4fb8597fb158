/*
 * OpenSSL's block functions do the work on whole blocks; what is around them makes sure that a text
 * is canonical and that nothing is written beyond what the caller has room for.
 */
#include "core/encoding.h"

#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

/* Of the alphabet of RFC 4648, 4. */
static bool
is_base64(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
		c == '+' || c == '/';
}

/* How many of the characters are before the padding. */
static size_t
count_characters(const char *text, size_t len)
{
	size_t		chars = 0;

	while (chars < len && is_base64(text[chars]))
		chars++;
	return chars;
}

bool
wh_base64_measure(const char *text, size_t len, size_t *bytes)
{
	static const char *const padding[] = {"", NULL, "==", "="};
	size_t		chars = count_characters(text, len);
	const char *wanted = padding[chars % 4];

	*bytes = chars * 3 / 4;
	if (wanted == NULL)
		return false;
	return len == chars ||
		(len - chars == strlen(wanted) && memcmp(text + chars, wanted, len - chars) == 0);
}

/* Of the 2 or 3 characters that are left of the last block. */
static bool
decode_rest(const char *text, size_t chars, unsigned char *out)
{
	size_t		byte_len = chars * 3 / 4;
	unsigned char block[4] = {'=', '=', '=', '='};
	unsigned char bytes[3];
	unsigned char again[5];
	bool		canonical;

	memcpy(block, text, chars);
	EVP_DecodeBlock(bytes, block, sizeof(block));
	memcpy(out, bytes, byte_len);
	EVP_EncodeBlock(again, bytes, (int) byte_len);
	canonical = memcmp(again, block, chars) == 0;
	OPENSSL_cleanse(bytes, sizeof(bytes));
	OPENSSL_cleanse(block, sizeof(block));
	OPENSSL_cleanse(again, sizeof(again));
	return canonical;
}

bool
wh_base64_decode(const char *text, size_t len, unsigned char *out)
{
	size_t		whole;

	while (len > 0 && text[len - 1] == '=')
		len--;
	whole = len / 4 * 4;
	EVP_DecodeBlock(out, (const unsigned char *) text, (int) whole);
	return whole == len || decode_rest(text + whole, len - whole, out + whole / 4 * 3);
}

char *
wh_base64_encode(char *out, const unsigned char *bytes, size_t len)
{
	return out + EVP_EncodeBlock((unsigned char *) out, bytes, (int) len);
}

char *
wh_hex_encode(char *out, const unsigned char *bytes, size_t len)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++)
	{
		*out++ = digits[bytes[i] >> 4];
		*out++ = digits[bytes[i] & 15];
	}
	*out = '\0';
	return out;
}

static int
digit_value(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	if (digit >= 'A' && digit <= 'F')
		return digit - 'A' + 10;
	return -1;
}

bool
wh_hex_decode(const char *text, unsigned char *out, size_t len)
{
	for (size_t i = 0; i < len; i++)
	{
		int			high = digit_value(text[2 * i]);
		int			low = high < 0 ? -1 : digit_value(text[2 * i + 1]);

		if (low < 0)
			return false;
		out[i] = (unsigned char) (high << 4 | low);
	}
	return true;
}
