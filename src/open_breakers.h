/*
 * The endpoints that delivering processes leave alone because they do not answer, for sessions to
 * see. Nothing depends on it; past a number of them no more are entered.
 */
#ifndef WH_OPEN_BREAKERS_H
#define WH_OPEN_BREAKERS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/uuid.h"

typedef struct WhOpenBreaker
{
	pg_uuid_t	endpoint_id;
	TimestampTz since;
	TimestampTz next_probe_at;	/* while not probing */
	bool		probing;		/* a request is under way that may close it */
	int			worker_pid;		/* set by wh_open_breaker_publish; 0 in an unused entry */
	Oid			database;		/* set by it, too */
} WhOpenBreaker;

/* To be called from _PG_init while preloading. Without it all that follows does nothing. */
extern void wh_open_breakers_install(void);

/*
 * Enters this process's breaker of the endpoint, or what changed of it; takes it out again. What a
 * process entered goes with it.
 */
extern void wh_open_breaker_publish(const WhOpenBreaker *breaker);
extern void wh_open_breaker_withdraw(const pg_uuid_t *endpoint_id);
extern void wh_open_breakers_withdraw_all(void);

/* Those of a database, palloc'd; returns their number. */
extern int	wh_open_breakers(Oid database, WhOpenBreaker **breakers);

#endif
