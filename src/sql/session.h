/*
 * What the SQL functions share: whose tenant the session is, and statements run through SPI.
 */
#ifndef WH_SQL_SESSION_H
#define WH_SQL_SESSION_H

#include "postgres.h"

#include "fmgr.h"
#include "utils/array.h"
#include "utils/uuid.h"

#define WH_TENANT_ID_MAX 255	/* bytes */

/* The tenant that webhooks.tenant_id confines the session to; NULL when it does not. */
extern const char *wh_session_tenant(void);

/*
 * The tenant a call is about: the one it names (NULL when it names none), else the session's, else
 * ''. Raises 42501 when it names another than the session's.
 */
extern char *wh_tenant_named(const char *tenant_id);

/* The same of a function's text argument. */
extern char *wh_tenant_named_by(FunctionCallInfo fcinfo, int number);

/* Raises 22023: "<argument> <rule>". */
extern _Noreturn void wh_refuse(const char *argument, const char *rule);

/* Raises P0002: "<what> <id> does not exist". */
extern _Noreturn void wh_refuse_unknown(const char *what, const pg_uuid_t *id);

/* The same of what has a name: "<what> "<name>" does not exist". */
extern _Noreturn void wh_refuse_unknown_name(const char *what, const char *name);

/* The text argument; NULL when it is. */
extern char *wh_given_text(FunctionCallInfo fcinfo, int number);

/* The same, or an error naming it when it is NULL. */
extern char *wh_required_text(FunctionCallInfo fcinfo, int number, const char *name);

/* The uuid argument, or an error naming it when it is NULL. */
extern pg_uuid_t *wh_uuid_argument(FunctionCallInfo fcinfo, int number, const char *name);

/*
 * The number of elements of an array argument, and the elements. Raises 22023 when one is NULL, and
 * for an array of arrays.
 */
extern int	wh_elements(const char *name, ArrayType *array, Datum **elements);

typedef struct WhArgument
{
	Oid			type;
	Datum		value;
	bool		isnull;
} WhArgument;

/*
 * Runs a statement; the caller is connected to SPI. Returns the number of rows processed. Qualified
 * names only: search_path is what the SQL declaration of the calling function sets.
 */
extern uint64 wh_execute(const char *sql, int count, const WhArgument *arguments);

/* A text, or NULL; the tenant that the session is confined to, or NULL. */
extern WhArgument wh_text_argument(const char *text);
extern WhArgument wh_tenant_argument(void);

/* A value of the rows that the last statement gave; row from 0, column from 1. */
extern Datum wh_result(uint64 row, int column, bool *isnull);

/* The same of an id that is not NULL. */
extern pg_uuid_t wh_result_id(uint64 row, int column);

#endif
