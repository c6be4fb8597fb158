/*
 * What an endpoint signs with: rotated, completed, and told as far as it is public.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "id.h"
#include "secret.h"
#include "sql/endpoint_secret.h"
#include "sql/lifecycle.h"
#include "sql/options.h"
#include "sql/session.h"
#include "sql/signing_secret.h"
#include "sql/target.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(wh_sql_rotate_secret);
PG_FUNCTION_INFO_V1(wh_sql_public_key);

static void
insert(const pg_uuid_t *endpoint_id, const char *secret)
{
	if (secret)
		wh_endpoint_secret_add(endpoint_id, "signing", secret);
}

void
wh_insert_secrets(const pg_uuid_t *endpoint_id, const WhSecrets *secrets)
{
	insert(endpoint_id, secrets->shared);
	insert(endpoint_id, secrets->pair);
}

/* The endpoint's signature_schemes. */
static uint32
read_schemes(const pg_uuid_t *endpoint_id)
{
	WhArgument	argument = {UUIDOID, UUIDPGetDatum(endpoint_id)};
	Datum		schemes;
	bool		isnull;

	wh_execute("SELECT signature_schemes FROM webhooks.endpoints WHERE endpoint_id = $1", 1,
			   &argument);
	schemes = wh_result(0, 1, &isnull);
	return wh_schemes_argument(DatumGetArrayTypeP(schemes));
}

/* The secret of the current row, opened; NULL, with the reason, when it cannot be. */
static char *
open_row(const pg_uuid_t *endpoint_id, HeapTuple row, TupleDesc desc, const char **reason)
{
	WhSealed	sealed = {SPI_getvalue(row, desc, 1), SPI_getvalue(row, desc, 2)};

	return wh_secret_open(&sealed, wh_secret_owner("endpoint", endpoint_id, "signing"), reason);
}

/* The current secrets, of each kind one or none. Raises 55000 when one cannot be opened. */
static WhSecrets
read_secrets(const pg_uuid_t *endpoint_id)
{
	WhArgument	argument = {UUIDOID, UUIDPGetDatum(endpoint_id)};
	WhSecrets	secrets = {NULL, NULL};
	SPITupleTable *table;

	wh_execute("SELECT secret, encryption_key_id FROM webhooks.endpoint_secrets"
			   " WHERE endpoint_id = $1 AND kind = 'signing' AND expires_at IS NULL", 1, &argument);
	table = SPI_tuptable;
	for (uint64 i = 0; i < table->numvals; i++)
	{
		const char *reason = NULL;
		char	   *secret = open_row(endpoint_id, table->vals[i], table->tupdesc, &reason);

		if (secret == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("a secret of endpoint %s cannot be read: %s",
							wh_uuid_text(endpoint_id), reason)));
		if (wh_key_is_ed25519(secret))
			secrets.pair = secret;
		else
			secrets.shared = secret;
	}
	return secrets;
}

void
wh_complete_secrets(const pg_uuid_t *endpoint_id, uint32 schemes)
{
	WhSecrets	there = read_secrets(endpoint_id);
	WhSecrets	wanted = wh_secrets_for_schemes(schemes, NULL);

	wh_schemes_check_shared(schemes, &there);

	/* rfc9421 takes what there is */
	if (schemes == WH_SCHEME_BIT(WH_SCHEME_RFC9421) && (there.shared || there.pair))
		return;
	insert(endpoint_id, there.shared ? NULL : wanted.shared);
	insert(endpoint_id, there.pair ? NULL : wanted.pair);
}

Datum
wh_sql_rotate_secret(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *endpoint_id = wh_uuid_argument(fcinfo, 0, "endpoint_id");
	WhArgument	retire[] = {{UUIDOID, UUIDPGetDatum(endpoint_id)}, {INTERVALOID}};
	MemoryContext caller = CurrentMemoryContext;
	WhSecrets	secrets;
	char	   *told;

	retire[1].value = wh_overlap_argument(fcinfo, 1);

	SPI_connect();
	(void) wh_lock_endpoint(endpoint_id);
	wh_refuse_target(endpoint_id);
	secrets = wh_secrets_for_schemes(read_schemes(endpoint_id), wh_given_text(fcinfo, 2));

	/* one that already expires sooner keeps its time */
	wh_execute("UPDATE webhooks.endpoint_secrets SET expires_at = least(expires_at, now() + $2)"
			   " WHERE endpoint_id = $1 AND kind = 'signing'",
			   2, retire);
	wh_insert_secrets(endpoint_id, &secrets);
	told = wh_secrets_told(&secrets);
	if (told)
		told = MemoryContextStrdup(caller, told);
	SPI_finish();
	if (told == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(told));
}

Datum
wh_sql_public_key(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *endpoint_id = wh_uuid_argument(fcinfo, 0, "endpoint_id");
	char		text[WH_SECRET_TEXT_SIZE];
	WhSecretKey key;
	char	   *pair;

	SPI_connect();
	wh_find_endpoint(endpoint_id);
	pair = read_secrets(endpoint_id).pair;
	if (pair == NULL || wh_key_decode_ed25519(pair, &key) != WH_SECRET_OK)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("endpoint %s has no public key", wh_uuid_text(endpoint_id)),
				 errhint("One that signs v1a has, or rfc9421 with a secret that begins with "
						 "\"%s\".",
						 WH_PRIVATE_PREFIX)));
	wh_key_encode_public(&key, text);
	explicit_bzero(&key, sizeof(key));
	wh_secret_wipe(pair);
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text(text));
}
