/*
 * The secrets of endpoints, written by the functions that take them.
 */
#ifndef WH_SQL_ENDPOINT_SECRET_H
#define WH_SQL_ENDPOINT_SECRET_H

#include "postgres.h"

#include "utils/uuid.h"

/*
 * Seals a secret and adds it to the endpoint's: kind is "signing", "authorization" or "client_key".
 * The caller is connected to SPI. Raises 55000 when the settings name a key that cannot be had.
 */
extern void wh_endpoint_secret_add(const pg_uuid_t *endpoint_id, const char *kind,
								   const char *secret);

/* Instead of all there are of the kind; NULL leaves none. */
extern void wh_endpoint_secret_replace(const pg_uuid_t *endpoint_id, const char *kind,
									   const char *secret);

#endif
