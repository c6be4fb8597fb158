/*
 * The grammar of event types and of the patterns that subscribe to them.
 *
 * A pattern's star stands for whole segments and only at the end, so a match is one comparison of
 * bytes: no endpoint can subscribe with a pattern that is slow to match.
 */
#include "core/event_type.h"

#include <stddef.h>
#include <string.h>

#define SEGMENT_ALPHABET \
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"

#define OPERATIONAL_PREFIX "webhooks."

/* The length of the event type that text begins with, 0 when it begins with none. */
static size_t
measure(const char *text)
{
	size_t		segment = strspn(text, SEGMENT_ALPHABET);
	size_t		len = segment;

	while (segment > 0 && text[len] == '.')
	{
		segment = strspn(text + len + 1, SEGMENT_ALPHABET);
		if (segment > 0)
			len += 1 + segment;
	}
	return len <= WH_EVENT_TYPE_MAX ? len : 0;
}

bool
wh_event_type_valid(const char *event_type)
{
	size_t		len = measure(event_type);

	return len > 0 && event_type[len] == '\0';
}

bool
wh_event_type_is_operational(const char *event_type)
{
	return strncmp(event_type, OPERATIONAL_PREFIX, strlen(OPERATIONAL_PREFIX)) == 0;
}

bool
wh_event_pattern_valid(const char *pattern)
{
	size_t		len = measure(pattern);

	if (len == 0)
		return strcmp(pattern, "*") == 0;
	return pattern[len] == '\0' || strcmp(pattern + len, ".*") == 0;
}

bool
wh_event_pattern_match(const char *pattern, const char *event_type)
{
	size_t		len = strlen(pattern);

	if (strcmp(pattern, "*") == 0)
		return !wh_event_type_is_operational(event_type);

	/* The dot is compared, too: it is what keeps "order.*" from taking "orders.x". */
	if (len > 0 && pattern[len - 1] == '*')
		return strncmp(pattern, event_type, len - 1) == 0;
	return strcmp(pattern, event_type) == 0;
}
