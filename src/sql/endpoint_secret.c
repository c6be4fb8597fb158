/*
 * A secret reaches the table sealed, so neither the statement nor its parameters hold it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "secret.h"
#include "sql/endpoint_secret.h"
#include "sql/session.h"
#include "utils/builtins.h"

void
wh_endpoint_secret_add(const pg_uuid_t *endpoint_id, const char *kind, const char *secret)
{
	WhSealed	sealed = wh_secret_seal(secret, wh_secret_owner("endpoint", endpoint_id, kind));
	WhArgument	arguments[] = {
		{UUIDOID, UUIDPGetDatum(endpoint_id)}, {TEXTOID, CStringGetTextDatum(kind)},
		{TEXTOID, CStringGetTextDatum(sealed.text)},
		{TEXTOID, sealed.key_id ? CStringGetTextDatum(sealed.key_id) : (Datum) 0,
		sealed.key_id == NULL}
	};

	wh_execute("INSERT INTO webhooks.endpoint_secrets (endpoint_id, kind, secret, encryption_key_id)"
			   " VALUES ($1, $2, $3, $4)", lengthof(arguments), arguments);
}

void
wh_endpoint_secret_replace(const pg_uuid_t *endpoint_id, const char *kind, const char *secret)
{
	WhArgument	arguments[] = {
		{UUIDOID, UUIDPGetDatum(endpoint_id)}, {TEXTOID, CStringGetTextDatum(kind)}
	};

	wh_execute("DELETE FROM webhooks.endpoint_secrets WHERE endpoint_id = $1 AND kind = $2",
			   lengthof(arguments), arguments);
	if (secret)
		wh_endpoint_secret_add(endpoint_id, kind, secret);
}
