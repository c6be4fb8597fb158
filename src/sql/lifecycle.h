/*
 * An endpoint that is there already.
 */
#ifndef WH_SQL_LIFECYCLE_H
#define WH_SQL_LIFECYCLE_H

#include "postgres.h"

#include "utils/uuid.h"

typedef struct WhLockedEndpoint
{
	char	   *state;
	char	   *tenant_id;
	char	   *url;
	bool		registered;		/* false: a target of dispatch_to_urls */
} WhLockedEndpoint;

/*
 * What is to be known of an endpoint of the session's tenant, its row locked; raises P0002 when
 * there is none. Connected to SPI.
 */
extern WhLockedEndpoint wh_lock_endpoint_row(const pg_uuid_t *endpoint_id);

/* The same, its state alone. */
extern char *wh_lock_endpoint(const pg_uuid_t *endpoint_id);

/* Raises P0002 in the same cases; locks nothing. */
extern void wh_find_endpoint(const pg_uuid_t *endpoint_id);

#endif
