/*
 * The secrets with which an endpoint signs.
 */
#ifndef WH_SQL_SIGNING_SECRET_H
#define WH_SQL_SIGNING_SECRET_H

#include "postgres.h"

#include "sql/scheme.h"
#include "utils/uuid.h"

/* The caller is connected to SPI. */
extern void wh_insert_secrets(const pg_uuid_t *endpoint_id, const WhSecrets *secrets);

/*
 * After a change of signature_schemes: makes a secret of a kind that the endpoint has none of and
 * now needs; rotate_secret and public_key tell it. The caller has the endpoint's row locked and is
 * connected to SPI.
 */
extern void wh_complete_secrets(const pg_uuid_t *endpoint_id, uint32 schemes);

#endif
