/*
 * receive(): verifies a message, stores it once and applies it, in the caller's transaction. What a
 * sender does again after an error, or for want of an answer, then is either all new or no news.
 *
 * Handlers run as the caller, who may have no privilege on the extension's tables, so the function
 * is not SECURITY DEFINER: the tables are read below the executor and written as their owner, by
 * two statements that name no operator and no function which somebody's search_path could provide.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "settings.h"
#include "sql/filter.h"
#include "sql/guard.h"
#include "sql/message.h"
#include "sql/session.h"
#include "sql/source.h"
#include "tables.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/formatting.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#define MESSAGE_ID_MAX 512		/* bytes: an index entry has to hold it */

PG_FUNCTION_INFO_V1(wh_sql_receive_text);
PG_FUNCTION_INFO_V1(wh_sql_receive_bytea);

/* The arguments of receive, in their order. */
typedef enum ReceiveArgument
{
	SOURCE, HEADERS, BODY, TENANT_ID
} ReceiveArgument;

/* A message that was found good. */
typedef struct Message
{
	const WhSource *source;
	const WhReceived *received;
	Jsonb	   *payload;		/* NULL: the body is no JSON */
	char	   *id;
	char	   *event_type;		/* NULL: none is told */
	TimestampTz received_at;
} Message;


/* ---- what a message says ---- */

/* Whether what a parser says of a text is said of that text, not of the server's state. */
static bool
is_about_data(int sqlerrcode)
{
	int			category = ERRCODE_TO_CATEGORY(sqlerrcode);

	return category == ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION) ||
		category == ERRCODE_TO_CATEGORY(ERRCODE_PROGRAM_LIMIT_EXCEEDED);
}

typedef struct Parse
{
	WhBytes		body;
	Jsonb	   *payload;
} Parse;

static void
parse_json(void *state)
{
	Parse	   *parse = state;
	char	   *text = pg_any_to_server(pnstrdup(parse->body.data, parse->body.len),
										parse->body.len, PG_UTF8);

	parse->payload = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
}

/*
 * The body as JSON; NULL when it is none, which the parser tells by an error alone. A NUL ends the
 * text early, so a body with one is none.
 */
static Jsonb *
read_payload(WhBytes body)
{
	Parse		parse = {.body = body};
	ErrorData  *error;

	if (body.len == 0 || memchr(body.data, '\0', body.len) != NULL)
		return NULL;
	error = wh_guard(parse_json, &parse);
	if (error == NULL)
		return parse.payload;
	if (!is_about_data(error->sqlerrcode))
		ReThrowError(error);
	FreeErrorData(error);
	return NULL;
}

/* A string, or a number as it is written; NULL for anything else. */
static char *
scalar_text(const JsonbValue *value)
{
	if (value && value->type == jbvString)
		return pnstrdup(value->val.string.val, value->val.string.len);
	if (value && value->type == jbvNumeric)
		return DatumGetCString(DirectFunctionCall1(numeric_out,
												   NumericGetDatum(value->val.numeric)));
	return NULL;
}

/* A member of the payload, if that is an object. */
static char *
payload_member(const Jsonb *payload, const char *name)
{
	JsonbValue	value;

	if (payload == NULL || !JB_ROOT_IS_OBJECT(payload))
		return NULL;
	return scalar_text(getKeyJsonValueFromContainer((JsonbContainer *) &payload->root, name,
													strlen(name), &value));
}

/* What id_path finds first in the payload. */
static char *
find_by_path(Jsonb *payload, JsonPath *path)
{
	Jsonb	   *found = payload ? wh_path_first(path, payload) : NULL;
	JsonbValue	value;

	if (found == NULL || !JB_ROOT_IS_SCALAR(found) || !JsonbExtractScalar(&found->root, &value))
		return NULL;
	return scalar_text(&value);
}

/* The id that a sender like this one sends with every message, whatever signs it. */
static const char *
standard_id(const WhReceived *received)
{
	const char *id = wh_header_find(received, "webhook-id");
	char	   *prefix = asc_tolower(wh_header_prefix, strlen(wh_header_prefix));

	return id ? id : wh_header_find_prefixed(received, (WhBytes) {prefix, strlen(prefix)}, "id");
}

/*
 * Where each scheme has its messages' ids. What a signature covers comes first; what it does not
 * can be altered by whoever can alter the message, to no more than having it taken twice.
 */
