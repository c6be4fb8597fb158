/*
 * The secrets of endpoints, as the worker reads them. Inside a transaction of wh_transact; what is
 * returned is in the current memory context.
 */
#ifndef WH_WORKER_SECRETS_H
#define WH_WORKER_SECRETS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "secret.h"
#include "utils/uuid.h"

typedef struct WhEndpointSecret
{
	char	   *kind;			/* "signing", "authorization" or "client_key" */
	WhSealed	sealed;
	TimestampTz expires_at;		/* DT_NOEND: it is current */
} WhEndpointSecret;

/*
 * Of an array of count endpoint ids, the secrets of each: lists of WhEndpointSecret, the current
 * ones first.
 */
extern List **wh_endpoint_secrets_read(Datum endpoint_ids, int count);

/* The first of its kind; NULL when there is none. */
extern const WhEndpointSecret *wh_endpoint_secret_find(List *secrets, const char *kind);

/* NULL, with the reason, when it cannot be opened. The caller wipes it. */
extern char *wh_endpoint_secret_open(const pg_uuid_t *endpoint_id, const WhEndpointSecret *secret,
									 const char **reason);

#endif
