/*
 * Fields of one name, which differ in case alone or come as an array, are one field whose lines are
 * joined (RFC 9110, 5.2): what is told of a header does not depend on how a framework hands it
 * over.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "sql/message.h"
#include "sql/options.h"
#include "sql/session.h"
#include "utils/numeric.h"

WhBytes
wh_body_text(FunctionCallInfo fcinfo, int number)
{
	text	   *value;
	char	   *utf8;

	if (PG_ARGISNULL(number))
		wh_refuse("body", "must not be NULL");
	value = PG_GETARG_TEXT_PP(number);
	utf8 = pg_server_to_any(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), PG_UTF8);
	return (WhBytes)
	{
		utf8, utf8 == VARDATA_ANY(value) ? VARSIZE_ANY_EXHDR(value) : strlen(utf8)
	};
}

WhBytes
wh_body_bytea(FunctionCallInfo fcinfo, int number)
{
	bytea	   *value;

	if (PG_ARGISNULL(number))
		wh_refuse("body", "must not be NULL");
	value = PG_GETARG_BYTEA_PP(number);
	return (WhBytes)
	{
		VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value)
	};
}

int64
wh_tolerance_argument(FunctionCallInfo fcinfo, int number)
{
	int64		ms = PG_ARGISNULL(number) ? -1 : wh_interval_ms(PG_GETARG_INTERVAL_P(number));

	if (ms < 0)
		wh_refuse("tolerance", "must not be negative or NULL");
	return ms;
}

int64
wh_unix_ms(TimestampTz at)
{
	return (at + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY) / 1000;
}

/* A line of a header; its name may come again. */
typedef struct Line
{
	WhHeader	header;
	int			number;
} Line;

typedef struct Lines
{
	Line	   *items;
	int			count;
	int			room;
} Lines;

/* NULL for what is no value of a header. */
static char *
value_text(const JsonbValue *value)
{
	if (value->type == jbvString)
		return pnstrdup(value->val.string.val, value->val.string.len);
	if (value->type == jbvNumeric)
		return numeric_normalize(value->val.numeric);
	return NULL;
}

static void
add_line(Lines *lines, const char *name, const JsonbValue *value)
{
	char	   *text = value_text(value);

	if (text == NULL)
		return;
	if (lines->count == lines->room)
	{
		lines->room *= 2;
		lines->items = repalloc_huge(lines->items, lines->room * sizeof(Line));
	}
	lines->items[lines->count] = (Line) {{name, text}, lines->count};
	lines->count++;
}

static void
add_array(Lines *lines, const char *name, JsonbContainer *array)
{
	JsonbIterator *iterator = JsonbIteratorInit(array);
	JsonbIteratorToken token;
	JsonbValue	v;

	while ((token = JsonbIteratorNext(&iterator, &v, true)) != WJB_DONE)
		if (token == WJB_ELEM)
			add_line(lines, name, &v);
}

static char *
lower_name(const JsonbValue *key)
{
	char	   *name = pnstrdup(key->val.string.val, key->val.string.len);

	for (char *c = name; *c; c++)
		*c = pg_ascii_tolower((unsigned char) *c);
	return name;
}

static Lines
read_lines(Jsonb *headers)
{
	Lines		lines = {palloc(16 * sizeof(Line)), 0, 16};
	JsonbIterator *iterator = JsonbIteratorInit(&headers->root);
	JsonbIteratorToken token;
	JsonbValue	v;
	char	   *name = NULL;

	while ((token = JsonbIteratorNext(&iterator, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = lower_name(&v);
		else if (token == WJB_VALUE && v.type == jbvBinary &&
				 JsonContainerIsArray(v.val.binary.data))
			add_array(&lines, name, v.val.binary.data);
		else if (token == WJB_VALUE)
			add_line(&lines, name, &v);
	}
	return lines;
}

static int
compare_lines(const void *a, const void *b)
{
	const Line *one = a;
	const Line *other = b;
	int			order = strcmp(one->header.name, other->header.name);

	return order != 0 ? order : one->number - other->number;
}

/* One header for each name. */
static void
join(Lines *lines, WhReceived *message)
{
	WhHeader   *headers = palloc_extended(lines->count * sizeof(WhHeader) + 1, MCXT_ALLOC_HUGE);
	int			count = 0;

	qsort(lines->items, lines->count, sizeof(Line), compare_lines);
	for (int i = 0; i < lines->count; i++)
	{
		const WhHeader *line = &lines->items[i].header;

		if (count > 0 && strcmp(headers[count - 1].name, line->name) == 0)
			headers[count - 1].value = psprintf("%s, %s", headers[count - 1].value, line->value);
		else
			headers[count++] = *line;
	}
	message->headers = headers;
	message->header_count = count;
}

WhReceived
wh_message_read(Jsonb *headers, WhBytes body)
{
	WhReceived	message = {.body = body};
	Lines		lines;

	if (!JB_ROOT_IS_OBJECT(headers))
		wh_refuse("headers", "must be a JSON object");
	lines = read_lines(headers);
	join(&lines, &message);
	message.scratch_size = wh_verify_scratch_size(&message);
	message.scratch = MemoryContextAllocHuge(CurrentMemoryContext, message.scratch_size);
	return message;
}

bool
wh_message_verify(WhScheme scheme, WhReceived *message, WhSecretKey *keys, int count,
				  const char **id)
{
	bool		valid;

	message->keys = keys;
	message->key_count = count;
	valid = wh_verify(scheme, message, id);
	explicit_bzero(keys, count * sizeof(WhSecretKey));
	return valid;
}
