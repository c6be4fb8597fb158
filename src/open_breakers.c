/*
 * A small table in shared memory under one lock. It is written when a breaker opens, probes or
 * closes, which is at most every two seconds for an endpoint.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "open_breakers.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#define TRANCHE "webhooks breakers"
#define OPEN_MAX 1024			/* of the whole server */

typedef struct Shared
{
	LWLock	   *lock;
	int			end;			/* entries from here on are unused */
	WhOpenBreaker entries[OPEN_MAX];
} Shared;

static Shared *shared = NULL;
static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

static void
request(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(sizeof(Shared));
	RequestNamedLWLockTranche(TRANCHE, 1);
}

static void
startup(void)
{
	bool		found;

	if (previous_startup_hook)
		previous_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("webhooks breakers", sizeof(Shared), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(Shared));
		shared->lock = &GetNamedLWLockTranche(TRANCHE)->lock;
	}
	LWLockRelease(AddinShmemInitLock);
}

void
wh_open_breakers_install(void)
{
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup;
}

void
wh_open_breakers_withdraw_all(void)
{
	if (shared == NULL)
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < shared->end; i++)
		if (shared->entries[i].worker_pid == MyProcPid)
			shared->entries[i].worker_pid = 0;
	LWLockRelease(shared->lock);
}

static void
withdraw_all_at_exit(int code, Datum arg)
{
	wh_open_breakers_withdraw_all();
}

/*
 * Under the lock. This process's entry for the endpoint, else an unused one; NULL: there is none.
 */
static WhOpenBreaker *
find_place(const pg_uuid_t *endpoint_id)
{
	WhOpenBreaker *unused = NULL;

	for (int i = 0; i < shared->end; i++)
	{
		WhOpenBreaker *entry = &shared->entries[i];

		if (entry->worker_pid == 0)
			unused = entry;
		else if (entry->worker_pid == MyProcPid &&
				 memcmp(&entry->endpoint_id, endpoint_id, UUID_LEN) == 0)
			return entry;
	}
	if (unused == NULL && shared->end < OPEN_MAX)
	{
		unused = &shared->entries[shared->end++];
		unused->worker_pid = 0;
	}
	return unused;
}

void
wh_open_breaker_publish(const WhOpenBreaker *breaker)
{
	static bool registered = false;
	WhOpenBreaker *entry;

	if (shared == NULL)
		return;
	if (!registered)
		before_shmem_exit(withdraw_all_at_exit, 0);
	registered = true;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	entry = find_place(&breaker->endpoint_id);
	if (entry)
	{
		*entry = *breaker;
		entry->worker_pid = MyProcPid;
		entry->database = MyDatabaseId;
	}
	LWLockRelease(shared->lock);
}

void
wh_open_breaker_withdraw(const pg_uuid_t *endpoint_id)
{
	WhOpenBreaker *entry;

	if (shared == NULL)
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	entry = find_place(endpoint_id);
	if (entry)
		entry->worker_pid = 0;
	LWLockRelease(shared->lock);
}

int
wh_open_breakers(Oid database, WhOpenBreaker **breakers)
{
	int			count = 0;

	*breakers = palloc(OPEN_MAX * sizeof(WhOpenBreaker));
	if (shared == NULL)
		return 0;
	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < shared->end; i++)
		if (shared->entries[i].worker_pid != 0 && shared->entries[i].database == database)
			(*breakers)[count++] = shared->entries[i];
	LWLockRelease(shared->lock);
	return count;
}
