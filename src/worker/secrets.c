/*
 * By a statement of its own: joined to the options, each secret would bring them once more, or need
 * a subquery for each endpoint.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "worker/secrets.h"
#include "worker/statement.h"

/* The columns of secrets_statement. */
enum
{
	POSITION = 1, KIND, SECRET, ENCRYPTION_KEY_ID, EXPIRES_AT
};

static WhStatement secrets_statement = {
	"SELECT n, s.kind, s.secret, s.encryption_key_id, coalesce(s.expires_at, 'infinity')"
	" FROM unnest($1) WITH ORDINALITY p(endpoint_id, n)"
	" JOIN webhooks.endpoint_secrets s ON s.endpoint_id = p.endpoint_id"
	" ORDER BY n, s.expires_at DESC NULLS FIRST, s.created_at DESC",
	1, {UUIDARRAYOID}
};

static WhEndpointSecret *
read_secret(HeapTuple row)
{
	WhEndpointSecret *secret = palloc(sizeof(WhEndpointSecret));
	bool		isnull;
	Datum		key_id = wh_column(row, ENCRYPTION_KEY_ID, &isnull);

	secret->kind = TextDatumGetCString(wh_value(row, KIND));
	secret->sealed.text = TextDatumGetCString(wh_value(row, SECRET));
	secret->sealed.key_id = isnull ? NULL : TextDatumGetCString(key_id);
	secret->expires_at = DatumGetTimestampTz(wh_value(row, EXPIRES_AT));
	return secret;
}

List **
wh_endpoint_secrets_read(Datum endpoint_ids, int count)
{
	List	  **secrets = palloc0(count * sizeof(List *));

	wh_statement_execute(&secrets_statement, &endpoint_ids, true, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		List	  **of_endpoint = &secrets[DatumGetInt64(wh_value(row, POSITION)) - 1];

		*of_endpoint = lappend(*of_endpoint, read_secret(row));
	}
	return secrets;
}

const WhEndpointSecret *
wh_endpoint_secret_find(List *secrets, const char *kind)
{
	ListCell   *cell;

	foreach(cell, secrets)
	{
		const WhEndpointSecret *secret = lfirst(cell);

		if (strcmp(secret->kind, kind) == 0)
			return secret;
	}
	return NULL;
}

char *
wh_endpoint_secret_open(const pg_uuid_t *endpoint_id, const WhEndpointSecret *secret,
						const char **reason)
{
	return wh_secret_open(&secret->sealed, secret->sealed.key_id ?
						  wh_secret_owner("endpoint", endpoint_id, secret->kind) : NULL, reason);
}
