/*
 * Functions (event_type text, payload jsonb) that users registered to be called at each dispatch:
 * validators and transforms. They run as whoever dispatches, who needs EXECUTE on them.
 */
#ifndef WH_SQL_USER_FUNCTION_H
#define WH_SQL_USER_FUNCTION_H

#include "postgres.h"

#include "utils/jsonb.h"

typedef enum WhUserFunctionKind
{
	WH_VALIDATOR,				/* returns void or boolean */
	WH_TRANSFORM				/* returns jsonb */
} WhUserFunctionKind;

/*
 * The qualified name under which a function is kept: names survive a dump and an upgrade of the
 * server, OIDs do not. Raises 22023 unless it is a function of that kind, 42501 unless the caller
 * may execute it.
 */
extern char *wh_user_function_name(WhUserFunctionKind kind, Oid function);

/* Functions looked up once to be called many times, by one user. */
typedef struct WhUserFunctions WhUserFunctions;

/* In the current context, as is what they keep between calls. */
extern WhUserFunctions *wh_user_functions_create(void);

/*
 * What the function returns, in the current context; for void it is true. Raises 55000 when there
 * is no such function any more, and whatever the function raises.
 */
extern NullableDatum wh_user_function_call(WhUserFunctions *functions, WhUserFunctionKind kind,
										   const char *name, const char *event_type,
										   Jsonb *payload);

#endif
