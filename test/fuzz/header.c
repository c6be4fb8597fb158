/*
 * Header names and values. The input is "name: value", as libcurl is given it.
 */
#include "core/header.h"

#include <ctype.h>

#include "fuzz.h"

static const char prefix[] = "webhook-";

static void
fold(char *text, size_t len, int (*to_case) (int))
{
	for (size_t i = 0; i < len; i++)
		text[i] = (char) to_case((unsigned char) text[i]);
}

static void
check_name(const char *name, size_t len)
{
	WhHeaderError error = wh_header_check_name(name, len, prefix);
	char		copy[INPUT_MAX + 1];

	/* case never counts, nor does what a name is written with where a receiver reads them alike */
	memcpy(copy, name, len);
	fold(copy, len, toupper);
	HOLDS(wh_header_check_name(copy, len, prefix) == error);
	HOLDS(wh_header_same_name(name, len, copy, len));
	fold(copy, len, tolower);
	HOLDS(wh_header_check_name(copy, len, prefix) == error);
	for (size_t i = 0; i < len; i++)
		if (copy[i] == '_')
			copy[i] = '-';
	HOLDS(wh_header_check_name(copy, len, prefix) == error);

	if (error != WH_HEADER_OK)
		return;
	HOLDS(len > 0 && len <= WH_HEADER_NAME_MAX);
	for (size_t i = 0; i < len; i++)
		HOLDS(name[i] > ' ' && name[i] < 0x7f && strchr(":;,()<>@\\\"/[]?={}", name[i]) == NULL);
	copy[len] = '\0';
	HOLDS(strcmp(copy, "host") != 0 && strcmp(copy, "content-length") != 0);
	HOLDS(strcmp(copy, "transfer-encoding") != 0 && strcmp(copy, "connection") != 0);
	HOLDS(strncmp(copy, prefix, strlen(prefix)) != 0 && strncmp(copy, "proxy-", 6) != 0);

	/* the prefix of the settings is reserved whatever it is, and all that begins with it */
	HOLDS(wh_header_check_name(name, len, copy) == WH_HEADER_RESERVED);
}

static void
check_value(const char *value, size_t len)
{
	bool		good = wh_header_check_value(value, len) == WH_HEADER_OK;

	if (!good)
		return;
	HOLDS(len <= WH_HEADER_VALUE_MAX);
	HOLDS(memchr(value, '\r', len) == NULL && memchr(value, '\n', len) == NULL);
	HOLDS(memchr(value, '\0', len) == NULL);

	/* whatever is good, its parts are */
	HOLDS(wh_header_check_value(value, len / 2) == WH_HEADER_OK);
	HOLDS(wh_header_check_value(value + len / 2, len - len / 2) == WH_HEADER_OK);
}

static void
target(const char *text, size_t len)
{
	const char *colon = memchr(text, ':', len);
	size_t		name_len = colon ? (size_t) (colon - text) : len;

	check_name(text, name_len);
	check_value(text, len);
	if (colon)
		check_value(colon + 1, len - name_len - 1);
}
