/*
 * Signature schemes and their secrets, as the SQL functions take them.
 */
#ifndef WH_SQL_SCHEME_H
#define WH_SQL_SCHEME_H

#include "postgres.h"

#include "core/signature.h"
#include "utils/array.h"

/* The scheme that signs or verifies one message; raises 22023 for none or an unknown one. */
extern WhScheme wh_scheme_argument(const char *name);

/* The key that the secret is for the scheme; raises 22023 with the rule it breaks. */
extern WhSecretKey wh_secret_argument(WhScheme scheme, const char *secret);

/*
 * An endpoint's signature_schemes, as WH_SCHEME_BIT of each; raises 22023. What is none signs
 * nothing and stands alone.
 */
extern uint32 wh_schemes_argument(ArrayType *names);

/*
 * What an endpoint signs with. Its v1a signs with a key pair, its other schemes with a shared
 * secret, and rfc9421 with whichever there is; one with both kinds of scheme has both.
 */
typedef struct WhSecrets
{
	char	   *shared;			/* NULL: none is needed */
	char	   *pair;			/* the same */
} WhSecrets;

/*
 * The given secret, NULL for none, and new ones for what else the schemes need; raises 22023 when
 * the given one is not for them.
 */
extern WhSecrets wh_secrets_for_schemes(uint32 schemes, const char *given);

/* Raises 22023 when the shared secret is not one that the schemes can sign with. */
extern void wh_schemes_check_shared(uint32 schemes, const WhSecrets *secrets);

/*
 * What is told to whoever asked: the shared secret, which a receiver needs, or else the pair, of
 * which the public half is all that a receiver needs. NULL when nothing is signed.
 */
extern char *wh_secrets_told(const WhSecrets *secrets);

#endif
