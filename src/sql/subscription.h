/*
 * Which endpoints take an event, from a cache in the session: dispatch asks thousands of times between two changes.
 */
#ifndef WH_SQL_SUBSCRIPTION_H
#define WH_SQL_SUBSCRIPTION_H

#include "postgres.h"

#include "utils/uuid.h"

typedef struct WhSubscription
{
	pg_uuid_t	endpoint_id;
	bool		enabled;		/* false: disabled, takes no new deliveries */
	int			pattern_count;
	char	  **patterns;
} WhSubscription;

typedef struct WhSubscriptions
{
	int			count;
	WhSubscription *items;
} WhSubscriptions;

/*
 * The endpoints of a tenant, as of the last commit and with what this transaction changed; good until the next call.
 */
extern const WhSubscriptions *wh_subscriptions(const char *tenant_id);

extern bool wh_subscription_takes(const WhSubscription *subscription, const char *event_type);

#endif
