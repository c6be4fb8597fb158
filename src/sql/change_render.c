/*
 * A row as JSON, as to_jsonb would render it, straight into the tree that becomes a jsonb: the keys
 * stand ready in a jsonb's order, so nothing is sorted, and what most columns hold is turned into
 * JSON without a function being looked up.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "settings.h"
#include "sql/change.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"

/* Longest texts, quotes included. */
#define INT_TEXT 20
#define TIME_TEXT 64
#define ESCAPE 6				/* \u0001: one byte as six */

typedef struct Renderer
{
	const WhWatch *watch;
	Size		text_bound;		/* the text has at most so many bytes ... */
	bool		unbounded;		/* ... or that is not known */
} Renderer;


static void
refuse_size(const WhWatch *watch, Size size)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("payload is too large: %zu bytes", size),
			 errdetail("webhooks.max_payload_size allows %d bytes for a row of \"%s\".",
					   wh_max_payload_bytes, get_rel_name(watch->relation)),
			 errhint("Leave large columns out of the event with the option exclude.")));
}

static void
set_string(Renderer *renderer, JsonbValue *json, char *text, Size len)
{
	/* far below what a jsonb can hold */
	if (len > wh_max_payload_bytes)
		refuse_size(renderer->watch, len);
	json->type = jbvString;
	json->val.string.val = text;
	json->val.string.len = len;
	renderer->text_bound += ESCAPE * len + 2;
}

static void
set_cstring(Renderer *renderer, JsonbValue *json, char *text)
{
	set_string(renderer, json, text, strlen(text));
}

static void
set_int(Renderer *renderer, JsonbValue *json, int64 value)
{
	json->type = jbvNumeric;
	json->val.numeric = int64_to_numeric(value);
	renderer->text_bound += INT_TEXT;
}

static void
set_numeric(Renderer *renderer, JsonbValue *json, Datum value)
{
	Numeric		number = DatumGetNumeric(value);
	char	   *text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(number)));

	if (numeric_is_nan(number) || numeric_is_inf(number))
	{
		set_cstring(renderer, json, text);
		return;
	}
	json->type = jbvNumeric;
	json->val.numeric = number;
	renderer->text_bound += strlen(text);
}

/* The tree of a jsonb; containers within one cannot be taken over as they are. */
static void
set_jsonb(Renderer *renderer, JsonbValue *json, Jsonb *value)
{
	JsonbParseState *state = NULL;
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	item;
	JsonbValue *root = NULL;

	/* numbers such as 1e100000 are longer as text by far */
	renderer->unbounded = true;
	if (JB_ROOT_IS_SCALAR(value))
	{
		(void) JsonbExtractScalar(&value->root, json);
		return;
	}
	iterator = JsonbIteratorInit(&value->root);
	while ((token = JsonbIteratorNext(&iterator, &item, false)) != WJB_DONE)
		root = pushJsonbValue(&state, token, token < WJB_BEGIN_ARRAY ? &item : NULL);
	*json = *root;
}

static void
render(Renderer *renderer, WhColumn *column, Datum value, JsonbValue *json)
{
	switch (column->rendering)
	{
		case WH_RENDER_BOOL:
			json->type = jbvBool;
			json->val.boolean = DatumGetBool(value);
			renderer->text_bound += 5;
			break;
		case WH_RENDER_INT2:
			set_int(renderer, json, DatumGetInt16(value));
			break;
		case WH_RENDER_INT4:
			set_int(renderer, json, DatumGetInt32(value));
			break;
		case WH_RENDER_INT8:
			set_int(renderer, json, DatumGetInt64(value));
			break;
		case WH_RENDER_NUMERIC:
			set_numeric(renderer, json, value);
			break;
		case WH_RENDER_TEXT:
			{
				text	   *packed;

				if (toast_raw_datum_size(value) - VARHDRSZ > wh_max_payload_bytes)
					refuse_size(renderer->watch, toast_raw_datum_size(value) - VARHDRSZ);
				packed = DatumGetTextPP(value);
				set_string(renderer, json, VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed));
				break;
			}
		case WH_RENDER_TIME:
			json->type = jbvString;
			json->val.string.val = JsonEncodeDateTime(NULL, value, column->type, NULL);
			json->val.string.len = strlen(json->val.string.val);
			renderer->text_bound += TIME_TEXT;
			break;
		case WH_RENDER_OUTPUT:
			set_cstring(renderer, json, OutputFunctionCall(&column->function, value));
			break;
		case WH_RENDER_ANY:
			set_jsonb(renderer, json,
					  DatumGetJsonbP(FunctionCall1(&column->function, value)));
			break;
	}
}

/* Into json, an object of those columns that wanted names, or of all when it is NULL. */
static void
render_row(Renderer *renderer, const TupleTableSlot *row, const bool *wanted, JsonbValue *json)
{
	const WhWatch *watch = renderer->watch;
	JsonbPair  *pairs = palloc(watch->column_count * sizeof(JsonbPair));
	int			count = 0;

	for (int i = 0; i < watch->column_count; i++)
	{
		WhColumn   *column = &watch->columns[i];
		JsonbPair  *pair = &pairs[count];

		if (wanted && !wanted[i])
			continue;
		*pair = watch->pairs[i];
		renderer->text_bound += ESCAPE * pair->key.val.string.len + 6;
		if (!row->tts_isnull[column->number - 1])
			render(renderer, column, row->tts_values[column->number - 1], &pair->value);
		count++;
	}
	json->type = jbvObject;
	json->val.object.nPairs = count;
	json->val.object.pairs = pairs;
}

static void
set_key(JsonbPair *pair, char *key)
{
	pair->key.type = jbvString;
	pair->key.val.string.val = key;
	pair->key.val.string.len = strlen(key);
	pair->order = 0;
}

static void
check_size(const Renderer *renderer, Jsonb *payload)
{
	StringInfoData text;

	if (!renderer->unbounded && renderer->text_bound <= wh_max_payload_bytes)
		return;
	initStringInfo(&text);
	(void) JsonbToCString(&text, &payload->root, VARSIZE(payload));
	if (text.len > wh_max_payload_bytes)
		refuse_size(renderer->watch, text.len);
	pfree(text.data);
}

Jsonb *
wh_render_change(const WhWatch *watch, const TupleTableSlot *row, const TupleTableSlot *before,
				 const bool *differing)
{
	Renderer	renderer = {.watch = watch, .text_bound = 64};
	JsonbPair	pairs[2];
	JsonbValue	root = {.type = jbvObject, .val.object = {.nPairs = 1, .pairs = pairs}};
	Jsonb	   *payload;

	set_key(&pairs[0], "object");
	render_row(&renderer, row, NULL, &pairs[0].value);
	if (before)
	{
		set_key(&pairs[1], "previous_attributes");
		render_row(&renderer, before, differing, &pairs[1].value);
		root.val.object.nPairs = 2;
	}
	payload = JsonbValueToJsonb(&root);
	check_size(&renderer, payload);
	return payload;
}

Jsonb *
wh_render_no_object(void)
{
	JsonbPair	pair;
	JsonbValue	root = {.type = jbvObject, .val.object = {.nPairs = 1, .pairs = &pair}};

	set_key(&pair, "object");
	pair.value.type = jbvNull;
	return JsonbValueToJsonb(&root);
}
