/*
 * Secrets are stored as they are.
 */
#include "postgres.h"

#include "secret.h"

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
