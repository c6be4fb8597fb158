/*
 * As much of structured fields as signatures use.
 */
#include "core/structured_field.h"

#include <string.h>

#include "core/encoding.h"

#define KEY_ALPHABET "abcdefghijklmnopqrstuvwxyz0123456789_-.*"
#define BARE_ITEM_ALPHABET \
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~:/?=@"

bool
wh_field_string(const char **text, WhBytes *content)
{
	if (**text != '"')
		return false;
	*content = (WhBytes) {*text + 1, strcspn(*text + 1, "\"\\")};
	*text += 1 + content->len;
	if (**text != '"')
		return false;
	(*text)++;
	return true;
}

bool
wh_field_key(const char **text, WhBytes *key)
{
	*key = (WhBytes) {*text, strspn(*text, KEY_ALPHABET)};
	*text += key->len;
	return key->len > 0;
}

bool
wh_field_parameter(const char **text, WhBytes *name, WhBytes *value)
{
	*text += 1;
	*text += strspn(*text, " ");
	if (!wh_field_key(text, name))
		return false;
	*value = (WhBytes) {*text, 0};
	if (**text != '=')
		return true;
	(*text)++;
	if (**text == '"')
		return wh_field_string(text, value);

	/* an integer, a token, a boolean or a byte sequence */
	*value = (WhBytes) {*text, strspn(*text, BARE_ITEM_ALPHABET)};
	*text += value->len;
	return value->len > 0;
}

bool
wh_field_next(const char **text)
{
	*text += strspn(*text, " \t");
	if (**text != ',')
		return false;
	(*text)++;
	*text += strspn(*text, " \t");
	return **text != '\0';
}

bool
wh_field_find_bytes(const char *text, WhBytes label, unsigned char *out, size_t len)
{
	text += strspn(text, " \t");
	do
	{
		WhBytes		key;
		size_t		value_len;
		size_t		byte_len;

		if (!wh_field_key(&text, &key))
			return false;
		if (key.len == label.len && memcmp(key.data, label.data, key.len) == 0 &&
			strncmp(text, "=:", 2) == 0)
		{
			text += 2;
			value_len = strcspn(text, ":");
			return text[value_len] == ':' && wh_base64_measure(text, value_len, &byte_len) &&
				byte_len == len && wh_base64_decode(text, value_len, out);
		}
		text += strcspn(text, ",");
	} while (wh_field_next(&text));
	return false;
}
