/*
 * Sources: who sends webhooks to this database.
 */
#ifndef WH_SQL_SOURCE_H
#define WH_SQL_SOURCE_H

#include "postgres.h"

#include "core/signature.h"
#include "nodes/pg_list.h"
#include "utils/jsonpath.h"

typedef struct WhSource
{
	const char *tenant_id;
	const char *name;
	WhScheme	scheme;
	WhSecretKey *keys;			/* the current one, and older ones of an overlap; to be wiped */
	int			key_count;
	int64		tolerance_ms;
	JsonPath   *id_path;		/* NULL: the id stands where the scheme has it */
} WhSource;

/*
 * The tenant's source, read below the executor: whoever may receive needs no privilege on the
 * table. Raises P0002 when there is none, 55000 when a secret of it cannot be had.
 */
extern WhSource wh_source_read(const char *tenant_id, const char *name);

/* The functions (text of regprocedure) that take the event type (NULL: none), by pattern. */
extern List *wh_source_handlers(const WhSource *source, const char *event_type);

#endif
