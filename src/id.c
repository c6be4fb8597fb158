/*
 * Ids of one server never go back, even if the clock does: what is dispatched later, also by
 * another session, must not be delivered before. (Of one session, where the library was not
 * preloaded.)
 */
#include "postgres.h"

#include <time.h>

#include "core/id.h"
#include "id.h"
#include "shmem.h"

/* Asked for in bulk: a call to the system's source costs more than an id may. */
static uint64
random_bits(void)
{
	static uint64 pool[64];
	static int	left = 0;

	if (left == 0)
	{
		if (!pg_strong_random(pool, sizeof(pool)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate random values")));
		left = lengthof(pool);
	}
	return pool[--left];
}

pg_uuid_t
wh_new_id(TimestampTz *at)
{
	static uint64 last_tick = 0;
	struct timespec now;
	uint64		tick;			/* 1/4096 ms */
	pg_uuid_t	id;

	clock_gettime(CLOCK_REALTIME, &now);
	tick = ((uint64) now.tv_sec * 1000 << 12) + ((uint64) now.tv_nsec << 12) / 1000000;
	tick = wh_shmem_next_tick(Max(tick, last_tick + 1));
	last_tick = tick;

	if (at)
		*at = (TimestampTz) (((tick >> 12) * 1000) + (((tick & 4095) * 1000) >> 12)) -
			(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	wh_id_v7(id.data, tick, random_bits());
	return id;
}

char *
wh_uuid_text(const pg_uuid_t *id)
{
	char	   *text = palloc(WH_ID_TEXT_SIZE);

	wh_id_text(text, id->data);
	return text;
}

pg_uuid_t *
wh_uuid_copy(const pg_uuid_t *id)
{
	pg_uuid_t  *copy = palloc(sizeof(pg_uuid_t));

	*copy = *id;
	return copy;
}
