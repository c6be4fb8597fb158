/*
 * What stands in a Content-Type header is written by applications into a request of ours: it must
 * not be able to end the header.
 */
#include "core/media_type.h"

#include <stddef.h>
#include <string.h>

#define TOKEN_ALPHABET \
	"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

static const char *
skip_blanks(const char *text)
{
	return text + strspn(text, " ");
}

/* NULL: there is none. */
static const char *
skip_token(const char *text)
{
	size_t		len = strspn(text, TOKEN_ALPHABET);

	return len > 0 ? text + len : NULL;
}

static bool
is_visible_or_blank(char c)
{
	return c >= ' ' && c <= '~';
}

/* RFC 9110, 5.6.4; ASCII only. NULL: it is none. */
static const char *
skip_quoted(const char *text)
{
	if (*text++ != '"')
		return NULL;
	while (*text != '"')
	{
		if (*text == '\\')
			text++;
		if (!is_visible_or_blank(*text))
			return NULL;
		text++;
	}
	return text + 1;
}

/* name=value, RFC 9110, 5.6.6. NULL: it is none. */
static const char *
skip_parameter(const char *text)
{
	text = skip_token(text);
	if (text == NULL || *text != '=')
		return NULL;
	text++;
	return *text == '"' ? skip_quoted(text) : skip_token(text);
}

bool
wh_media_type_valid(const char *media_type)
{
	const char *rest = skip_token(media_type);

	if (strlen(media_type) > WH_MEDIA_TYPE_MAX || rest == NULL || *rest != '/')
		return false;
	rest = skip_token(rest + 1);
	while (rest && *rest)
	{
		rest = skip_blanks(rest);
		if (*rest != ';')
			return false;
		rest = skip_blanks(rest + 1);
		if (*rest != '\0' && *rest != ';')
			rest = skip_parameter(rest);
	}
	return rest != NULL;
}

static bool
equals_lower(const char *text, size_t len, const char *lower)
{
	if (len != strlen(lower))
		return false;
	for (size_t i = 0; i < len; i++)
	{
		char		c = text[i];

		if (c >= 'A' && c <= 'Z')
			c = (char) (c - 'A' + 'a');
		if (c != lower[i])
			return false;
	}
	return true;
}

bool
wh_media_type_is_json(const char *media_type)
{
	size_t		len = strcspn(media_type, " ;");
	size_t		suffix = strlen("+json");

	return equals_lower(media_type, len, "application/json") ||
		equals_lower(media_type, len, "text/json") ||
		(len > suffix && equals_lower(media_type + len - suffix, suffix, "+json"));
}
