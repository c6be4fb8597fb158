/*
 * The database side of delivering: reads what is due, records what came of it. Every function here
 * is a short transaction of its own, so none may be called within one (save CALL deliver_due's,
 * which these commit).
 */
#ifndef WH_WORKER_QUEUE_H
#define WH_WORKER_QUEUE_H

#include "postgres.h"

#include "storage/itemptr.h"
#include "utils/hsearch.h"
#include "worker/lane.h"
#include "worker/scheduler.h"
#include "worker/transaction.h"
#include "worker/transport.h"

#define WH_HEADERS_FIXED 16	/* what the engine adds to an endpoint's own headers, and the
								 * closing NULL */

/* A queue row that this process has taken, from the fetch until its result is recorded. */
typedef struct WhDelivery
{
	WhRequest	request;		/* first: the transport hands it back */
	pg_uuid_t	delivery_id;
	pg_uuid_t	event_id;
	WhEndpoint *endpoint;
	WhConfig   *config;			/* held */
	WhLane	   *lane;			/* NULL: none */
	ItemPointerData row;		/* where its queue row stood when it was fetched */
	bool		probe;			/* of an endpoint whose breaker is open */
	bool		operational;	/* its event is the sender's own, of a type webhooks.… */
	int			attempt;		/* 1 for the first */
	TimestampTz attempted_at;
	WhVerdict	verdict;
	TimestampTz next_attempt_at;	/* with WH_RETRYING */
	TimestampTz expires_at;		/* DT_NOEND: never */
	TimestampTz due_at;			/* as it was fetched */
	bool		in_queue;		/* its row was still there when it was recorded */
	bool		ended;			/* and was deleted then */
	bool		held;			/* its row was not to be had, and it was not recorded */
	bool		recorded;
	TimestampTz requeued_at;	/* replayed since it was fetched: the due time; DT_NOEND: it was not */
	int			index;			/* among those in flight, see wh_slot_in_flight */
	const char *event_type;
	const char *content_type;	/* "Content-Type: …" */
	const char **event_headers; /* "Name: value": the event's own, before the endpoint's of the same
								 * name */
	int			event_header_count;
	const char **headers;		/* palloc'd, with what some of them point to; NULL until sent */
	dlist_node	node;			/* the engine's list of results */
	char		body[FLEXIBLE_ARRAY_MEMBER];	/* and behind it what the event's headers and
													 * content_type point to */
} WhDelivery;

typedef struct WhQueue
{
	bool		in_session;
	MemoryContext context;		/* what outlives a transaction is allocated here */
	WhScheduler *scheduler;
	HTAB	   *in_hand;		/* WhInHand: rows not to be taken again */
	HTAB	   *lanes;			/* see wh_lanes_create */
	pg_uuid_t	reading;		/* the delivery at which a fetch failed; zeros: at none */
	uint64		shards;			/* whose endpoints this process serves */
	int64		expired;		/* deliveries given up unsent, and not counted yet */
} WhQueue;

typedef struct WhInHand
{
	pg_uuid_t	delivery_id;	/* hash key: first */
	WhDelivery *delivery;
} WhInHand;

/* Runs work in a transaction of its own; for the functions below. */
extern WhTransactionResult wh_queue_transact(WhQueue *queue, const char *activity,
											 void (*work) (void *state), void *state);

/*
 * A part of a look at the whole queue: of the endpoints past *after, wakes those of the queue's
 * shards that have a row, as of their earliest row, and moves *after on. Those at work are woken as
 * of what is lost, or left out when nothing is. Zeros begin a look; *done says that it is over, and
 * *expires_at then when the first of the queue's deliveries expires, or may, DT_NOEND being never.
 */
extern WhTransactionResult wh_queue_look(WhQueue *queue, const WhLost *lost, pg_uuid_t *after,
										 bool *done, TimestampTz *expires_at);

/*
 * Reads due rows of the picked endpoints, advances their cursors and next times, and calls take for
 * each row with its event, its body ready. Loads the endpoints' options where they are out of date.
 * take must not touch the database.
 */
extern WhTransactionResult wh_queue_fetch(WhQueue *queue, WhPick *picks, int count,
										  void (*take) (WhDelivery *delivery, void *state),
										  void *state);

/* Puts off by an hour the delivery at which the last fetch failed, if it was at one. */
extern WhTransactionResult wh_queue_put_off(WhQueue *queue);

/*
 * Records results, all or none: the attempts, and the end of each delivery or its next time. Those
 * whose rows another transaction holds are left out, and stand behind the *recorded others
 * afterwards. When a row is gone from the queue (cancelled meanwhile), what was not a success is
 * recorded as cancelled; when it was replayed meanwhile, as retrying: in verdict.outcome too. A
 * worker's record may not be on disk yet when this returns: it is when the WAL has been flushed up
 * to XactLastCommitEnd.
 */
extern WhTransactionResult wh_queue_record(WhQueue *queue, WhDelivery **results, int count,
										   int *recorded);

/*
 * A part of a sweep of the expired deliveries: those past *after of the queue's shards that are not
 * in hand become dead letters, and *after moves on. DT_NOBEGIN begins a sweep; *next says that it
 * is over: when the next delivery expires, DT_NOEND if none does. Else it is DT_NOBEGIN.
 */
extern WhTransactionResult wh_queue_expire(WhQueue *queue, TimestampTz *after, TimestampTz *next);

/* What a step of maintenance found. */
typedef struct WhMaintenance
{
	bool		done;			/* nothing is left to do */
	bool		needed;			/* there is an endpoint or a source to do it for */
} WhMaintenance;

/* Makes or drops a partition, or cleans up. */
extern WhTransactionResult wh_queue_maintain(WhQueue *queue, WhMaintenance *maintenance);

#endif
