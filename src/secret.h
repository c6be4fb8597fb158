/*
 * Secrets as they stand in the tables: signing secrets, private keys, Authorization values. They
 * are encrypted with the key that the settings name; without one they stand there as they are.
 *
 * The keys are kept in the process's memory, and read again after a reload.
 */
#ifndef WH_SECRET_H
#define WH_SECRET_H

#include "postgres.h"

#include "utils/uuid.h"

/* What is stored of a secret, in the current memory context. */
typedef struct WhSealed
{
	char	   *text;			/* the column with the secret */
	char	   *key_id;			/* the column encryption_key_id; NULL: stored as it is */
} WhSealed;

/*
 * What a secret is bound to: "endpoint <id> signing", for example. purpose is the kind of secret
 * that it is to its owner. In the current memory context.
 */
extern char *wh_secret_owner(const char *what, const pg_uuid_t *id, const char *purpose);

/*
 * Seals a secret for the row that owns it: owner is what it is bound to ("endpoint <id> signing",
 * for example), and must be given again to open it, so that a secret moved to another row does not
 * open. Raises 55000 when the settings name a key that cannot be had.
 */
extern WhSealed wh_secret_seal(const char *secret, const char *owner);

/*
 * The secret, in the current memory context; the caller wipes it when done with it. NULL when it
 * cannot be opened (an unknown key, another owner, damage), with *reason a static text that tells
 * nothing of it. Raises nothing on that account. owner may be NULL for one that is stored as it is.
 */
extern char *wh_secret_open(const WhSealed *sealed, const char *owner, const char **reason);

/*
 * The reason when no key can be had at all, which the log has told of (once a minute): there is no
 * need to tell it for each secret.
 */
extern const char *const wh_secret_no_key;

/* Wipes a secret that is a string. NULL is allowed. */
extern void wh_secret_wipe(char *secret);

/*
 * The id of the key that seals now; NULL when secrets are stored as they are. Raises 55000 as
 * wh_secret_seal does.
 */
extern const char *wh_secret_current_key(void);

#endif