static char *
find_id(const Message *message, const char *covered)
{
	const WhReceived *received = message->received;
	const char *id = covered;

	if (message->source->id_path)
		return find_by_path(message->payload, message->source->id_path);
	switch (message->source->scheme)
	{
		case WH_SCHEME_V1:
		case WH_SCHEME_V1A:
		case WH_SCHEME_RFC9421:
		case WH_SCHEME_NONE:
			break;
		case WH_SCHEME_STRIPE:
			id = payload_member(message->payload, "id");
			break;
		case WH_SCHEME_GITHUB:
			id = wh_header_find(received, "x-github-delivery");
			break;
		case WH_SCHEME_X_WEBHOOK:
			id = wh_header_find(received, "x-webhook-id");
			break;
	}
	if (id == NULL && message->source->scheme != WH_SCHEME_RFC9421)
		id = standard_id(received);
	return id ? pstrdup(id) : NULL;
}

static char *
find_event_type(const Message *message)
{
	const char *header = NULL;

	if (message->source->scheme == WH_SCHEME_GITHUB)
		header = wh_header_find(message->received, "x-github-event");
	else if (message->source->scheme == WH_SCHEME_X_WEBHOOK)
		header = wh_header_find(message->received, "x-webhook-event");
	return header ? pstrdup(header) : payload_member(message->payload, "type");
}

static void
check_id(const Message *message)
{
	if (message->id == NULL || message->id[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the message of source \"%s\" has no id", message->source->name),
				 errhint("Say where its body has one: add_source(…, id_path => '$.id').")));
	if (strlen(message->id) > MESSAGE_ID_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the id of a message must have at most %d bytes", MESSAGE_ID_MAX)));
}


/* ---- storing ---- */

static bool
holds_credentials(const char *name)
{
	return strcmp(name, "authorization") == 0 || strcmp(name, "proxy-authorization") == 0 ||
		strcmp(name, "cookie") == 0;
}

/* What is stored of the headers. */
static Datum
stored_headers(const WhReceived *received)
{
	JsonbParseState *state = NULL;
	JsonbValue	v;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < received->header_count; i++)
	{
		const WhHeader *header = &received->headers[i];

		if (holds_credentials(header->name))
			continue;
		v.type = jbvString;
		v.val.string.val = unconstify(char *, header->name);
		v.val.string.len = strlen(header->name);
		pushJsonbValue(&state, WJB_KEY, &v);
		v.val.string.val = unconstify(char *, header->value);
		v.val.string.len = strlen(header->value);
		pushJsonbValue(&state, WJB_VALUE, &v);
	}
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

static Oid
table_owner(const char *name)
{
	Relation	rel = table_open(wh_table(name), AccessShareLock);
	Oid			owner = rel->rd_rel->relowner;

	table_close(rel, AccessShareLock);
	return owner;
}

/* Executes a statement that only inserts, as the table's owner; returns how many rows. */
static uint64
insert_as_owner(const char *table, const char *sql, int count, const WhArgument *arguments)
{
	Oid			user;
	int			context;
	uint64		inserted;

	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(table_owner(table), context | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION | SECURITY_NOFORCE_RLS);
	inserted = wh_execute(sql, count, arguments);
	SetUserIdAndSecContext(user, context);
	return inserted;
}

/*
 * False: it was there before. While another transaction is about to store the same message, this
 * one waits for its end.
 */
static bool
store(const Message *message)
{
	const WhReceived *received = message->received;
	bytea	   *body = palloc(VARHDRSZ + received->body.len);
	WhArgument	arguments[] = {
		wh_text_argument(message->source->tenant_id),
		wh_text_argument(message->source->name),
		wh_text_argument(message->id),
		{TIMESTAMPTZOID, TimestampTzGetDatum(message->received_at)},
		wh_text_argument(message->event_type),
		{JSONBOID, stored_headers(received)}, {BYTEAOID, PointerGetDatum(body)},
		{JSONBOID, JsonbPGetDatum(message->payload), message->payload == NULL}
	};

	SET_VARSIZE(body, VARHDRSZ + received->body.len);
	memcpy(VARDATA(body), received->body.data, received->body.len);
	if (insert_as_owner("inbox_messages",
						"INSERT INTO webhooks.inbox_messages"
						" (tenant_id, source, message_id, received_at)"
						" VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING", 4, arguments) == 0)
		return false;
	(void) insert_as_owner("inbox",
						   "INSERT INTO webhooks.inbox (tenant_id, source, message_id, received_at,"
						   " event_type, headers, body, payload)"
						   " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
						   lengthof(arguments), arguments);
	return true;
}


/* ---- handlers ---- */

/*
 * As the caller, who must be allowed to: whoever may receive gets to call nothing else by it.
 */
