/*
 * The columns of the extension's tables, by number from 1, for code that reads and writes rows
 * without SQL. Upgrade scripts only ever add columns at the end, so these hold for older versions
 * of the tables too.
 */
#ifndef WH_TABLES_H
#define WH_TABLES_H

#include "postgres.h"

#include "storage/itemptr.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"

enum
{
	ENDPOINTS_ENDPOINT_ID = 1, ENDPOINTS_TENANT_ID, ENDPOINTS_URL, ENDPOINTS_EVENT_TYPES,
	ENDPOINTS_STATE, ENDPOINTS_DISABLED_REASON, ENDPOINTS_DESCRIPTION, ENDPOINTS_FILTER,
	ENDPOINTS_HEADERS, ENDPOINTS_SIGNATURE_SCHEMES, ENDPOINTS_PAYLOAD_FORMAT, ENDPOINTS_API_VERSION,
	ENDPOINTS_RETRY_SCHEDULE, ENDPOINTS_RETRY_ON, ENDPOINTS_TIMEOUT, ENDPOINTS_RATE_LIMIT,
	ENDPOINTS_MAX_IN_FLIGHT, ENDPOINTS_ORDERING, ENDPOINTS_METADATA, ENDPOINTS_CREATED_AT,
	ENDPOINTS_UPDATED_AT, ENDPOINTS_CLIENT_CERTIFICATE, ENDPOINTS_SIGNING_KEY_ID,
	ENDPOINTS_REGISTERED
};

enum
{
	SIGNING_KEYS_TENANT_ID = 1, SIGNING_KEYS_KEY_ID, SIGNING_KEYS_SECRET,
	SIGNING_KEYS_ENCRYPTION_KEY_ID, SIGNING_KEYS_CREATED_AT, SIGNING_KEYS_RETIRED_AT
};

enum
{
	EVENTS_EVENT_ID = 1, EVENTS_TENANT_ID, EVENTS_EVENT_TYPE, EVENTS_PAYLOAD, EVENTS_OCCURRED_AT,
	EVENTS_CREATED_AT, EVENTS_ORDERING_KEY, EVENTS_BODY, EVENTS_CONTENT_TYPE, EVENTS_HEADERS,
	EVENTS_VERSIONS
};

enum
{
	EVENT_SECRETS_EVENT_ID = 1, EVENT_SECRETS_SECRET, EVENT_SECRETS_ENCRYPTION_KEY_ID
};

enum
{
	QUEUE_DELIVERY_ID = 1, QUEUE_EVENT_ID, QUEUE_ENDPOINT_ID, QUEUE_DUE_AT, QUEUE_ATTEMPTS,
	QUEUE_LANE, QUEUE_EXPIRES_AT, QUEUE_COALESCE_KEY, QUEUE_EVENT_PLACE
};

enum
{
	ATTEMPTS_DELIVERY_ID = 1, ATTEMPTS_EVENT_ID, ATTEMPTS_ENDPOINT_ID, ATTEMPTS_TENANT_ID,
	ATTEMPTS_URL, ATTEMPTS_ATTEMPT, ATTEMPTS_ATTEMPTED_AT, ATTEMPTS_DURATION_MS, ATTEMPTS_OUTCOME,
	ATTEMPTS_STATUS_CODE, ATTEMPTS_ERROR_CLASS, ATTEMPTS_ERROR, ATTEMPTS_RESPONSE_HEADERS,
	ATTEMPTS_RESPONSE_BODY, ATTEMPTS_REMOTE_ADDRESS, ATTEMPTS_NEXT_ATTEMPT_AT
};

enum
{
	EVENT_TYPES_NAME = 1, EVENT_TYPES_DESCRIPTION, EVENT_TYPES_EXAMPLE, EVENT_TYPES_VALIDATOR,
	EVENT_TYPES_RETIRED_AT, EVENT_TYPES_CREATED_AT
};

enum
{
	SOURCES_TENANT_ID = 1, SOURCES_NAME, SOURCES_SCHEME, SOURCES_TOLERANCE, SOURCES_ID_PATH,
	SOURCES_CREATED_AT
};

enum
{
	SOURCE_SECRETS_TENANT_ID = 1, SOURCE_SECRETS_SOURCE, SOURCE_SECRETS_SECRET,
	SOURCE_SECRETS_CREATED_AT, SOURCE_SECRETS_EXPIRES_AT, SOURCE_SECRETS_ENCRYPTION_KEY_ID
};

enum
{
	API_VERSIONS_VERSION = 1, API_VERSIONS_TRANSFORM, API_VERSIONS_CREATED_AT
};

enum
{
	SOURCE_HANDLERS_TENANT_ID = 1, SOURCE_HANDLERS_SOURCE, SOURCE_HANDLERS_EVENT_TYPE_PATTERN,
	SOURCE_HANDLERS_HANDLER
};

/* The OID of a table or index of schema webhooks; raises an error when it does not exist. */
extern Oid	wh_table(const char *name);

/*
 * The partition of a table that holds key. Raises an error when there is none. It stays the one as
 * long as a lock on it is held.
 */
extern Oid	wh_find_partition(Relation parent, Datum key);

/*
 * The partition of a table that holds key, locked, by the bounds as they are once the lock is held.
 * Raises an error when there is none.
 */
extern Relation wh_open_partition(Relation parent, Datum key, LOCKMODE lockmode);

/*
 * Inserts rows below the executor, as logical replication's apply worker does: a planned statement
 * for each row would cost several times as much. Constraints are checked and indexes kept; triggers
 * do not fire.
 */
typedef struct WhInserter WhInserter;

/* In the current context. The relation stays open, and the caller's to close. */
extern WhInserter *wh_inserter_open(Relation rel);

/* Begins a row, all its columns NULL. Their values must stay until it is flushed. */
extern void wh_inserter_row(WhInserter *inserter);
extern void wh_inserter_set(WhInserter *inserter, int column, Datum datum);

/* Sets the column, or leaves it NULL when text is NULL. */
extern void wh_inserter_set_text(WhInserter *inserter, int column, const char *text);

/* Where the row stands is put there when it is inserted. */
extern void wh_inserter_tell_place(WhInserter *inserter, ItemPointer place);

/* Inserts what is not inserted yet. */
extern void wh_inserter_flush(WhInserter *inserter);

/* The same, and frees it. */
extern void wh_inserter_close(WhInserter *inserter);

/*
 * The same for a partitioned table: an inserter for the partition that holds a key, good until the
 * next is asked for. It keeps the one written last open.
 */
typedef struct WhPartitionInserter WhPartitionInserter;

/* In the current context. The parent stays open, and the caller's to close. */
extern WhPartitionInserter *wh_partition_inserter_open(Relation parent);
extern WhInserter *wh_partition_inserter(WhPartitionInserter *inserter, Datum key);
extern void wh_partition_inserter_close(WhPartitionInserter *inserter);

/* The follower's rows hold places of the leader's, which are therefore inserted before them. */
extern void wh_inserter_follow(WhInserter *follower, WhPartitionInserter *leader);

#endif
