/*
 * What the owner of an endpoint's shard should look at next: an inbox in its slot, into which every
 * committing session writes.
 */
#include "postgres.h"

#include "shmem_state.h"

void
wh_slot_own(uint64 shards)
{
	if (wh_my_slot == WH_SLOT_NONE)
		return;
	LWLockAcquire(wh_shared->slots[wh_my_slot].lock, LW_EXCLUSIVE);
	wh_shared->slots[wh_my_slot].shards = shards;
	LWLockRelease(wh_shared->slots[wh_my_slot].lock);
}

int
wh_slot_take_wakes(WhWake *wakes, WhLost *lost)
{
	WhSlot	   *slot;
	int			count;

	*lost = WH_LOST_NONE;
	if (wh_my_slot == WH_SLOT_NONE)
		return 0;

	slot = &wh_shared->slots[wh_my_slot];
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	count = slot->wake_count;
	memcpy(wakes, slot->wakes, count * sizeof(WhWake));
	*lost = slot->lost;
	slot->wake_count = 0;
	slot->lost = WH_LOST_NONE;
	LWLockRelease(slot->lock);
	return count;
}

void
wh_shmem_wake(Oid database, const WhWake *wakes, int count)
{
	if (wh_shared == NULL)
		return;

	for (int i = 0; i < WH_SLOTS; i++)
	{
		WhSlot	   *slot = &wh_shared->slots[i];
		bool		told = false;

		if (slot->database != database || slot->state != WH_SLOT_RUNNING)
			continue;

		LWLockAcquire(slot->lock, LW_EXCLUSIVE);
		for (int j = 0; j < count && slot->database == database; j++)
		{
			if ((slot->shards & wh_shard_bit(wh_shard(&wakes[j].endpoint_id))) == 0)
				continue;
			told = true;
			if (slot->wake_count < WH_WAKES_MAX)
				slot->wakes[slot->wake_count++] = wakes[j];
			else
				wh_lose(&slot->lost,
						(WhLost) {.due_at = wakes[j].due_at, .lanes = wakes[j].lanes});
		}
		LWLockRelease(slot->lock);
		if (told)
			wh_set_latch(slot->pgprocno);
	}
}

void
wh_shmem_lose(Oid database, WhLost lost)
{
	if (wh_shared == NULL)
		return;

	for (int i = 0; i < WH_SLOTS; i++)
	{
		WhSlot	   *slot = &wh_shared->slots[i];
		bool		told;

		LWLockAcquire(slot->lock, LW_EXCLUSIVE);
		told = slot->database == database && slot->state == WH_SLOT_RUNNING;
		if (told)
			wh_lose(&slot->lost, lost);
		LWLockRelease(slot->lock);
		if (told)
			wh_set_latch(slot->pgprocno);
	}
}