static void
call_handler(const char *handler, const Message *message)
{
	Oid			function = DatumGetObjectId(DirectFunctionCall1(regprocedurein,
																	CStringGetDatum(handler)));
	LOCAL_FCINFO(call, 3);
	FmgrInfo	info;

	if (wh_may_execute(function, GetUserId()) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, get_func_name(function));
	fmgr_info(function, &info);
	if (info.fn_strict)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("handler %s has become STRICT", handler)));
	InitFunctionCallInfoData(*call, &info, 3, DEFAULT_COLLATION_OID, NULL, NULL);
	call->args[0] = (NullableDatum) {CStringGetTextDatum(message->id), false};
	call->args[1] = (NullableDatum) {
		message->event_type ? CStringGetTextDatum(message->event_type) : (Datum) 0,
		message->event_type == NULL
	};
	call->args[2] = (NullableDatum) {JsonbPGetDatum(message->payload), message->payload == NULL};
	(void) FunctionCallInvoke(call);
}

static void
call_handlers(const Message *message)
{
	ListCell   *cell;

	foreach(cell, wh_source_handlers(message->source, message->event_type))
		call_handler(lfirst(cell), message);
}

/*
 * A tenant's handlers are called in a session confined to that tenant, as the one that registered
 * them may have been: what they dispatch as the caller is no other tenant's. An error undoes the
 * setting, too.
 */
static void
apply(const Message *message)
{
	const char *tenant_id = message->source->tenant_id;
	int			nest_level;

	if (tenant_id[0] == '\0' || wh_session_tenant())
	{
		call_handlers(message);
		return;
	}
	nest_level = NewGUCNestLevel();
	(void) set_config_option("webhooks.tenant_id", tenant_id, PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	call_handlers(message);
	AtEOXact_GUC(true, nest_level);
}


/* ---- receive ---- */

static void
check_size(WhBytes body)
{
	if (body.len > wh_max_payload_bytes)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("body is too large: %zu bytes", body.len),
				 errdetail("webhooks.max_payload_size allows %d bytes.", wh_max_payload_bytes)));
}

/* One message for all that can be wrong: a stranger learns nothing from it. */
static void
refuse_signature(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
			 errmsg("the message's signature is not valid"),
			 errhint("It must be signed with the source's secret, over the very bytes of the body, "
					 "and not long ago.")));
}

static WhSource
source_argument(FunctionCallInfo fcinfo)
{
	char	   *tenant_id = wh_tenant_named_by(fcinfo, TENANT_ID);

	if (PG_ARGISNULL(SOURCE))
		wh_refuse("source", "must not be NULL");
	return wh_source_read(tenant_id, text_to_cstring(PG_GETARG_TEXT_PP(SOURCE)));
}

static Datum
make_result(FunctionCallInfo fcinfo, const Message *message, bool is_new)
{
	TupleDesc	desc;
	Datum		values[4] = {CStringGetTextDatum(message->id)};
	bool		nulls[4] = {false, message->event_type == NULL, message->payload == NULL};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (message->event_type)
		values[1] = CStringGetTextDatum(message->event_type);
	values[2] = JsonbPGetDatum(message->payload);
	values[3] = BoolGetDatum(is_new);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

static Datum
receive(FunctionCallInfo fcinfo, WhBytes body)
{
	WhSource	source;
	WhReceived	received;
	Message		message = {.source = &source, .received = &received};
	const char *covered;
	bool		is_new;

	PreventCommandIfReadOnly("webhooks.receive()");
	if (PG_ARGISNULL(HEADERS))
		wh_refuse("headers", "must be a JSON object");
	check_size(body);
	received = wh_message_read(PG_GETARG_JSONB_P(HEADERS), body);
	source = source_argument(fcinfo);

	message.received_at = GetCurrentTimestamp();
	received.now_ms = wh_unix_ms(message.received_at);
	received.tolerance_ms = source.tolerance_ms;
	if (!wh_message_verify(source.scheme, &received, source.keys, source.key_count, &covered))
		refuse_signature();
	message.payload = read_payload(body);
	message.id = find_id(&message, covered);
	check_id(&message);
	message.event_type = find_event_type(&message);

	SPI_connect();
	is_new = store(&message);
	SPI_finish();
	if (is_new)
		apply(&message);
	return make_result(fcinfo, &message, is_new);
}

Datum
wh_sql_receive_text(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(receive(fcinfo, wh_body_text(fcinfo, BODY)));
}

Datum
wh_sql_receive_bytea(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(receive(fcinfo, wh_body_bytea(fcinfo, BODY)));
}
