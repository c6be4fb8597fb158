/*
 * A secret reaches the table sealed, so neither the statement nor its parameters hold it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/client_certificate.h"
#include "secret.h"
#include "sql/endpoint_secret.h"
#include "sql/session.h"

void
wh_endpoint_secret_add(const pg_uuid_t *endpoint_id, const char *kind, const char *secret)
{
	WhSealed	sealed = wh_secret_seal(secret, wh_secret_owner("endpoint", endpoint_id, kind));
	WhArgument	arguments[] = {
		{UUIDOID, UUIDPGetDatum(endpoint_id)}, wh_text_argument(kind),
		wh_text_argument(sealed.text), wh_text_argument(sealed.key_id)
	};

	wh_execute("INSERT INTO webhooks.endpoint_secrets"
			   " (endpoint_id, kind, secret, encryption_key_id)"
			   " VALUES ($1, $2, $3, $4)", lengthof(arguments), arguments);
}

void
wh_endpoint_secret_replace(const pg_uuid_t *endpoint_id, const char *kind, const char *secret)
{
	WhArgument	arguments[] = {
		{UUIDOID, UUIDPGetDatum(endpoint_id)}, wh_text_argument(kind)
	};

	wh_execute("DELETE FROM webhooks.endpoint_secrets WHERE endpoint_id = $1 AND kind = $2",
			   lengthof(arguments), arguments);
	if (secret)
		wh_endpoint_secret_add(endpoint_id, kind, secret);
}

static void
refuse_pem(const char *argument, const char *rule, const char *reason)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s %s", argument, rule),
			 reason ? errdetail("OpenSSL says: %s.", reason) : 0));
}

void
wh_client_certificate_judge(const char *certificate, const char *key)
{
	const char *reason;

	switch (wh_client_certificate_check(certificate, key, &reason))
	{
		case WH_CERTIFICATE_OK:
			break;
		case WH_CERTIFICATE_TOO_LARGE:
			wh_refuse("client_certificate",
					  psprintf("and client_key must have at most %d bytes each", WH_PEM_MAX));
		case WH_CERTIFICATE_HAS_KEY:
			wh_refuse("client_certificate",
					  "must not contain a private key: it is no secret, client_key is");
		case WH_CERTIFICATE_BAD:
			refuse_pem("client_certificate", "must be one or several certificates in PEM", reason);
			break;
		case WH_CERTIFICATE_CHAIN_TOO_LONG:
			wh_refuse("client_certificate", psprintf("must have at most %d certificates",
													 WH_CERTIFICATE_CHAIN_MAX));
		case WH_CERTIFICATE_KEY_ENCRYPTED:
			wh_refuse("client_key", "must not be encrypted: there is nobody to give the password");
		case WH_CERTIFICATE_KEY_BAD:
			refuse_pem("client_key", "must be a private key in PEM", reason);
			break;
		case WH_CERTIFICATE_KEY_OF_ANOTHER:
			refuse_pem("client_key",
					   "must be the key of client_certificate, the first if there are several",
					   reason);
			break;
	}
}
