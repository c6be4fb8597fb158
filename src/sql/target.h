/*
 * Targets that nobody registered: URLs that dispatch_to_urls is given.
 *
 * Each is a row of endpoints all the same, so that limits, breaker and the rules for addresses are
 * those of any endpoint. Its id is made of all that tells it from others, so the same URL is the
 * same row every time. It subscribes to nothing, and goes when nothing needs it any more.
 */
#ifndef WH_SQL_TARGET_H
#define WH_SQL_TARGET_H

#include "postgres.h"

#include "utils/array.h"
#include "utils/uuid.h"

/* What a call says of all its targets. */
typedef struct WhTargetOptions
{
	const char *tenant_id;
	const char *signing_key_id; /* NULL: requests are not signed */
	NullableDatum retry_schedule;
} WhTargetOptions;

/*
 * The endpoints that the URLs stand for, as a uuid[], each once; those that are missing are added.
 * Raises 22023 for an argument, or P0002 for the signing key, before anything is written.
 */
extern ArrayType *wh_targets(const WhTargetOptions *options, ArrayType *urls);

/*
 * Raises 55000 when the endpoint is a target, whose options are not to be changed. Connected to
 * SPI.
 */
extern void wh_refuse_target(const pg_uuid_t *endpoint_id);

#endif
