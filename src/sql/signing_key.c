/*
 * A key never changes: what is queued with it is signed with it, however late. It is replaced by
 * adding another, under another name, and retiring it.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "secret.h"
#include "sql/session.h"
#include "sql/signing_key.h"
#include "sql/scheme.h"
#include "tables.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#define KEY_ID_MAX 64			/* characters */

PG_FUNCTION_INFO_V1(wh_sql_add_signing_key);
PG_FUNCTION_INFO_V1(wh_sql_retire_signing_key);

/* Below the executor: dispatch_to_urls runs as its caller, who may not read the table. */
void
wh_signing_key_check(const char *tenant_id, const char *key_id)
{
	Relation	rel = table_open(wh_table("signing_keys"), AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool		active = false;
	bool		found;
	SysScanDesc scan;
	HeapTuple	tuple;
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], SIGNING_KEYS_TENANT_ID, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(tenant_id));
	ScanKeyInit(&keys[1], SIGNING_KEYS_KEY_ID, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(key_id));
	scan = systable_beginscan(rel, wh_table("signing_keys_pkey"), true, snapshot, lengthof(keys),
							  keys);
	tuple = systable_getnext(scan);
	found = tuple != NULL;
	if (found)
		(void) heap_getattr(tuple, SIGNING_KEYS_RETIRED_AT, RelationGetDescr(rel), &active);
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);

	if (!found)
		wh_refuse_unknown_name("signing key", key_id);
	if (!active)
		wh_refuse("signing_key_id", psprintf("names a retired key: \"%s\"", key_id));
}

static char *
key_id_argument(FunctionCallInfo fcinfo)
{
	char	   *key_id;

	if (PG_ARGISNULL(0))
		wh_refuse("key_id", "must not be NULL");
	key_id = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (key_id[0] == '\0' || strlen(key_id) > KEY_ID_MAX ||
		key_id[strspn(key_id, "0123456789abcdefghijklmnopqrstuvwxyz"
					  "ABCDEFGHIJKLMNOPQRSTUVWXYZ._-")] != '\0')
		wh_refuse("key_id", psprintf("must have 1 to %d letters, digits, \".\", \"_\" and \"-\"",
									 KEY_ID_MAX));
	return key_id;
}

Datum
wh_sql_add_signing_key(PG_FUNCTION_ARGS)
{
	char	   *key_id = key_id_argument(fcinfo);
	char	   *tenant_id = wh_tenant_named_by(fcinfo, 2);
	WhSecrets	secrets = wh_secrets_for_schemes(WH_SCHEME_BIT(WH_SCHEME_V1),
												 wh_given_text(fcinfo, 1));
	char	   *secret = secrets.shared;
	text	   *result = cstring_to_text(secret);
	WhSealed	sealed = wh_secret_seal(secret, psprintf("signing_key %s %s", tenant_id, key_id));
	WhArgument	arguments[] = {
		wh_text_argument(tenant_id), wh_text_argument(key_id),
		wh_text_argument(sealed.text), wh_text_argument(sealed.key_id)
	};

	SPI_connect();
	if (wh_execute("INSERT INTO webhooks.signing_keys"
				   " (tenant_id, key_id, secret, encryption_key_id)"
				   " VALUES ($1, $2, $3, $4) ON CONFLICT (tenant_id, key_id) DO NOTHING",
				   lengthof(arguments), arguments) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("signing key \"%s\" exists already", key_id),
				 errhint("A key does not change: add one with another key_id, "
						 "and retire this one.")));
	SPI_finish();
	PG_RETURN_TEXT_P(result);
}

Datum
wh_sql_retire_signing_key(PG_FUNCTION_ARGS)
{
	char	   *key_id = key_id_argument(fcinfo);
	char	   *tenant_id = wh_tenant_named_by(fcinfo, 1);
	WhArgument	arguments[] = {
		wh_text_argument(tenant_id), wh_text_argument(key_id)
	};

	SPI_connect();
	if (wh_execute("UPDATE webhooks.signing_keys SET retired_at = coalesce(retired_at, now())"
				   " WHERE tenant_id = $1 AND key_id = $2", lengthof(arguments), arguments) == 0)
		wh_refuse_unknown_name("signing key", key_id);
	SPI_finish();
	PG_RETURN_VOID();
}
