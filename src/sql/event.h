/*
 * Events on their way into the tables: what dispatch, and whatever else makes events in a session,
 * has in common. One dispatcher writes any number of them, with the tables opened once.
 */
#ifndef WH_SQL_EVENT_H
#define WH_SQL_EVENT_H

#include "postgres.h"

#include "utils/array.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

/* An event whose arguments have been judged. What it points to is the caller's. */
typedef struct WhEvent
{
	const char *event_type;
	const char *tenant_id;
	const char *ordering_key;	/* NULL: none */
	Datum		payload;		/* jsonb */
	ArrayType  *endpoint_ids;	/* just these, whatever they subscribed to; NULL: the subscribers */
	TimestampTz occurred_at;	/* DT_NOBEGIN: now */
	TimestampTz deliver_at;		/* DT_NOBEGIN, or past: now */
	TimestampTz expires_at;		/* DT_NOBEGIN: never */
	const char *coalesce_key;	/* NULL: none */
} WhEvent;

typedef struct WhDispatcher WhDispatcher;

/*
 * Opens the tables; everything it needs is allocated in the current context. Ends with
 * wh_dispatch_end, or with the transaction on an error.
 */
extern WhDispatcher *wh_dispatch_begin(void);

/*
 * Writes the event and a queue row for each endpoint that takes it, and has their workers woken when
 * the transaction commits. Returns the event's id. What the event points to, and the current memory
 * context, must stay until wh_dispatch_flush or wh_dispatch_end. Raises 22023 or P0002 for a named
 * endpoint that is NULL or not the tenant's.
 */
extern pg_uuid_t wh_dispatch_add(WhDispatcher *dispatcher, const WhEvent *event);

/* Writes what is not written yet; what was added may go then. */
extern void wh_dispatch_flush(WhDispatcher *dispatcher);

/* Flushes and closes. */
extern void wh_dispatch_end(WhDispatcher *dispatcher);

#endif
