/*
 * What counts is the text that is sent, which may be far larger than what is stored: 1e100000 takes
 * ten bytes. For most payloads a look at their numbers tells that the text cannot be too large,
 * without making it.
 */
#include "postgres.h"

#include "fmgr.h"
#include "settings.h"
#include "sql/payload.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

/*
 * Text for each byte stored, at most, as long as numbers are of the short kind on disk: those have
 * up to 256 digits before the point and 63 after it, in 8 bytes and 4 for their entry. A byte of a
 * string becomes at most 6 ("\u0001").
 */
#define EXPANSION_MAX 27

/* A number's first 16 bits on disk, of which the highest two are 1 and 0 in the short kind. */
#define NUMERIC_KIND_MASK 0xC000
#define NUMERIC_KIND_SHORT 0x8000

static bool
is_short(Numeric number)
{
	uint16		header;

	memcpy(&header, VARDATA_ANY(number), sizeof(header));
	return (header & NUMERIC_KIND_MASK) == NUMERIC_KIND_SHORT;
}

static void
refuse(const char *what, const char *size)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("%s is too large: %s bytes", what, size),
			 errdetail("webhooks.max_payload_size allows %d bytes.", wh_max_payload_bytes),
			 errhint("Send an id by which the receiver can fetch the rest.")));
}

/*
 * Bytes of its long numbers in the text: 0 when it has none. They are made one by one, and no more of
 * them than are allowed, for all of them may be a thousand times what is stored.
 */
static Size
long_numbers_len(Jsonb *payload, const char *what)
{
	JsonbIterator *iterator = JsonbIteratorInit(&payload->root);
	JsonbIteratorToken token;
	JsonbValue	v;
	Size		len = 0;

	while ((token = JsonbIteratorNext(&iterator, &v, false)) != WJB_DONE)
		if ((token == WJB_VALUE || token == WJB_ELEM) && v.type == jbvNumeric &&
			!is_short(v.val.numeric))
		{
			char	   *text = DatumGetCString(DirectFunctionCall1(numeric_out,
																   NumericGetDatum(v.val.numeric)));

			len += strlen(text);
			pfree(text);
			if (len > wh_max_payload_bytes)
				refuse(what, psprintf("more than %zu", len));
		}
	return len;
}

void
wh_payload_check_len(Size len, const char *what)
{
	if (len > wh_max_payload_bytes)
		refuse(what, psprintf("%zu", len));
}

void
wh_payload_check_size(Jsonb *payload, const char *what)
{
	StringInfoData text;

	if (long_numbers_len(payload, what) == 0 &&
		VARSIZE(payload) <= wh_max_payload_bytes / EXPANSION_MAX)
		return;
	initStringInfo(&text);
	(void) JsonbToCString(&text, &payload->root, VARSIZE(payload));
	wh_payload_check_len(text.len, what);
	pfree(text.data);
}
