/*
 * What an endpoint signs with: given or generated, and rotated.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/signature.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "sql/endpoint_secret.h"
#include "sql/lifecycle.h"
#include "sql/options.h"
#include "sql/session.h"
#include "sql/signing_secret.h"
#include "sql/target.h"
#include "utils/builtins.h"

#define NEW_SECRET_BYTES 32

PG_FUNCTION_INFO_V1(wh_sql_rotate_secret);

static void
check_secret(const char *secret)
{
	WhSecretKey key;

	switch (wh_secret_decode(secret, &key))
	{
		case WH_SECRET_OK:
			break;
		case WH_SECRET_NO_PREFIX:
			wh_refuse("secret", "must begin with \"" WH_SECRET_PREFIX "\"");
		case WH_SECRET_NOT_BASE64:
			wh_refuse("secret", "must be base64 after \"" WH_SECRET_PREFIX "\"");
		case WH_SECRET_TOO_SHORT:
			wh_refuse("secret",
					  psprintf("must have at least %d bytes when decoded", WH_SECRET_MIN_BYTES));
		case WH_SECRET_TOO_LONG:
			wh_refuse("secret",
					  psprintf("must have at most %d bytes when decoded", WH_SECRET_MAX_BYTES));
	}
	explicit_bzero(&key, sizeof(key));
}

static char *
new_secret(void)
{
	char	   *text = palloc(WH_SECRET_TEXT_SIZE);
	WhSecretKey key = {.len = NEW_SECRET_BYTES};

	if (!pg_strong_random(key.bytes, key.len))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate a secret")));
	wh_secret_encode(&key, text);
	explicit_bzero(&key, sizeof(key));
	return text;
}

char *
wh_given_or_new_secret(FunctionCallInfo fcinfo, int number)
{
	char	   *secret;

	if (PG_ARGISNULL(number))
		return new_secret();
	secret = text_to_cstring(PG_GETARG_TEXT_PP(number));
	check_secret(secret);
	return secret;
}

void
wh_insert_secret(const pg_uuid_t *endpoint_id, const char *secret)
{
	wh_endpoint_secret_add(endpoint_id, "signing", secret);
}

Datum
wh_sql_rotate_secret(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *endpoint_id = wh_uuid_argument(fcinfo, 0, "endpoint_id");
	WhArgument	retire[] = {{UUIDOID, UUIDPGetDatum(endpoint_id)}, {INTERVALOID}};
	char	   *secret;

	if (PG_ARGISNULL(1) || wh_interval_ms(PG_GETARG_INTERVAL_P(1)) < 0)
		wh_refuse("overlap", "must not be negative or NULL");
	retire[1].value = PG_GETARG_DATUM(1);
	secret = wh_given_or_new_secret(fcinfo, 2);

	SPI_connect();
	(void) wh_lock_endpoint(endpoint_id);
	wh_refuse_target(endpoint_id);

	/* one that already expires sooner keeps its time */
	wh_execute("UPDATE webhooks.endpoint_secrets SET expires_at = least(expires_at, now() + $2)"
			   " WHERE endpoint_id = $1 AND kind = 'signing'",
			   2, retire);
	wh_insert_secret(endpoint_id, secret);
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text(secret));
}
