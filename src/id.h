/*
 * Ids: new ones, from the clock and the system's randomness, as text, and copied.
 */
#ifndef WH_ID_H
#define WH_ID_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/uuid.h"

/*
 * A UUIDv7. Each is greater than all that this server made before, however fast they follow. *at,
 * unless NULL, gets the time that the id tells, which is now or, while ids are made faster than the
 * clock ticks, a little later.
 */
extern pg_uuid_t wh_new_id(TimestampTz *at);

/* As text, palloc'd. */
extern char *wh_uuid_text(const pg_uuid_t *id);

extern pg_uuid_t *wh_uuid_copy(const pg_uuid_t *id);

#endif
