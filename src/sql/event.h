/*
 * Events on their way into the tables: what dispatch, and whatever else makes events in a session,
 * has in common. One dispatcher writes any number of them, with the tables opened once.
 */
#ifndef WH_SQL_EVENT_H
#define WH_SQL_EVENT_H

#include "postgres.h"

#include "sql/header.h"
#include "utils/array.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#define WH_ORDERING_KEY_MAX 512 /* bytes */
#define WH_IDEMPOTENCY_KEY_MAX 255	/* bytes */

/*
 * An event whose arguments have been judged, save for its type and payload, which the catalog may
 * refuse. What it points to is the caller's.
 */
typedef struct WhEvent
{
	const char *event_type;
	const char *tenant_id;
	const char *ordering_key;	/* NULL: none */
	Datum		payload;		/* jsonb; unused with a body */
	ArrayType  *endpoint_ids;	/* just these, whatever they subscribed to; NULL: the subscribers */
	TimestampTz occurred_at;	/* DT_NOBEGIN: now */
	TimestampTz deliver_at;		/* DT_NOBEGIN, or past: now */
	bool		waits_for_nobody;	/* takes no lock of an order: it has its place in it by its id,
									 * but an event whose id was made before may commit after
									 * it */
	TimestampTz expires_at;		/* DT_NOBEGIN: never */
	const char *coalesce_key;	/* NULL: none */
	bytea	   *body;			/* what is sent as it is; NULL: a body is made of the payload */
	const char *content_type;	/* of the body */
	const char *idempotency_key;	/* NULL: none */
	const WhHeaders *headers;	/* NULL: none */
} WhEvent;

/*
 * For an initialiser: an event of now that is due at once and never expires. Zeros are times long
 * past.
 */
#define WH_EVENT_NOW \
	.occurred_at = DT_NOBEGIN, .deliver_at = DT_NOBEGIN, .expires_at = DT_NOBEGIN

typedef struct WhDispatcher WhDispatcher;

/*
 * Opens the tables; everything it needs is allocated in the current context. Ends with
 * wh_dispatch_end, or with the transaction on an error.
 */
extern WhDispatcher *wh_dispatch_begin(void);

/*
 * Writes the event and a queue row for each endpoint that takes it, and has their workers woken
 * when the transaction commits. Returns the event's id, or that of the first with its idempotency
 * key. What the event points to, and the current memory context, must stay until wh_dispatch_flush
 * or wh_dispatch_end. Raises 22023 or P0002 for a named endpoint that is NULL or not the tenant's,
 * and what the catalog, a validator or a transform raises: those functions run as the current user,
 * so that must be whoever dispatches.
 */
extern pg_uuid_t wh_dispatch_add(WhDispatcher *dispatcher, const WhEvent *event);

/*
 * Whether such an event would be written at all: false where no endpoint takes it and those that
 * nobody takes are not stored.
 */
extern bool wh_dispatch_wanted(const char *tenant_id, const char *event_type);

/* Writes what is not written yet; what was added may go then. */
extern void wh_dispatch_flush(WhDispatcher *dispatcher);

/* Flushes and closes. */
extern void wh_dispatch_end(WhDispatcher *dispatcher);

#endif
