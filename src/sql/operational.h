/*
 * Operational events: what happens to endpoints and deliveries, told to the tenant's endpoints that
 * ask for it by name, and by NOTIFY to whoever listens.
 */
#ifndef WH_SQL_OPERATIONAL_H
#define WH_SQL_OPERATIONAL_H

#include "postgres.h"

#include "sql/lifecycle.h"
#include "utils/uuid.h"

/* The endpoint was disabled by hand, in this transaction. Connected to SPI. */
extern void wh_operational_disabled(const pg_uuid_t *endpoint_id, const WhLockedEndpoint *endpoint,
									const char *reason);

#endif
