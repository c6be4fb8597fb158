/*
 * Decides which endpoints are looked at next. In memory only, no database, no network; one in each
 * delivering process.
 *
 * Every endpoint that may have something due stands in one of three places: ready, waiting (for a
 * time), or idle (nothing known). Among the ready ones tenants take turns, and within a tenant its
 * endpoints do. A cursor remembers how far its part of the queue has been read, so that rows
 * already taken, dead index entries included, are not walked over again; a wake moves it back.
 *
 * An endpoint is held while its rate, its breaker or the proxy lets nothing be sent: it waits, and
 * costs nothing until that time.
 *
 * Receivers that hang must not take all that the process may have in hand. So the fewer places are
 * free, the less one may have: an endpoint takes another only while it has fewer requests in flight
 * than places are free, a tenant only while it has fewer than four times as many in hand. So an
 * endpoint gets half of the places at most, and one tenant of several four fifths.
 */
#ifndef WH_WORKER_SCHEDULER_H
#define WH_WORKER_SCHEDULER_H

#include "postgres.h"

#include "core/body.h"
#include "core/breaker.h"
#include "core/rate.h"
#include "core/retry.h"
#include "core/signature.h"
#include "datatype/timestamp.h"
#include "lib/ilist.h"
#include "lib/pairingheap.h"
#include "shmem.h"
#include "url.h"
#include "utils/uuid.h"
#include "worker/transport.h"

typedef struct WhScheduler WhScheduler;

typedef struct WhSigningKey
{
	WhSecretKey key;
	uint32		schemes;		/* WH_SCHEME_BIT of those that it is for */
	TimestampTz expires_at;		/* DT_NOEND for the current one */
} WhSigningKey;

/*
 * An endpoint's options as they were when a request was made with them: shared, counted, never
 * changed.
 */
typedef struct WhConfig
{
	int			references;
	bool		active;			/* false: paused, disabled, or its secrets cannot be had */
	TimestampTz stale_at;		/* DT_NOEND; or when to look whether its secrets can be had */
	char	   *tenant_id;
	char	   *url;
	int			url_allowed_by; /* the transport's, see WhRequest */
	char	  **headers;		/* "Name: value" */
	int			header_count;
	WhClientCertificate *certificate;	/* NULL: none */
	uint32		schemes;		/* WH_SCHEME_BIT of each; 0: nothing is signed */
	int			key_count;
	WhSigningKey *keys;			/* of each scheme the newest first */
	WhUrlTarget target;			/* of url; with scheme rfc9421 alone */
	int64	   *waits_ms;		/* NULL follows the setting */
	int			wait_count;
	WhStatusSet *retry_on;		/* NULL follows the setting */
	int			timeout_ms;		/* 0 follows the setting */
	int			max_in_flight;	/* 0 follows the setting */
	double		rate_limit;		/* requests a second; 0 for none */
	WhBodyFormat payload_format;
	char	   *api_version;	/* NULL: none */
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
	WH_CROWDED,					/* ready, but more places must be free for it to take one */
	WH_WAITING,
	WH_FULL						/* picked; or it comes back with an answer: it has due rows, but as
								 * many in flight as it may, or a probe */
} WhPlace;

/* What the table endpoint_health says of an endpoint. */
typedef enum WhHealth
{
	WH_HEALTH_UNKNOWN,
	WH_HEALTH_GOOD,				/* it does not fail */
	WH_HEALTH_BAD				/* it fails */
} WhHealth;

/* The endpoints in memory that have one tenant's hash. */
typedef struct WhTenant
{
	uint32		hash;			/* hash key: first */
	int			endpoint_count; /* without any the tenant is forgotten */
	int			in_hand;
	int			promised;		/* rows that those of them that are picked may yet take */
	dlist_head	ready;			/* endpoints, in turn */
	pairingheap crowded;		/* endpoints, fewest in flight first */
	int			ready_count;	/* of both */
	dlist_node	node;			/* of the scheduler's turns, while there is one of them */
	uint32		round;			/* the last in which it had a turn */
	int			share;			/* rows an endpoint of it may have read in that */
} WhTenant;

/* What the proxy makes of an endpoint. */
typedef struct WhDetour
{
	TimestampTz refused_at;		/* since when it refuses all; 0: it does not */
	TimestampTz held_until;
	int			wait_ms;		/* the last one */
} WhDetour;

