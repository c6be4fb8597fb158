/*
 * Dispatch order is commit order: for events of one ordering key, for the deliveries of an endpoint
 * that wants all of them in order, and for deliveries that replace each other.
 */
#ifndef WH_SQL_ORDER_H
#define WH_SQL_ORDER_H

#include "postgres.h"

#include "sql/subscription.h"

/* What webhooks.lane makes of a key. */
extern uint64 wh_hash_ordering_key(const char *ordering_key);

/*
 * Waits until every other transaction that dispatched to the same order has ended, and keeps others
 * from it until this one has. ordering_key may be NULL.
 */
extern void wh_lock_order(const char *tenant_id, const char *ordering_key,
						  const WhSubscriber *subscribers, int count);

/* The same for a key alone, but false instead of waiting. */
extern bool wh_try_lock_order(const char *tenant_id, const char *ordering_key);

/* The same for the events of one coalesce_key. */
extern void wh_lock_coalescing(const char *tenant_id, const char *coalesce_key);

/*
 * Keeps a target of dispatch_to_urls from being removed until the transaction has ended; waits
 * while one that removes it is under way.
 */
extern void wh_lock_target(const pg_uuid_t *endpoint_id);

/* For whoever removes it. False: a transaction that dispatches to it has not ended. */
extern bool wh_lock_target_away(const pg_uuid_t *endpoint_id);

#endif
