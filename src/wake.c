/*
 * The worker does not poll: it is told. What a transaction queued is gathered here, an endpoint
 * once with its earliest time, and handed over when the rows have become visible, which is when the
 * commit callback runs.
 *
 * What commits elsewhere (a prepared transaction, rows applied by replication) is not seen here;
 * the worker's slow look finds it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "wake.h"

static WhWake *wakes = NULL;	/* in TopTransactionContext */
static int	wake_count = 0;
static int	wake_room = 0;
static HTAB *wake_index = NULL; /* of wakes by endpoint, once they are many */
static WhLost lost = {.due_at = DT_NOEND};	/* instead of wakes, once something is lost */
static bool launcher = false;
static Oid	launcher_database = InvalidOid;

typedef struct WakeIndexEntry
{
	pg_uuid_t	endpoint_id;
	int			position;
} WakeIndexEntry;

/* Below this many endpoints in a transaction a walk over the array beats a hash table. */
#define LINEAR_MAX 8

static void
forget(void)
{
	wakes = NULL;
	wake_count = 0;
	wake_room = 0;
	wake_index = NULL;
	lost = WH_LOST_NONE;
	launcher = false;
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			if (lost.due_at != DT_NOEND)
				wh_shmem_lose(MyDatabaseId, lost);
			else if (wake_count > 0)
				wh_shmem_wake(MyDatabaseId, wakes, wake_count);
			if (launcher)
				wh_launcher_notify(launcher_database);
			forget();
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			forget();
			break;
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PARALLEL_ABORT:
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			break;
	}
}

static void
register_once(void)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(at_transaction_end, NULL);
	registered = true;
}

static void
lose(const WhWake *wake)
{
	wh_lose(&lost, (WhLost) {.due_at = wake->due_at, .lanes = wake->lanes});
}

/* More than a worker's inbox holds: it will have to look at everything anyway. */
static void
lose_all(void)
{
	for (int i = 0; i < wake_count; i++)
		lose(&wakes[i]);
}

static void
index_wake(int position)
{
	WakeIndexEntry *entry = hash_search(wake_index, &wakes[position].endpoint_id, HASH_ENTER, NULL);

	entry->position = position;
}

static void
append(const WhWake *wake)
{
	if (wakes == NULL)
	{
		wakes = MemoryContextAlloc(TopTransactionContext, LINEAR_MAX * sizeof(WhWake));
		wake_room = LINEAR_MAX;
	}
	else if (wake_count == wake_room)
	{
		wakes = repalloc(wakes, 2 * wake_room * sizeof(WhWake));
		wake_room *= 2;			/* now that there is: a savepoint may catch the error */
	}
	wakes[wake_count++] = *wake;

	if (wake_index)
		index_wake(wake_count - 1);
	else if (wake_count > LINEAR_MAX)
	{
		HASHCTL		ctl = {
			.keysize = sizeof(pg_uuid_t),
			.entrysize = sizeof(WakeIndexEntry),
			.hcxt = TopTransactionContext
		};

		wake_index = hash_create("webhooks wakes", 128, &ctl,
								 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
		for (int i = 0; i < wake_count; i++)
			index_wake(i);
	}
}

static WhWake *
find(const pg_uuid_t *endpoint_id)
{
	if (wake_index)
	{
		WakeIndexEntry *entry = hash_search(wake_index, endpoint_id, HASH_FIND, NULL);

		return entry ? &wakes[entry->position] : NULL;
	}
	for (int i = 0; i < wake_count; i++)
		if (memcmp(&wakes[i].endpoint_id, endpoint_id, UUID_LEN) == 0)
			return &wakes[i];
	return NULL;
}

void
wh_wake_endpoint(const WhWake *wake)
{
	WhWake	   *noted;

	if (!wh_shmem_available())
		return;
	register_once();

	if (lost.due_at != DT_NOEND)
		lose(wake);
	else if ((noted = find(&wake->endpoint_id)) != NULL)
	{
		noted->due_at = Min(noted->due_at, wake->due_at);
		if (noted->tenant == WH_TENANT_UNKNOWN)
			noted->tenant = wake->tenant;
		noted->lanes |= wake->lanes;
	}
	else if (wake_count < WH_WAKES_MAX)
		append(wake);
	else
	{
		lose_all();
		lose(wake);
	}
}

void
wh_wake_all(void)
{
	register_once();
	lost = WH_LOST_ALL;
}

void
wh_wake_launcher(Oid database)
{
	register_once();
	launcher_database = launcher && launcher_database != database ? InvalidOid : database;
	launcher = true;
}
