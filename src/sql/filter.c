/*
 * A filter answers yes or no. A predicate such as "$.amount > 100" does; so does a path with a
 * condition in it, "$.items[*] ? (@.price > 5)", by selecting something or nothing. A bare path,
 * "$.active", could mean that the field exists or that it is true, so it is refused.
 *
 * Most paths cannot raise an error in silent mode. Those that can, and the parsing of a raw body,
 * run in a subtransaction, which costs about as much as the rest of a dispatch.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "compat.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "regex/regex.h"
#include "sql/filter.h"
#include "sql/guard.h"
#include "sql/session.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

/*
 * An evaluation calls itself for each step, and takes up to 700 bytes of the stack for it. What is
 * not very deep is taken to have room for that, whatever the dispatch was called by.
 */
#define DEPTH_MAX 1000
#define DEPTH_UNGUARDED 100


/* ---- what a path consists of ---- */

/* Depth counts the steps that lead to an item, and those it stands within, from 1. */
typedef bool (*ItemTest) (const JsonPathItem *item, int depth);

static bool any_item(JsonPathItem *item, ItemTest is, int depth);

static bool
any_subscript(JsonPathItem *item, ItemTest is, int depth)
{
	for (int i = 0; i < item->content.array.nelems; i++)
	{
		JsonPathItem from;
		JsonPathItem to;
		bool		has_to = jspGetArraySubscript(item, &from, &to, i);

		if (any_item(&from, is, depth) || (has_to && any_item(&to, is, depth)))
			return true;
	}
	return false;
}

static bool
any_operand(JsonPathItem *item, ItemTest is, int depth)
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
			if (any_item(&operand, is, depth))
				return true;
			jspGetRightArg(item, &operand);
			return any_item(&operand, is, depth);
		case jpiNot:
		case jpiIsUnknown:
		case jpiPlus:
		case jpiMinus:
		case jpiFilter:
		case jpiExists:
			jspGetArg(item, &operand);
			return any_item(&operand, is, depth);
		case jpiLikeRegex:
			jspInitByBuffer(&operand, item->base, item->content.like_regex.expr);
			return any_item(&operand, is, depth);
		case jpiIndexArray:
			return any_subscript(item, is, depth);
		default:
			return false;
	}
}

/* Whether anything from the item on is such. Goes no deeper than where it is. */
static bool
any_item(JsonPathItem *item, ItemTest is, int depth)
{
	JsonPathItem step = *item;
	JsonPathItem next;

	check_stack_depth();
	while (!is(&step, depth) && !any_operand(&step, is, depth + 1))
	{
		if (!jspGetNext(&step, &next))
			return false;
		step = next;
		depth++;
	}
	return true;
}

static bool
has_item(JsonPath *path, ItemTest is)
{
	JsonPathItem root;

	jspInit(&root, path);
	return any_item(&root, is, 1);
}

static bool
is_too_deep(const JsonPathItem *item, int depth)
{
	return depth > DEPTH_MAX;
}

static bool
is_variable(const JsonPathItem *item, int depth)
{
	return item->type == jpiVariable;
}

/* Whether it is a regular expression that refers back, as its flags and escapes have it. */
static bool
refers_back(const JsonPathItem *item, int depth)
{
	text	   *pattern;
	regex_t    *regex;

	if (item->type != jpiLikeRegex)
		return false;
	pattern = cstring_to_text_with_len(item->content.like_regex.pattern,
									   item->content.like_regex.patternlen);
	regex = RE_compile_and_cache(pattern, wh_regex_flags(item->content.like_regex.flags),
								 DEFAULT_COLLATION_OID);
	return (regex->re_info & REG_UBACKREF) != 0;
}

/*
 * A template of datetime() is read, and times with and without a zone are compared, with errors
 * that no mode silences; a number may become too large by being rounded, and a regular expression
 * be too large; ".**" goes down as deep as the payload is nested. Whatever later versions added
 * comes after jpiLikeRegex.
 */
static bool
is_fragile(const JsonPathItem *item, int depth)
{
	return item->type == jpiDatetime || item->type == jpiCeiling || item->type == jpiFloor ||
		item->type == jpiAny || item->type >= jpiLikeRegex || depth > DEPTH_UNGUARDED;
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

void
wh_path_check(const char *argument, JsonPath *path)
{
	if (has_item(path, is_too_deep))
		wh_refuse(argument, psprintf("must be at most %d steps deep", DEPTH_MAX));
	if (has_item(path, is_variable))
		wh_refuse(argument, "must not contain a variable");
	if (has_item(path, refers_back))
		wh_refuse(argument, "must not contain a like_regex with a back-reference");
}

void
wh_filter_check(JsonPath *path)
{
	JsonPathItem root;

	wh_path_check("filter", path);
	jspInit(&root, path);
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
	filter->fragile = has_item(filter->path, is_fragile);
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
	const WhFilter *filter;		/* this, or */
	JsonPath   *path;			/* what it finds first; both NULL: parse */
	Jsonb	   *payload;
	Jsonb	   *found;
	const char *body;
	Size		body_len;
	bool		passes;
} Work;

static Jsonb *
find_first(JsonPath *path, Jsonb *payload)
{
	LOCAL_FCINFO(fcinfo, 4);
	Jsonb	   *no_variables = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
	Datum		found;

	InitFunctionCallInfoData(*fcinfo, NULL, 4, InvalidOid, NULL, NULL);
	fcinfo->args[0] = (NullableDatum) {JsonbPGetDatum(payload), false};
	fcinfo->args[1] = (NullableDatum) {PointerGetDatum(path), false};
	fcinfo->args[2] = (NullableDatum) {JsonbPGetDatum(no_variables), false};
	fcinfo->args[3] = (NullableDatum) {BoolGetDatum(true), false};
	found = jsonb_path_query_first(fcinfo);
	return fcinfo->isnull ? NULL : DatumGetJsonbP(found);
}

static void
do_work(void *state)
{
	Work	   *work = state;

	if (work->filter)
		work->passes = evaluate(work->filter, work->payload);
	else if (work->path)
		work->found = find_first(work->path, work->payload);
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
wh_path_first(JsonPath *path, Jsonb *payload)
{
	Work		work = {.path = path, .payload = payload};

	return do_guarded(&work) ? work.found : NULL;
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
