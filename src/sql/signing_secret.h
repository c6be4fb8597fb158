/*
 * The secret with which an endpoint signs.
 */
#ifndef WH_SQL_SIGNING_SECRET_H
#define WH_SQL_SIGNING_SECRET_H

#include "postgres.h"

#include "fmgr.h"
#include "utils/uuid.h"

/* The secret argument, judged, or a new one when it is NULL. Raises 22023. */
extern char *wh_given_or_new_secret(FunctionCallInfo fcinfo, int number);

/* The caller is connected to SPI. */
extern void wh_insert_secret(const pg_uuid_t *endpoint_id, const char *secret);

#endif
