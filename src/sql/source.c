/*
 * Sources and their handlers: written by functions that act as the extension's owner, read by
 * receive for whoever calls it.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "secret.h"
#include "sql/filter.h"
#include "sql/message.h"
#include "sql/options.h"
#include "sql/scheme.h"
#include "sql/session.h"
#include "sql/source.h"
#include "tables.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#define SOURCE_NAME_MAX 128			/* bytes */
#define PATTERN_MAX 256			/* bytes */

PG_FUNCTION_INFO_V1(wh_sql_add_source);
PG_FUNCTION_INFO_V1(wh_sql_rotate_source_secret);
PG_FUNCTION_INFO_V1(wh_sql_remove_source);
PG_FUNCTION_INFO_V1(wh_sql_on_event);

/* Both may contain blanks: the tenant's length tells where its name ends. */
static char *
secret_owner(const char *tenant_id, const char *name)
{
	return psprintf("source %zu %s %s", strlen(tenant_id), tenant_id, name);
}

static void
refuse_scheme(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("source \"%s\" has an unknown scheme", name)));
}


/* ---- reading ---- */

/* The first text columns of a table's index. */
static SysScanDesc
begin_scan(Relation rel, const char *index, Snapshot snapshot, const char *tenant_id,
		   const char *name)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(tenant_id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(name));
	return systable_beginscan(rel, wh_table(index), true, snapshot, 2, keys);
}

static char *
text_column(HeapTuple tuple, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		datum = heap_getattr(tuple, column, desc, &isnull);

	return isnull ? NULL : TextDatumGetCString(datum);
}

static bool
is_over(HeapTuple secret, TupleDesc desc)
{
	bool		isnull;
	Datum		expires_at = heap_getattr(secret, SOURCE_SECRETS_EXPIRES_AT, desc, &isnull);

	return !isnull && DatumGetTimestampTz(expires_at) <= GetCurrentTimestamp();
}

static void
read_secret(WhSource *source, HeapTuple tuple, TupleDesc desc)
{
	WhSealed	sealed = {
		text_column(tuple, desc, SOURCE_SECRETS_SECRET),
		text_column(tuple, desc, SOURCE_SECRETS_ENCRYPTION_KEY_ID)
	};
	const char *reason = NULL;
	const char *owner = secret_owner(source->tenant_id, source->name);
	char	   *secret = wh_secret_open(&sealed, owner, &reason);
	WhSecretKey *key;

	source->keys = source->keys ?
		repalloc(source->keys, (source->key_count + 1) * sizeof(WhSecretKey)) :
		palloc(sizeof(WhSecretKey));
	key = &source->keys[source->key_count++];
	if (secret && wh_scheme_key(source->scheme, secret, key) != WH_SECRET_OK)
		reason = "it does not decode";
	wh_secret_wipe(secret);
	if (reason)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a secret of source \"%s\" cannot be read: %s", source->name, reason)));
}

