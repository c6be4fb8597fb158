/*
 * Secrets are stored as they are.
 */
#include "postgres.h"

#include "secret.h"
#include "utils/builtins.h"

char *
wh_secret_owner(const char *what, const pg_uuid_t *id, const char *purpose)
{
	return psprintf("%s %s %s", what,
					DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id))), purpose);
}

WhSealed
wh_secret_seal(const char *secret, const char *owner)
{
	return (WhSealed)
	{
		.text = pstrdup(secret)
	};
}

char *
wh_secret_open(const WhSealed *sealed, const char *owner, const char **reason)
{
	if (sealed->key_id == NULL)
		return pstrdup(sealed->text);
	*reason = "it is encrypted with an unknown key";
	return NULL;
}
