/*
 * A filter answers yes or no. A predicate such as "$.amount > 100" does; so does a path with a
 * condition in it, "$.items[*] ? (@.price > 5)", by selecting something or nothing. A bare path,
 * "$.active", could mean that the field exists or that it is true, so it is refused.
 *
 * Most paths cannot raise an error in silent mode. Those that can, and the parsing of a raw body,
 * run in a subtransaction, which costs about as much as the rest of a dispatch.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "sql/filter.h"
#include "sql/guard.h"
#include "sql/session.h"
#include "utils/fmgrprotos.h"


/* ---- what a path consists of ---- */

static bool any_item(JsonPathItem *item, bool (*is) (JsonPathItemType type));

static bool
any_subscript(JsonPathItem *item, bool (*is) (JsonPathItemType type))
{
	for (int i = 0; i < item->content.array.nelems; i++)
	{
		JsonPathItem from;
		JsonPathItem to;
		bool		has_to = jspGetArraySubscript(item, &from, &to, i);

		if (any_item(&from, is) || (has_to && any_item(&to, is)))
			return true;
	}
	return false;
}

static bool
any_operand(JsonPathItem *item, bool (*is) (JsonPathItemType type))
{
	JsonPathItem operand;

	switch (item->type)
	{
		case jpiAnd:
		case jpiOr:
		case jpiEqual:
		case jpiNotEqual:
		case jpiLess:
		case jpiGreater:
		case jpiLessOrEqual:
		case jpiGreaterOrEqual:
		case jpiAdd:
		case jpiSub:
		case jpiMul:
		case jpiDiv:
		case jpiMod:
		case jpiStartsWith:
			jspGetLeftArg(item, &operand);
			if (any_item(&operand, is))
				return true;
			jspGetRightArg(item, &operand);
			return any_item(&operand, is);
		case jpiNot:
		case jpiIsUnknown:
		case jpiPlus:
		case jpiMinus:
		case jpiFilter:
		case jpiExists:
			jspGetArg(item, &operand);
			return any_item(&operand, is);
		case jpiLikeRegex:
			jspInitByBuffer(&operand, item->base, item->content.like_regex.expr);
			return any_item(&operand, is);
		case jpiIndexArray:
			return any_subscript(item, is);
		default:
			return false;
	}
}

/* Whether anything in the path is of such a type. */
static bool
any_item(JsonPathItem *item, bool (*is) (JsonPathItemType type))
{
	JsonPathItem next;

	check_stack_depth();
	return is(item->type) || any_operand(item, is) ||
		(jspGetNext(item, &next) && any_item(&next, is));
}

static bool
is_variable(JsonPathItemType type)
{
	return type == jpiVariable;
}

/*
 * A template of datetime() is read, and times with and without a zone are compared, with errors
 * that no mode silences; a regular expression may become too large; ".**" goes down as deep as
 * the payload is nested.
 */
static bool
is_fragile(JsonPathItemType type)
{
	return type == jpiDatetime || type == jpiLikeRegex || type == jpiAny;
}

static bool
is_predicate(const JsonPathItem *item)
{
	switch (item->type)
	{
		case jpiAnd:
		case jpiOr:
		case jpiNot:
		case jpiIsUnknown:
		case jpiEqual:
		case jpiNotEqual:
		case jpiLess:
		case jpiGreater:
		case jpiLessOrEqual:
		case jpiGreaterOrEqual:
		case jpiExists:
		case jpiStartsWith:
		case jpiLikeRegex:
			return !jspHasNext(item);
		default:
			return false;
	}
}

static bool
has_condition(JsonPathItem *item)
{
	JsonPathItem step = *item;
	JsonPathItem next;

	while (step.type != jpiFilter)
	{
		if (!jspGetNext(&step, &next))
			return false;
		step = next;
	}
	return true;
}

bool
wh_path_has_variable(JsonPath *path)
{
	JsonPathItem root;

	jspInit(&root, path);
	return any_item(&root, is_variable);
}

void
wh_filter_check(JsonPath *path)
{
	JsonPathItem root;

	jspInit(&root, path);
	if (wh_path_has_variable(path))
		wh_refuse("filter", "must not contain a variable");
	if (!is_predicate(&root) && !has_condition(&root))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("filter must be a predicate"),
				 errhint("For example \"$.amount > 100\", \"$.active == true\" or "
						 "\"exists($.items[*] ? (@.price > 5))\".")));
}

WhFilter *
wh_filter_read(JsonPath *path)
{
	WhFilter   *filter = palloc(sizeof(WhFilter));
	JsonPathItem root;

	filter->path = palloc(VARSIZE(path));
	memcpy(filter->path, path, VARSIZE(path));
	jspInit(&root, filter->path);
	filter->exists = !is_predicate(&root);
	filter->fragile = any_item(&root, is_fragile);
	return filter;
}


/* ---- evaluating ---- */

static bool
evaluate(const WhFilter *filter, Jsonb *payload)
{
	LOCAL_FCINFO(fcinfo, 2);
	Datum		result;

	/* with two arguments these are silent, and unknown is NULL */
	InitFunctionCallInfoData(*fcinfo, NULL, 2, InvalidOid, NULL, NULL);
	fcinfo->args[0] = (NullableDatum) {JsonbPGetDatum(payload), false};
	fcinfo->args[1] = (NullableDatum) {PointerGetDatum(filter->path), false};
	result = filter->exists ? jsonb_path_exists_opr(fcinfo) : jsonb_path_match_opr(fcinfo);
	return !fcinfo->isnull && DatumGetBool(result);
}

/* What a payload, or a path, can be blamed for. */
static bool
is_of_data(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_DATA_EXCEPTION:
		case ERRCODE_FEATURE_NOT_SUPPORTED:
		case ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION:
		case ERRCODE_PROGRAM_LIMIT_EXCEEDED:
			return true;
		default:
			return false;
	}
}

typedef struct Work
{
	const WhFilter *filter;		/* NULL: parse */
	Jsonb	   *payload;
	const char *body;
	Size		body_len;
	bool		passes;
} Work;

static void
do_work(void *state)
{
	Work	   *work = state;

	if (work->filter)
		work->passes = evaluate(work->filter, work->payload);
	else
	{
		char	   *text = pg_any_to_server(work->body, (int) work->body_len, PG_UTF8);

		work->payload = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
	}
}

/* False: it raised an error that is the data's. */
static bool
do_guarded(Work *work)
{
	ErrorData  *error = wh_guard(do_work, work);

	if (error == NULL)
		return true;
	if (!is_of_data(error->sqlerrcode))
		ReThrowError(error);
	FreeErrorData(error);
	return false;
}

bool
wh_filter_passes(const WhFilter *filter, Jsonb *payload)
{
	Work		work = {.filter = filter, .payload = payload};

	if (!filter->fragile)
		return evaluate(filter, payload);
	return do_guarded(&work) && work.passes;
}

Jsonb *
wh_filter_parse(const char *body, Size len)
{
	Work		work = {.body = pnstrdup(body, len), .body_len = len};

	/* jsonb_in would stop there and take what stands before it */
	if (memchr(body, '\0', len) != NULL || !do_guarded(&work))
		return NULL;
	return work.payload;
}