static void
read_secrets(WhSource *source, Snapshot snapshot)
{
	Relation	rel = table_open(wh_table("source_secrets"), AccessShareLock);
	SysScanDesc scan = begin_scan(rel, "source_secrets_tenant_id_source_idx", snapshot,
								  source->tenant_id, source->name);
	TupleDesc	desc = RelationGetDescr(rel);
	HeapTuple	tuple;

	while ((tuple = systable_getnext(scan)) != NULL)
		if (!is_over(tuple, desc))
			read_secret(source, tuple, desc);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

static void
read_source(WhSource *source, HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	Datum		id_path;
	Interval   *tolerance;

	if (!wh_scheme_parse(text_column(tuple, desc, SOURCES_SCHEME), &source->scheme))
		refuse_scheme(source->name);
	tolerance = DatumGetIntervalP(heap_getattr(tuple, SOURCES_TOLERANCE, desc, &isnull));
	source->tolerance_ms = wh_interval_ms(tolerance);
	id_path = heap_getattr(tuple, SOURCES_ID_PATH, desc, &isnull);
	source->id_path = isnull ? NULL : DatumGetJsonPathPCopy(id_path);
}

WhSource
wh_source_read(const char *tenant_id, const char *name)
{
	WhSource	source = {.tenant_id = tenant_id, .name = name};
	Relation	rel = table_open(wh_table("sources"), AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan = begin_scan(rel, "sources_pkey", snapshot, tenant_id, name);
	HeapTuple	tuple = systable_getnext(scan);

	if (tuple == NULL)
		wh_refuse_unknown_name("source", name);
	read_source(&source, tuple, RelationGetDescr(rel));
	systable_endscan(scan);
	read_secrets(&source, snapshot);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return source;
}

/*
 * Event types here are others' and of any spelling: "*" takes them all, none included, "order.*"
 * what begins with "order.", anything else itself.
 */
static bool
matches(const char *pattern, const char *event_type)
{
	size_t		len = strlen(pattern);

	if (strcmp(pattern, "*") == 0)
		return true;
	if (event_type == NULL)
		return false;
	if (len > 2 && strcmp(pattern + len - 2, ".*") == 0)
		return strncmp(pattern, event_type, len - 1) == 0;
	return strcmp(pattern, event_type) == 0;
}

List *
wh_source_handlers(const WhSource *source, const char *event_type)
{
	Relation	rel = table_open(wh_table("source_handlers"), AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan = begin_scan(rel, "source_handlers_pkey", snapshot, source->tenant_id,
								  source->name);
	TupleDesc	desc = RelationGetDescr(rel);
	List	   *handlers = NIL;
	HeapTuple	tuple;

	while ((tuple = systable_getnext(scan)) != NULL)
		if (matches(text_column(tuple, desc, SOURCE_HANDLERS_EVENT_TYPE_PATTERN), event_type))
			handlers = lappend(handlers, text_column(tuple, desc, SOURCE_HANDLERS_HANDLER));
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return handlers;
}


/* ---- writing ---- */

static char *
name_argument(FunctionCallInfo fcinfo, int number, const char *argument, int max)
{
	char	   *name = wh_required_text(fcinfo, number, argument);

	if (name[0] == '\0' || strlen(name) > max)
		wh_refuse(argument, psprintf("must have 1 to %d bytes", max));
	for (const char *c = name; *c; c++)
		if ((unsigned char) *c < ' ' || *c == 0x7F)
			wh_refuse(argument, "must not contain control characters such as a line's end");
	return name;
}

static void
judge_secret(WhScheme scheme, const char *secret)
{
	WhSecretKey key = wh_secret_argument(scheme, secret);

	explicit_bzero(&key, sizeof(key));
}

/* As with endpoints, neither the statement nor its parameters hold the secret itself. */
static void
insert_secret(const char *tenant_id, const char *name, const char *secret)
{
	WhSealed	sealed = wh_secret_seal(secret, secret_owner(tenant_id, name));
	WhArgument	arguments[] = {
		wh_text_argument(tenant_id), wh_text_argument(name),
		wh_text_argument(sealed.text), wh_text_argument(sealed.key_id)
	};

	wh_execute("INSERT INTO webhooks.source_secrets (tenant_id, source, secret, encryption_key_id)"
			   " VALUES ($1, $2, $3, $4)", lengthof(arguments), arguments);
}

/* Of the tenant and name of that key: its scheme. The source is not removed meanwhile. */
static WhScheme
lock_source(const WhArgument *key, const char *name)
{
	WhScheme	scheme;
	bool		isnull;

	if (wh_execute("SELECT scheme FROM webhooks.sources WHERE tenant_id = $1 AND name = $2"
				   " FOR UPDATE", 2, key) == 0)
		wh_refuse_unknown_name("source", name);
	if (!wh_scheme_parse(TextDatumGetCString(wh_result(0, 1, &isnull)), &scheme))
		refuse_scheme(name);
	return scheme;
}

Datum
wh_sql_add_source(PG_FUNCTION_ARGS)
{
	char	   *name = name_argument(fcinfo, 0, "name", SOURCE_NAME_MAX);
	char	   *secret = wh_required_text(fcinfo, 1, "secret");
	WhScheme	scheme = wh_scheme_argument(PG_ARGISNULL(2) ? "" :
											text_to_cstring(PG_GETARG_TEXT_PP(2)));
	char	   *tenant_id = wh_tenant_named_by(fcinfo, 5);
	WhArgument	arguments[] = {
		wh_text_argument(tenant_id), wh_text_argument(name),
		{TEXTOID, CStringGetTextDatum(wh_scheme_name(scheme))},
		{INTERVALOID, PG_GETARG_DATUM(3)}, {JSONPATHOID, PG_GETARG_DATUM(4), PG_ARGISNULL(4)}
	};

	judge_secret(scheme, secret);
	(void) wh_tolerance_argument(fcinfo, 3);
	if (!PG_ARGISNULL(4))
		wh_path_check("id_path", PG_GETARG_JSONPATH_P(4));

	SPI_connect();
	if (wh_execute("INSERT INTO webhooks.sources (tenant_id, name, scheme, tolerance, id_path)"
				   " VALUES ($1, $2, $3, $4, $5)"
				   " ON CONFLICT DO NOTHING", lengthof(arguments), arguments) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("source \"%s\" exists already", name),
				 errhint("webhooks.rotate_source_secret gives it another secret; to change "
						 "anything else, remove it first with webhooks.remove_source.")));
	insert_secret(tenant_id, name, secret);
	SPI_finish();
	PG_RETURN_VOID();
}

Datum
wh_sql_rotate_source_secret(PG_FUNCTION_ARGS)
{
	char	   *name = name_argument(fcinfo, 0, "name", SOURCE_NAME_MAX);
	char	   *secret = wh_required_text(fcinfo, 1, "secret");
	char	   *tenant_id = wh_tenant_named_by(fcinfo, 3);
	WhArgument	arguments[] = {
		wh_text_argument(tenant_id), wh_text_argument(name),
		{INTERVALOID, wh_overlap_argument(fcinfo, 2)}
	};

	SPI_connect();
	judge_secret(lock_source(arguments, name), secret);

	/* one that already expires sooner keeps its time */
	wh_execute("UPDATE webhooks.source_secrets SET expires_at = least(expires_at, now() + $3)"
			   " WHERE tenant_id = $1 AND source = $2", lengthof(arguments), arguments);
	insert_secret(tenant_id, name, secret);
	SPI_finish();
	PG_RETURN_VOID();
}

Datum
wh_sql_remove_source(PG_FUNCTION_ARGS)
{
	char	   *name = name_argument(fcinfo, 0, "name", SOURCE_NAME_MAX);
	WhArgument	arguments[] = {
		{TEXTOID, CStringGetTextDatum(wh_tenant_named_by(fcinfo, 1))},
		wh_text_argument(name)
	};

	SPI_connect();
	if (wh_execute("DELETE FROM webhooks.sources WHERE tenant_id = $1 AND name = $2",
				   2, arguments) == 0)
		wh_refuse_unknown_name("source", name);
	wh_execute("DELETE FROM webhooks.source_secrets WHERE tenant_id = $1 AND source = $2",
			   2, arguments);
	wh_execute("DELETE FROM webhooks.source_handlers WHERE tenant_id = $1 AND source = $2",
			   2, arguments);
	SPI_finish();
	PG_RETURN_VOID();
}

static void
check_handler(Oid handler)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(handler));
	Form_pg_proc proc;

	if (!HeapTupleIsValid(tuple))
		wh_refuse("handler", "does not exist");
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	if (proc->prokind != PROKIND_FUNCTION || proc->proretset || proc->prorettype != VOIDOID ||
		proc->pronargs != 3 || proc->proargtypes.values[0] != TEXTOID ||
		proc->proargtypes.values[1] != TEXTOID || proc->proargtypes.values[2] != JSONBOID)
		wh_refuse("handler", "must be a function (message_id text, event_type text, payload jsonb) "
				  "that returns void");
	if (proc->proisstrict)
		wh_refuse("handler", "must not be STRICT: a message without a type, or that is no JSON, "
				  "would be passed over");
	ReleaseSysCache(tuple);
}

