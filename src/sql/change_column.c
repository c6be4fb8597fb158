/*
 * A column of a watched table: how its values become JSON and text, and when two of them differ.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "sql/change.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

/*
 * Types of the server whose rendering is plain get it here; all others, and all that users made,
 * since those may have a cast to json, go to to_jsonb.
 */
static WhRendering
rendering_of(Oid type)
{
	switch (type)
	{
		case BOOLOID:
			return WH_RENDER_BOOL;
		case INT2OID:
			return WH_RENDER_INT2;
		case INT4OID:
			return WH_RENDER_INT4;
		case INT8OID:
			return WH_RENDER_INT8;
		case NUMERICOID:
			return WH_RENDER_NUMERIC;
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
			return WH_RENDER_TEXT;
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return WH_RENDER_TIME;
		case UUIDOID:
		case BYTEAOID:
		case INETOID:
		case CIDROID:
		case INTERVALOID:
		case TIMEOID:
		case NAMEOID:
			return WH_RENDER_OUTPUT;
		default:
			return WH_RENDER_ANY;
	}
}

static void
prepare_function(WhColumn *column, Oid declared_type)
{
	Oid			output;
	bool		is_varlena;

	if (column->rendering == WH_RENDER_OUTPUT)
	{
		getTypeOutputInfo(column->type, &output, &is_varlena);
		fmgr_info(output, &column->function);
	}
	else if (column->rendering == WH_RENDER_ANY)
	{
		/* to_jsonb asks for the type of its argument as written in an expression */
		Node	   *argument = (Node *) makeNullConst(declared_type, -1, InvalidOid);

		fmgr_info(F_TO_JSONB, &column->function);
		fmgr_info_set_expr((Node *) makeFuncExpr(F_TO_JSONB, JSONBOID, list_make1(argument),
												 InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL),
						   &column->function);
	}
}

/* Whether equal values are equal bytes, which tells many apart by their length alone. */
static bool
is_equal_as_bytes(Oid type, Oid collation)
{
	return type == BYTEAOID ||
		((type == TEXTOID || type == VARCHAROID) && get_collation_isdeterministic(collation));
}

void
wh_column_prepare(WhColumn *column, Form_pg_attribute attribute)
{
	TypeCacheEntry *type = lookup_type_cache(attribute->atttypid, TYPECACHE_EQ_OPR_FINFO);

	memset(column, 0, sizeof(WhColumn));
	column->number = attribute->attnum;
	column->name = pstrdup(NameStr(attribute->attname));
	column->type = getBaseType(attribute->atttypid);
	column->length = attribute->attlen;
	column->by_value = attribute->attbyval;
	column->collation = attribute->attcollation;
	column->rendering = rendering_of(column->type);
	column->equality = OidIsValid(type->eq_opr_finfo.fn_oid) ? type : NULL;
	column->equal_as_bytes = is_equal_as_bytes(column->type, column->collation);
	prepare_function(column, attribute->atttypid);
}

/*
 * Whether the type's output is the same in every session. That of a string type is its text, also
 * if an extension made the type.
 */
static bool
is_output_stable(Oid type)
{
	char		category;
	bool		preferred;

	switch (type)
	{
		case BOOLOID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case OIDOID:
		case NUMERICOID:
		case CHAROID:
		case UUIDOID:
		case INETOID:
		case CIDROID:
			return true;
		default:
			get_type_category_preferred(type, &category, &preferred);
			return category == TYPCATEGORY_STRING || category == TYPCATEGORY_ENUM;
	}
}

bool
wh_column_is_readable(const WhColumn *column)
{
	return is_output_stable(column->type);
}

char *
wh_column_text(const WhColumn *column, Datum value)
{
	Oid			function;
	bool		is_varlena;
	HeapTuple	type_tuple;
	bool		has_send;

	if (is_output_stable(column->type))
	{
		char	   *text;

		getTypeOutputInfo(column->type, &function, &is_varlena);
		text = OidOutputFunctionCall(function, value);
		if (column->type == BPCHAROID)	/* as its cast to text does */
			text[bpchartruelen(text, strlen(text))] = '\0';
		return text;
	}

	/* a date's text follows DateStyle, so the binary form stands in for it */
	type_tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(column->type));
	has_send = HeapTupleIsValid(type_tuple) &&
		OidIsValid(((Form_pg_type) GETSTRUCT(type_tuple))->typsend);
	if (HeapTupleIsValid(type_tuple))
		ReleaseSysCache(type_tuple);
	if (has_send)
	{
		bytea	   *sent;
		char	   *text;
		uint64		len;

		getTypeBinaryOutputInfo(column->type, &function, &is_varlena);
		sent = OidSendFunctionCall(function, value);
		text = palloc(VARSIZE_ANY_EXHDR(sent) * 2 + 1);
		len = hex_encode(VARDATA_ANY(sent), VARSIZE_ANY_EXHDR(sent), text);
		text[len] = '\0';
		return text;
	}
	getTypeOutputInfo(column->type, &function, &is_varlena);
	return OidOutputFunctionCall(function, value);
}

/* Whether the two are the same as they stand, a value kept out of line by its pointer. */
static bool
is_same(const WhColumn *column, Datum a, Datum b)
{
	if (column->by_value)
		return a == b;
	if (column->length > 0)
		return memcmp(DatumGetPointer(a), DatumGetPointer(b), column->length) == 0;
	if (column->length == -1)
	{
		Size		size = VARSIZE_ANY(DatumGetPointer(a));

		return size == VARSIZE_ANY(DatumGetPointer(b)) &&
			memcmp(DatumGetPointer(a), DatumGetPointer(b), size) == 0;
	}
	return false;
}

bool
wh_column_differs(WhColumn *column, const TupleTableSlot *before, const TupleTableSlot *after)
{
	int			i = column->number - 1;
	Datum		a = before->tts_values[i];
	Datum		b = after->tts_values[i];

	if (before->tts_isnull[i] || after->tts_isnull[i])
		return before->tts_isnull[i] != after->tts_isnull[i];
	if (is_same(column, a, b))
		return false;
	if (column->equal_as_bytes && toast_raw_datum_size(a) != toast_raw_datum_size(b))
		return true;
	if (column->equality)
		return !DatumGetBool(FunctionCall2Coll(&column->equality->eq_opr_finfo, column->collation,
											   a, b));
	return !datum_image_eq(a, b, column->by_value, column->length);
}
