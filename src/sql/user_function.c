/*
 * What a function is allowed to be is judged when it is registered, and again when it is looked up:
 * another may have taken its name meanwhile.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "sql/session.h"
#include "sql/user_function.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

typedef struct UserFunction
{
	char	   *name;
	FmgrInfo	call;
	Oid			result;			/* type */
} UserFunction;

struct WhUserFunctions
{
	MemoryContext context;
	List	   *found;			/* of UserFunction */
};

/* ---- what a function has to be ---- */

static const char *const arguments[] = {"validator", "transform"};
static const char *const rules[] = {
	"must be a function (text, jsonb) that returns void or boolean",
	"must be a function (text, jsonb) that returns jsonb"
};

/* NULL: it is one of that kind. */
static const char *
find_fault(WhUserFunctionKind kind, Form_pg_proc proc)
{
	if (proc->prokind != PROKIND_FUNCTION)
		return "is not a plain function";
	if (proc->pronargs != 2 || proc->proargtypes.values[0] != TEXTOID ||
		proc->proargtypes.values[1] != JSONBOID)
		return "has other arguments";
	if (proc->proretset)
		return "returns a set";
	if (isAnyTempNamespace(proc->pronamespace))
		return "is temporary";
	switch (kind)
	{
		case WH_VALIDATOR:
			return proc->prorettype == VOIDOID || proc->prorettype == BOOLOID ? NULL :
				"returns something else";
		case WH_TRANSFORM:
			return proc->prorettype == JSONBOID ? NULL : "returns something else";
	}
	return NULL;
}

static void
check_may_execute(Oid function, const char *name)
{
	AclResult	result = wh_may_execute(function, GetUserId());

	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_FUNCTION, name);
}

char *
wh_user_function_name(WhUserFunctionKind kind, Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc proc;
	const char *fault;
	char	   *name;

	if (!HeapTupleIsValid(tuple))
		wh_refuse(arguments[kind], psprintf("%s: function %u does not exist", rules[kind],
											function));
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	fault = find_fault(kind, proc);
	if (fault)
		wh_refuse(arguments[kind], psprintf("%s: %s %s", rules[kind],
											format_procedure(function), fault));
	check_may_execute(function, NameStr(proc->proname));
	name = quote_qualified_identifier(get_namespace_name(proc->pronamespace),
									  NameStr(proc->proname));
	ReleaseSysCache(tuple);
	return name;
}


/* ---- looking up ---- */

/*
 * By what is in the catalog alone: search_path has no say, and to use a schema is no privilege
 * here.
 */
static HeapTuple
find_procedure(const char *name)
{
	Oid			types[] = {TEXTOID, JSONBOID};
	List	   *parts = wh_string_to_qualified_names(name);
	Oid			namespace = list_length(parts) == 2 ?
		get_namespace_oid(strVal(linitial(parts)), true) : InvalidOid;

	if (!OidIsValid(namespace))
		return NULL;
	return SearchSysCache3(PROCNAMEARGSNSP, CStringGetDatum(strVal(lsecond(parts))),
						   PointerGetDatum(buildoidvector(types, lengthof(types))),
						   ObjectIdGetDatum(namespace));
}

static UserFunction *
look_up(WhUserFunctions *functions, WhUserFunctionKind kind, const char *name)
{
	HeapTuple	tuple = find_procedure(name);
	Form_pg_proc proc = HeapTupleIsValid(tuple) ? (Form_pg_proc) GETSTRUCT(tuple) : NULL;
	UserFunction *function;
	MemoryContext before;

	if (proc == NULL || find_fault(kind, proc))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s %s(text, jsonb) does not exist", arguments[kind], name),
				 errhint("Register it again, or another one.")));
	check_may_execute(proc->oid, name);
	InvokeFunctionExecuteHook(proc->oid);

	before = MemoryContextSwitchTo(functions->context);
	function = palloc0(sizeof(UserFunction));
	function->name = pstrdup(name);
	function->result = proc->prorettype;
	fmgr_info(proc->oid, &function->call);
	functions->found = lappend(functions->found, function);
	MemoryContextSwitchTo(before);
	ReleaseSysCache(tuple);
	return function;
}

static UserFunction *
find_function(WhUserFunctions *functions, WhUserFunctionKind kind, const char *name)
{
	ListCell   *cell;

	foreach(cell, functions->found)
	{
		UserFunction *function = lfirst(cell);

		if (strcmp(function->name, name) == 0 &&
			(function->result == JSONBOID) == (kind == WH_TRANSFORM))
			return function;
	}
	return look_up(functions, kind, name);
}

WhUserFunctions *
wh_user_functions_create(void)
{
	WhUserFunctions *functions = palloc0(sizeof(WhUserFunctions));

	functions->context = CurrentMemoryContext;
	return functions;
}

NullableDatum
wh_user_function_call(WhUserFunctions *functions, WhUserFunctionKind kind, const char *name,
					  const char *event_type, Jsonb *payload)
{
	UserFunction *function = find_function(functions, kind, name);
	LOCAL_FCINFO(fcinfo, 2);
	Datum		result;

	InitFunctionCallInfoData(*fcinfo, &function->call, 2, DEFAULT_COLLATION_OID, NULL, NULL);
	fcinfo->args[0] = (NullableDatum) {CStringGetTextDatum(event_type), false};
	fcinfo->args[1] = (NullableDatum) {JsonbPGetDatum(payload), false};
	result = FunctionCallInvoke(fcinfo);
	if (function->result == VOIDOID)
		return (NullableDatum) {BoolGetDatum(true), false};
	return (NullableDatum) {result, fcinfo->isnull};
}
