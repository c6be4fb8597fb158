/*
 * Idempotency keys: the second dispatch with a key, within webhooks.idempotency_window, is the
 * first.
 */
#ifndef WH_SQL_IDEMPOTENCY_H
#define WH_SQL_IDEMPOTENCY_H

#include "postgres.h"

#include "utils/timestamp.h"
#include "utils/uuid.h"

/* Whether the key was used, as far as this transaction sees; then *event_id is that event's. */
extern bool wh_idempotency_find(const char *tenant_id, const char *key, pg_uuid_t *event_id);

/*
 * Enters the key for the event. False: another event has it, whose id is in *event_id now. Waits
 * for a transaction that uses the same key: if that is rolled back, the key is free. In REPEATABLE
 * READ and above, a key that was used after the snapshot was taken is a serialization failure.
 */
extern bool wh_idempotency_claim(const char *tenant_id, const char *key, TimestampTz now,
								 pg_uuid_t *event_id);

#endif
