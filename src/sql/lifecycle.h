/*
 * An endpoint that is there already.
 */
#ifndef WH_SQL_LIFECYCLE_H
#define WH_SQL_LIFECYCLE_H

#include "postgres.h"

#include "utils/uuid.h"

/*
 * The state of an endpoint of the session's tenant, its row locked; raises P0002 when there is
 * none. Connected to SPI.
 */
extern char *wh_lock_endpoint(const pg_uuid_t *endpoint_id);

#endif
