/*
 * Secrets of all tables: sealed anew with the current key, and whether any stands in the clear.
 *
 * Deliveries go on meanwhile: rows are read without a lock, and what somebody has changed by the
 * time it is written is left to them, since they sealed it with the current key themselves.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "key_source.h"
#include "secret.h"
#include "sql/session.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define ROWS_AT_ONCE 1000

PG_FUNCTION_INFO_V1(wh_sql_reencrypt_secrets);
PG_FUNCTION_INFO_V1(wh_sql_unencrypted_secrets);
PG_FUNCTION_INFO_V1(wh_sql_unencrypted_configuration);
PG_FUNCTION_INFO_V1(wh_sql_secrets_encrypted);

/* Where secrets stand. All expressions are SQL over a row of the table. */
typedef struct SecretTable
{
	const char *table;			/* with the columns secret and encryption_key_id */
	const char *owner;			/* what the secret is bound to, as it was given to wh_secret_seal */
	const char *key;			/* a column by which a row is found */
	const char *key_type;
	bool		is_history;		/* perhaps a large table, whose rows go after webhooks.retention */
} SecretTable;

static const SecretTable secret_tables[] = {
	{"webhooks.endpoint_secrets", "'endpoint ' || endpoint_id || ' ' || kind",
	"endpoint_id", "uuid", false},
	{"webhooks.event_secrets", "'event ' || event_id || ' authorization'",
	"event_id", "uuid", true},
	{"webhooks.signing_keys", "'signing_key ' || tenant_id || ' ' || key_id",
	"ctid", "tid", false},
	{"webhooks.source_secrets",
		"'source ' || octet_length(tenant_id) || ' ' || tenant_id || ' ' || source",
	"ctid", "tid", false},
};

/* Seals what the row (secret, key id, owner, key) holds. False: it could not be opened. */
static bool
seal_anew(const SecretTable *t, HeapTuple row, TupleDesc desc, uint64 *sealed_count)
{
	char	   *old = SPI_getvalue(row, desc, 1);
	char	   *owner = SPI_getvalue(row, desc, 3);
	WhSealed	stored = {old, SPI_getvalue(row, desc, 2)};
	const char *reason;
	char	   *secret = wh_secret_open(&stored, owner, &reason);
	WhSealed	sealed;

	if (secret == NULL)
		return false;
	sealed = wh_secret_seal(secret, owner);
	wh_secret_wipe(secret);
	*sealed_count += wh_execute(psprintf("UPDATE %s SET secret = $1, encryption_key_id = $2"
										 " WHERE %s = $5::%s AND %s = $4 AND secret = $3",
										 t->table, t->key, t->key_type, t->owner),
								5, (WhArgument[])
								{
									{TEXTOID, CStringGetTextDatum(sealed.text)},
									{TEXTOID, CStringGetTextDatum(sealed.key_id)},
									{TEXTOID, CStringGetTextDatum(old)},
									{TEXTOID, CStringGetTextDatum(owner)},
									{TEXTOID, CStringGetTextDatum(SPI_getvalue(row, desc, 4))}
								});
	return true;
}

static uint64
seal_table(const SecretTable *t, const char *key_id)
{
	char	   *query = psprintf("SELECT secret, encryption_key_id, %s, %s::text FROM %s"
								 " WHERE encryption_key_id IS DISTINCT FROM $1",
								 t->owner, t->key, t->table);
	Oid			type = TEXTOID;
	Datum		value = CStringGetTextDatum(key_id);
	Portal		rows = SPI_cursor_open_with_args(NULL, query, 1, &type, &value, NULL, true, 0);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "webhooks secrets",
												  ALLOCSET_DEFAULT_SIZES);
	uint64		sealed = 0;
	uint64		unopened = 0;

	for (;;)
	{
		SPITupleTable *batch;

		SPI_cursor_fetch(rows, true, ROWS_AT_ONCE);
		batch = SPI_tuptable;
		if (SPI_processed == 0)
			break;
		for (uint64 i = 0, count = SPI_processed; i < count; i++)
		{
			MemoryContext before = MemoryContextSwitchTo(context);

			unopened += !seal_anew(t, batch->vals[i], batch->tupdesc, &sealed);
			MemoryContextSwitchTo(before);
			MemoryContextReset(context);
		}
		SPI_freetuptable(batch);
	}
	SPI_cursor_close(rows);
	if (unopened > 0)
		ereport(WARNING,
				(errmsg("%llu secrets in %s cannot be opened and stay as they are",
						(unsigned long long) unopened, t->table),
				 errdetail("They are encrypted with a key that is not among those configured, or "
						   "were altered.")));
	return sealed;
}

/* Nothing here is one tenant's alone. */
static void
refuse_tenants(const char *function)
{
	if (wh_session_tenant())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("%s concerns all tenants", function),
				 errdetail("The session is confined to one tenant by webhooks.tenant_id.")));
}

Datum
wh_sql_reencrypt_secrets(PG_FUNCTION_ARGS)
{
	const char *current;
	char	   *key_id;
	uint64		sealed = 0;

	refuse_tenants("reencrypt_secrets");
	current = wh_secret_current_key();
	if (current == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no key is configured"),
				 errhint("Set webhooks.secret_key_file or webhooks.secret_key_command.")));
	key_id = pstrdup(current);

	SPI_connect();
	for (int i = 0; i < lengthof(secret_tables); i++)
		sealed += seal_table(&secret_tables[i], key_id);
	SPI_finish();
	PG_RETURN_INT64(sealed);
}

/* What stands in the clear. */
static int64
count_unencrypted(bool with_history)
{
	int64		count = 0;

	SPI_connect();
	for (int i = 0; i < lengthof(secret_tables); i++)
	{
		const SecretTable *t = &secret_tables[i];
		bool		isnull;

		if (t->is_history && !with_history)
			continue;
		wh_execute(psprintf("SELECT count(*) FROM %s WHERE encryption_key_id IS NULL", t->table),
				   0, NULL);
		count += DatumGetInt64(wh_result(0, 1, &isnull));
	}
	SPI_finish();
	return count;
}

Datum
wh_sql_unencrypted_secrets(PG_FUNCTION_ARGS)
{
	refuse_tenants("unencrypted_secrets");
	PG_RETURN_INT64(count_unencrypted(true));
}

Datum
wh_sql_unencrypted_configuration(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(count_unencrypted(false));
}

Datum
wh_sql_secrets_encrypted(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(wh_key_source_is_set() && count_unencrypted(false) == 0);
}