Datum
wh_sql_on_event(PG_FUNCTION_ARGS)
{
	char	   *source = name_argument(fcinfo, 0, "source", SOURCE_NAME_MAX);
	char	   *pattern = name_argument(fcinfo, 1, "event_type_pattern", PATTERN_MAX);
	char	   *star = strchr(pattern, '*');
	WhArgument	arguments[4] = {
		{TEXTOID, CStringGetTextDatum(wh_tenant_named_by(fcinfo, 3))},
		wh_text_argument(source), wh_text_argument(pattern)
	};

	if (star && (star[1] != '\0' || (star > pattern && (star == pattern + 1 || star[-1] != '.'))))
		wh_refuse("event_type_pattern", "must be an event type, \"*\", or \"order.*\"");
	if (!PG_ARGISNULL(2))
	{
		char	   *handler;

		check_handler(PG_GETARG_OID(2));
		handler = format_procedure_qualified(PG_GETARG_OID(2));
		arguments[3] = wh_text_argument(handler);
	}

	SPI_connect();
	(void) lock_source(arguments, source);
	wh_execute("DELETE FROM webhooks.source_handlers"
			   " WHERE tenant_id = $1 AND source = $2 AND event_type_pattern = $3", 3, arguments);
	if (!PG_ARGISNULL(2))
		wh_execute("INSERT INTO webhooks.source_handlers"
				   " (tenant_id, source, event_type_pattern, handler) VALUES ($1, $2, $3, $4)",
				   4, arguments);
	SPI_finish();
	PG_RETURN_VOID();
}
