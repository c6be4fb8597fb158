/*
 * What a delivering process has under way and has done, for everybody to see.
 */
#include "postgres.h"

#include "shmem_state.h"
#include "utils/timestamp.h"

void
wh_slot_in_flight(int index, const WhInFlight *request)
{
	WhSlot	   *slot;

	if (wh_my_slot == WH_SLOT_NONE)
		return;

	slot = &wh_shared->slots[wh_my_slot];
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	while (slot->in_flight_end <= index)
		slot->in_flight[slot->in_flight_end++].started_at = 0;
	if (request)
		slot->in_flight[index] = *request;
	else
		slot->in_flight[index].started_at = 0;
	LWLockRelease(slot->lock);
}

void
wh_slot_report(const WhCounts *counts, const char *error)
{
	WhSlot	   *slot;

	if (wh_my_slot == WH_SLOT_NONE)
		return;

	slot = &wh_shared->slots[wh_my_slot];
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	slot->counts = *counts;
	if (error)
	{
		strlcpy(slot->last_error, error, WH_LAST_ERROR_SIZE);
		slot->last_error_at = GetCurrentTimestamp();
	}
	LWLockRelease(slot->lock);
}

int
wh_shmem_in_flight(Oid database, WhInFlight **requests)
{
	int			count = 0;

	*requests = NULL;
	if (wh_shared == NULL)
		return 0;

	for (int i = 0; i < WH_SLOTS; i++)
	{
		WhSlot	   *slot = &wh_shared->slots[i];
		int			room = slot->in_flight_end;

		if (slot->database != database || room == 0)
			continue;
		*requests = *requests ? repalloc(*requests, (count + WH_IN_FLIGHT_MAX) * sizeof(WhInFlight))
			: palloc(WH_IN_FLIGHT_MAX * sizeof(WhInFlight));
		LWLockAcquire(slot->lock, LW_SHARED);
		for (int j = 0; j < slot->in_flight_end && slot->database == database; j++)
			if (slot->in_flight[j].started_at != 0)
			{
				(*requests)[count] = slot->in_flight[j];
				(*requests)[count++].worker_pid = slot->pid;
			}
		LWLockRelease(slot->lock);
	}
	return count;
}

int
wh_shmem_processes(WhProcess *processes)
{
	int			count = 0;

	for (int i = 0; wh_shared && i < WH_SLOTS; i++)
	{
		WhSlot	   *slot = &wh_shared->slots[i];
		WhProcess  *process = &processes[count];

		LWLockAcquire(slot->lock, LW_SHARED);
		if (slot->state == WH_SLOT_RUNNING)
		{
			*process = (WhProcess)
			{
				.pid = slot->pid, .number = slot->launcher_pid == 0 ? -1 : slot->number,
				.database = slot->database, .started_at = slot->started_at,
				.counts = slot->counts, .last_error_at = slot->last_error_at
			};
			strlcpy(process->last_error, slot->last_error, WH_LAST_ERROR_SIZE);
			for (int j = 0; j < slot->in_flight_end; j++)
				process->in_flight += slot->in_flight[j].started_at != 0;
			count++;
		}
		LWLockRelease(slot->lock);
	}
	return count;
}
