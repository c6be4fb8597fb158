/*
 * Which endpoints take an event, from a cache in the session: dispatch asks thousands of times
 * between two changes.
 */
#ifndef WH_SQL_SUBSCRIPTION_H
#define WH_SQL_SUBSCRIPTION_H

#include "postgres.h"

#include "access/htup.h"
#include "sql/filter.h"
#include "utils/relcache.h"
#include "utils/uuid.h"

typedef enum WhOrdering
{
	WH_ORDERING_NONE,
	WH_ORDERING_ENDPOINT,		/* all of the endpoint's deliveries one after the other */
	WH_ORDERING_KEY				/* those of one ordering key */
} WhOrdering;

typedef struct WhSubscriber
{
	pg_uuid_t	endpoint_id;
	WhOrdering	ordering;
	const WhFilter *filter;		/* NULL: none, or it does not count */
	const char *api_version;	/* NULL: none */
} WhSubscriber;

/*
 * Results are as of the last commit, with what this transaction changed, and good until the next
 * call here.
 */

/* The endpoints of the tenant that take events of the type; returns their number. */
extern int	wh_subscribers(const char *tenant_id, const char *event_type,
						   const WhSubscriber **subscribers);

typedef enum WhEndpointStanding
{
	WH_ENDPOINT_UNKNOWN,		/* the tenant has no such endpoint */
	WH_ENDPOINT_DISABLED,		/* takes no new deliveries */
	WH_ENDPOINT_ENABLED
} WhEndpointStanding;

/*
 * *subscriber is set unless the endpoint is unknown, in the current context, and without the
 * filter: an endpoint that is named gets the event.
 */
extern WhEndpointStanding wh_endpoint_standing(const char *tenant_id, const pg_uuid_t *endpoint_id,
											   WhSubscriber *subscriber);

/* A copy of an endpoint's row, whoever's it is, in the current context; NULL: there is none. */
extern HeapTuple wh_read_endpoint(Relation endpoints, const pg_uuid_t *endpoint_id);

#endif
