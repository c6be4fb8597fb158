/*
 * What the functions about deliveries share.
 */
#ifndef WH_SQL_DELIVERY_H
#define WH_SQL_DELIVERY_H

#include "postgres.h"

#include "utils/uuid.h"

/*
 * The event and the endpoint of a delivery, wherever it stands; raises P0002 when it is unknown, or
 * another tenant's. Connected to SPI.
 */
extern void wh_find_delivery(const pg_uuid_t *delivery_id, pg_uuid_t *event_id,
							 pg_uuid_t *endpoint_id);

/* Raises P0002 when there is no such event, or it is another tenant's. Connected to SPI. */
extern void wh_find_event(const pg_uuid_t *event_id);

/*
 * Has the workers told, at commit, of the endpoints in the rows of the last statement: endpoint_id,
 * tenant_id, and whether what is first in the endpoint's lanes may have changed.
 */
extern void wh_wake_returned(void);

#endif
