/*
 * Endpoints and events have headers by the same rules, so the rules are asked here for both.
 */
#include "postgres.h"

#include "core/header.h"
#include "settings.h"
#include "sql/header.h"
#include "sql/session.h"

static void
check_name(const char *argument, const char *name)
{
	switch (wh_header_check_name(name, strlen(name), wh_header_prefix))
	{
		case WH_HEADER_OK:
			return;
		case WH_HEADER_RESERVED:
			wh_refuse(argument, psprintf("must not contain \"%s\": the sender sets it, or nobody "
										 "may", name));
		case WH_HEADER_NAME_TOO_LONG:
			wh_refuse(argument, psprintf("contains a name of over %d bytes", WH_HEADER_NAME_MAX));
		case WH_HEADER_NOT_A_TOKEN:
		case WH_HEADER_VALUE_TOO_LONG:
		case WH_HEADER_CONTROL_CHARACTER:
			wh_refuse(argument, psprintf("contains \"%s\", which is no name of a header", name));
	}
}

static void
check_value(const char *argument, const char *name, const JsonbValue *value)
{
	if (value->type != jbvString)
		wh_refuse(argument, psprintf("must have a string as the value of \"%s\"", name));
	switch (wh_header_check_value(value->val.string.val, value->val.string.len))
	{
		case WH_HEADER_OK:
			return;
		case WH_HEADER_VALUE_TOO_LONG:
			wh_refuse(argument, psprintf("has a value over %d bytes in \"%s\"",
										 WH_HEADER_VALUE_MAX, name));
		case WH_HEADER_NOT_A_TOKEN:
		case WH_HEADER_NAME_TOO_LONG:
		case WH_HEADER_RESERVED:
		case WH_HEADER_CONTROL_CHARACTER:
			wh_refuse(argument, psprintf("has a control character (CR, LF, NUL or the like) in "
										 "\"%s\"", name));
	}
}

/* jsonb tells "X-A" from "x-a", a receiver does not. */
static void
check_new(const char *argument, char **names, int count, const char *name)
{
	for (int i = 0; i < count; i++)
		if (wh_header_same_name(names[i], strlen(names[i]), name, strlen(name)))
			wh_refuse(argument, psprintf("must not contain \"%s\" twice", name));
}

static bool
is_authorization(const char *name)
{
	return wh_header_same_name(name, strlen(name), "authorization", strlen("authorization"));
}

/* Puts the mask in the value's place. */
static void
take_authorization(WhHeaders *headers, JsonbValue *value)
{
	headers->masked = value->val.string.len == strlen(WH_HEADER_MASK) &&
		memcmp(value->val.string.val, WH_HEADER_MASK, strlen(WH_HEADER_MASK)) == 0;
	if (!headers->masked)
		headers->authorization = pnstrdup(value->val.string.val, value->val.string.len);
	value->val.string.val = WH_HEADER_MASK;
	value->val.string.len = strlen(WH_HEADER_MASK);
}

WhHeaders
wh_headers_judge(const char *argument, Jsonb *headers)
{
	WhHeaders	result = {0};
	JsonbParseState *state = NULL;
	JsonbValue *stored = NULL;
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	v;
	char	   *names[WH_HEADERS_MAX];
	int			count = 0;

	if (!JB_ROOT_IS_OBJECT(headers) || JB_ROOT_COUNT(headers) > WH_HEADERS_MAX)
		wh_refuse(argument, psprintf("must be a JSON object of at most %d headers",
									 WH_HEADERS_MAX));

	iterator = JsonbIteratorInit(&headers->root);
	while ((token = JsonbIteratorNext(&iterator, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			names[count] = pnstrdup(v.val.string.val, v.val.string.len);
			check_name(argument, names[count]);
			check_new(argument, names, count, names[count]);
			count++;
		}
		else if (token == WJB_VALUE)
		{
			check_value(argument, names[count - 1], &v);
			if (is_authorization(names[count - 1]))
				take_authorization(&result, &v);
		}
		stored = pushJsonbValue(&state, token,
								token == WJB_KEY || token == WJB_VALUE ? &v : NULL);
	}
	result.stored = JsonbValueToJsonb(stored);
	return result;
}

void
wh_headers_refuse_mask(const char *argument, const WhHeaders *headers)
{
	if (headers->masked)
		wh_refuse(argument, "has \"" WH_HEADER_MASK "\" as the value of authorization, which is "
				  "what is shown in its place");
}

WhHeaders
wh_headers_judge_new(const char *argument, Jsonb *headers)
{
	WhHeaders	result = wh_headers_judge(argument, headers);

	wh_headers_refuse_mask(argument, &result);
	return result;
}