typedef struct WhEndpoint
{
	pg_uuid_t	endpoint_id;	/* hash key: first */
	WhTenant   *tenant;
	WhConfig   *config;			/* NULL until loaded, or when it is out of date */
	WhCursor	cursor;			/* the last queue row read */
	TimestampTz next_at;		/* when the queue may have a row past the cursor that is due;
								 * DT_NOEND: none known */
	bool		passed_over;	/* rows were, which transactions under way hold: */
	WhCursor	passed_from;	/* they stand after it */
	TimestampTz again_at;		/* when they are read again; 0: when the rest has been read */
	TimestampTz ready_at;		/* while waiting: next_at, or later when it is held */
	bool		paced;			/* waiting with a row due, for its rate alone */
	int			unsent;			/* taken and not yet sent */
	int			in_flight;		/* the same and those sent and not answered */
	int			in_hand;		/* the same and those not yet recorded */
	int			promised;		/* rows it was picked for */
	int			failures;		/* reads in succession that raised an error */
	TimestampTz told_at;		/* when the log was last told that its secrets cannot be had */
	TimestampTz looked_at;		/* when a look last found it not at work */
	WhRate		rate;
	WhBreaker	breaker;
	TimestampTz breaker_open_since; /* as sessions see it; 0: they do not */
	WhHealth	health;
	WhDetour	detour;
	dlist_head	open_lanes;		/* of WhLane: to be looked up by the next read */
	dlist_head	lanes;			/* the others */
	WhPlace		place;
	dlist_node	node;			/* of ready or idle */
	pairingheap_node heap_node; /* of waiting or crowded */
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

/*
 * The endpoint may have a row due at due_at. DT_NOBEGIN: it was changed; its queue is read from the
 * start, its options anew, and nothing holds it that a change may have ended.
 */
extern void wh_scheduler_wake(WhScheduler *scheduler, const WhWake *wake);

/*
 * Whether the endpoint is being read anyway, so that a look need not wake it. Now and then it is to
 * be read from the start all the same: false, when no look has found it for a minute.
 */
extern bool wh_scheduler_at_work(const WhScheduler *scheduler, const pg_uuid_t *endpoint_id,
								 TimestampTz now);

/* Wakes an endpoint that a look has found not at work. */
extern void wh_scheduler_found(WhScheduler *scheduler, const WhWake *wake, TimestampTz now);

/* What the process may take in hand. */
typedef struct WhRoom
{
	int			places;			/* free ones of webhooks.max_in_flight */
	int			rows;			/* the same, or fewer where deliveries are limited */
} WhRoom;

/*
 * Picks up to max_picks ready endpoints, in turn, for what there is room for. They stay out of all
 * places until wh_scheduler_place puts them back.
 */
extern int	wh_scheduler_pick(WhScheduler *scheduler, TimestampTz now, WhRoom room,
							  WhPick *picks, int max_picks);

/* Puts an endpoint where its next_at, in_flight, rate and breaker say. */
extern void wh_scheduler_place(WhScheduler *scheduler, WhEndpoint *endpoint, TimestampTz now);

/*
 * The earliest time at which an endpoint becomes ready; now if one is that may take a place while
 * so many are free; DT_NOEND when none is waiting.
 */
extern TimestampTz wh_scheduler_next(WhScheduler *scheduler, TimestampTz now, int places);

/* Whether an endpoint has something due that only its rate holds back. */
extern bool wh_scheduler_paced(const WhScheduler *scheduler);

/* Options may have changed: all are loaded again when they are needed next. */
extern void wh_scheduler_forget_configs(WhScheduler *scheduler);

/* There may be another proxy: none is held because of it. */
extern void wh_scheduler_forget_detours(WhScheduler *scheduler);

/* Drops the endpoints of these shards, none of which has anything in hand. */
extern void wh_scheduler_drop_shards(WhScheduler *scheduler, uint64 shards);

extern WhConfig *wh_config_hold(WhConfig *config);
extern void wh_config_release(WhConfig *config);

/* How many rows of the endpoint may be taken now. */
extern int	wh_endpoint_allowance(WhEndpoint *endpoint, TimestampTz now);

/* It was removed: its breaker, which sessions may see open, goes. */
extern void wh_endpoint_drop_breaker(WhEndpoint *endpoint);

#endif
