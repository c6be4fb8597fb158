/*
 * Decides which endpoints are looked at next. In memory only, no database, no network; one in each
 * delivering process.
 *
 * Every endpoint that may have something due stands in one of three places: ready (a round-robin
 * queue), waiting (for a time), or idle (nothing known). A cursor remembers how far its part of the
 * queue has been read, so that rows already taken, dead index entries included, are not walked over
 * again; a wake moves it back.
 */
#ifndef WH_WORKER_SCHEDULER_H
#define WH_WORKER_SCHEDULER_H

#include "postgres.h"

#include "core/retry.h"
#include "core/signature.h"
#include "datatype/timestamp.h"
#include "lib/ilist.h"
#include "lib/pairingheap.h"
#include "utils/uuid.h"

typedef struct WhScheduler WhScheduler;

typedef struct WhSigningKey
{
	WhSecretKey key;
	TimestampTz expires_at;		/* DT_NOEND for the current one */
} WhSigningKey;

/*
 * An endpoint's options as they were when a request was made with them: shared, counted, never
 * changed.
 */
typedef struct WhConfig
{
	int			references;
	bool		active;			/* false: paused, disabled, or its requests cannot be signed */
	char	   *tenant_id;
	char	   *url;
	char	  **headers;		/* "Name: value" */
	int			header_count;
	int			key_count;
	WhSigningKey *keys;			/* newest first */
	int64	   *waits_ms;		/* NULL follows the setting */
	int			wait_count;
	bool		has_retry_on;
	WhStatusSet retry_on;
	int			timeout_ms;		/* 0 follows the setting */
	int			max_in_flight;	/* 0 follows the setting */
} WhConfig;

typedef struct WhCursor
{
	TimestampTz due_at;
	pg_uuid_t	delivery_id;
} WhCursor;

typedef enum WhPlace
{
	WH_IDLE,
	WH_READY,
	WH_WAITING,
	WH_FULL						/* has due rows, but as many in flight as it may */
} WhPlace;

typedef struct WhEndpoint
{
	pg_uuid_t	endpoint_id;	/* hash key: first */
	WhConfig   *config;			/* NULL until loaded, or when it is out of date */
	WhCursor	cursor;			/* the last queue row read */
	TimestampTz next_at;		/* when the queue may have a row past the cursor that is due;
								 * DT_NOEND: none known */
	int			in_flight;		/* requests sent and not answered */
	int			in_hand;		/* the same and those not yet recorded */
	int			failures;		/* reads in succession that raised an error */
	WhPlace		place;
	dlist_node	node;			/* of ready or idle */
	pairingheap_node timer;		/* of waiting */
} WhEndpoint;

/* An endpoint picked to be read, and how many rows. */
typedef struct WhPick
{
	WhEndpoint *endpoint;
	int			limit;
	WhCursor	from;			/* the cursor as it was */
} WhPick;

/* Everything is allocated in context. */
extern WhScheduler *wh_scheduler_create(MemoryContext context);

/* The endpoint may have a row due at due_at. DT_NOBEGIN: read its queue from the start. */
extern void wh_scheduler_wake(WhScheduler *scheduler, const pg_uuid_t *endpoint_id,
							  TimestampTz due_at);

/*
 * Picks up to max_picks ready endpoints, in turn, for at most room rows together. They stay out of
 * all places until wh_scheduler_place puts them back.
 */
extern int	wh_scheduler_pick(WhScheduler *scheduler, TimestampTz now, int room,
							  WhPick *picks, int max_picks);

/* Puts an endpoint where its next_at and in_flight say. */
extern void wh_scheduler_place(WhScheduler *scheduler, WhEndpoint *endpoint, TimestampTz now);

/*
 * The earliest time at which an endpoint becomes ready; now if one is; DT_NOEND when none is
 * waiting.
 */
extern TimestampTz wh_scheduler_next(WhScheduler *scheduler, TimestampTz now);

/* Options may have changed: all are loaded again when they are needed next. */
extern void wh_scheduler_forget_configs(WhScheduler *scheduler);

/* Drops the endpoints of these shards, none of which has anything in hand. */
extern void wh_scheduler_drop_shards(WhScheduler *scheduler, uint64 shards);

extern WhConfig *wh_config_hold(WhConfig *config);
extern void wh_config_release(WhConfig *config);

/* How many requests the endpoint may have in flight. */
extern int	wh_endpoint_cap(const WhEndpoint *endpoint);

#endif
