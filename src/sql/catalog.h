/*
 * The event catalog and the API versions: tables that every dispatch asks, read once into the
 * session and kept until they change.
 */
#ifndef WH_SQL_CATALOG_H
#define WH_SQL_CATALOG_H

#include "postgres.h"

#include "sql/user_function.h"

#define WH_API_VERSION_MAX 64	/* bytes */

/* Raises 22023, by the argument's name, for NULL and for a type that users may not have. */
extern void wh_event_type_check(const char *argument, const char *event_type);

/*
 * Raises 22023 for an event type that the catalog does not allow, by webhooks.event_catalog.
 * Returns the name of its validator, in the current context, or NULL. Operational events are not
 * judged.
 */
extern char *wh_catalog_check(const char *event_type);

/*
 * Raises 22023 when the validator refuses the payload, and whatever it raises. payload is the JSON
 * value of the event, NULL for a body that is none: that is refused, too.
 */
extern void wh_catalog_validate(WhUserFunctions *functions, const char *validator,
								const char *event_type, Jsonb *payload);

/* Raises 22023, by the argument's name, unless the version is registered. */
extern void wh_api_version_check(const char *version);

/*
 * The payload as endpoints with the version get it. Raises an error when the version is not
 * registered, its transform returns NULL or too much, and whatever the transform raises.
 */
extern Jsonb *wh_api_version_transform(WhUserFunctions *functions, const char *version,
									   const char *event_type, Jsonb *payload);

#endif
