/*
 * Deliveries that a later one with the same coalesce_key replaces.
 */
#ifndef WH_SQL_COALESCE_H
#define WH_SQL_COALESCE_H

#include "postgres.h"

#include "sql/subscription.h"
#include "utils/relcache.h"
#include "utils/timestamp.h"

/* What replaces them. */
typedef struct WhCoalescing
{
	const char *tenant_id;
	const char *coalesce_key;
	pg_uuid_t	event_id;
	TimestampTz now;
} WhCoalescing;

/*
 * Cancels the deliveries with the key to these endpoints that have not been attempted and are not
 * in flight, and has the workers told at commit where that may let another go. Whatever this
 * transaction queued must be in the table. The caller holds the lock of wh_lock_coalescing.
 */
extern void wh_coalesce(const WhCoalescing *coalescing, Relation queue,
						const WhSubscriber *subscribers, int count);

#endif
