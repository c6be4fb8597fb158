/*
 * Whose endpoints the process serves. To own a shard is to hold a lock on it, which goes with the
 * process, so there is nothing to clean up after one that died.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/timestamp.h"
#include "worker/engine_state.h"

#define LOCK_SPACE 0x5748		/* field 4 of an advisory lock's tag; pg_advisory_lock uses 1 and
								 * 2 */
#define ACQUIRE_MS 50			/* between tries for shards another process holds */

static LOCKTAG
shard_lock(int shard)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, shard, LOCK_SPACE);
	return tag;
}

void
wh_shards_release(WhEngine *e)
{
	uint64		released = 0;

	for (int shard = 0; shard < WH_SHARDS; shard++)
	{
		LOCKTAG		tag = shard_lock(shard);

		if ((e->owned & ~e->wanted & wh_shard_bit(shard)) == 0 || e->shard_in_hand[shard] > 0)
			continue;
		LockRelease(&tag, ExclusiveLock, true);
		released |= wh_shard_bit(shard);
	}
	if (released == 0)
		return;
	e->owned &= ~released;
	e->queue.shards = e->owned & e->wanted;
	wh_slot_own(e->queue.shards);
	wh_scheduler_drop_shards(e->queue.scheduler, released);
}

void
wh_shards_acquire(WhEngine *e, TimestampTz now)
{
	uint64		before = e->owned;

	if ((e->wanted & ~e->owned) == 0 || now < e->acquire_at)
		return;
	e->acquire_at = wh_later(now, ACQUIRE_MS);
	for (int shard = 0; shard < WH_SHARDS; shard++)
	{
		LOCKTAG		tag = shard_lock(shard);

		if ((e->wanted & ~e->owned & wh_shard_bit(shard)) &&
			LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL)
			e->owned |= wh_shard_bit(shard);
	}
	if (e->owned == before)
		return;
	e->queue.shards = e->owned & e->wanted;

	/*
	 * First be found by whoever commits now, then look for what was committed before. A wake may
	 * come in between: its endpoint's cursor begins behind that.
	 */
	wh_slot_own(e->queue.shards);
	wh_look_for_lost(e, WH_LOST_ALL);
	e->look_not_before = now;
}

void
wh_engine_want(WhEngine *e, uint64 shards)
{
	e->wanted = shards;
	e->queue.shards = e->owned & e->wanted;
	wh_slot_own(e->queue.shards);

	/*
	 * For those taken back before they were released: meanwhile their wakes went to nobody, and
	 * nothing more was read of them.
	 */
	wh_look_for_lost(e, WH_LOST_ALL);
	e->acquire_at = 0;
}

bool
wh_shards_serve_first(const WhEngine *e)
{
	return (e->queue.shards & wh_shard_bit(0)) != 0;
}

void
wh_shards_release_all(WhEngine *e)
{
	for (int shard = 0; shard < WH_SHARDS; shard++)
	{
		LOCKTAG		tag = shard_lock(shard);

		if (e->owned & wh_shard_bit(shard))
			LockRelease(&tag, ExclusiveLock, true);
	}
	e->owned = 0;
}
