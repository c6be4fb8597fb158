/*
 * Keys that several targets sign with, by a name that dispatch_to_urls is given.
 */
#ifndef WH_SQL_SIGNING_KEY_H
#define WH_SQL_SIGNING_KEY_H

#include "postgres.h"

/* Raises P0002 when the tenant has no such key, 22023 when it is retired. */
extern void wh_signing_key_check(const char *tenant_id, const char *key_id);

#endif
