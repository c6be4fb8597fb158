/*
 * Every function may be called on a writer that has failed: whoever writes asks once, at the end.
 */
#include "core/writer.h"

#include <string.h>

void
wh_put(WhWriter *out, const char *text, size_t len)
{
	if (out->failed || len > out->size - out->len)
	{
		out->failed = true;
		return;
	}
	memcpy(out->start + out->len, text, len);
	out->len += len;
}

void
wh_put_text(WhWriter *out, const char *text)
{
	wh_put(out, text, strlen(text));
}

void
wh_put_number(WhWriter *out, int64_t number)
{
	char		digits[20];
	char	   *start = digits + sizeof(digits);
	uint64_t	left = number < 0 ? 0 - (uint64_t) number : (uint64_t) number;

	do
		*--start = (char) ('0' + left % 10);
	while ((left /= 10) > 0);
	if (number < 0)
		wh_put_text(out, "-");
	wh_put(out, start, (size_t) (digits + sizeof(digits) - start));
}

void
wh_put_trimmed(WhWriter *out, const char *text)
{
	size_t		len;

	text += strspn(text, " \t");
	len = strlen(text);
	if (strcspn(text, "\r\n") < len)
		out->failed = true;		/* no header has one: it would make lines of its own */
	while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t'))
		len--;
	wh_put(out, text, len);
}

void
wh_put_lower(WhWriter *out, const char *text, size_t len)
{
	size_t		start = out->len;

	wh_put(out, text, len);
	for (size_t i = start; i < out->len; i++)
		if (out->start[i] >= 'A' && out->start[i] <= 'Z')
			out->start[i] = (char) (out->start[i] - 'A' + 'a');
}
