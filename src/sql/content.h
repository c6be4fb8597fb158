/*
 * What an event says: judged by the catalog, asked by filters, and made into the versions that
 * endpoints want. For an event with none of that it costs a look into a cache.
 */
#ifndef WH_SQL_CONTENT_H
#define WH_SQL_CONTENT_H

#include "postgres.h"

#include "sql/event.h"
#include "sql/subscription.h"
#include "sql/user_function.h"

/* Of one dispatcher, and within it of one event at a time. */
typedef struct WhContent
{
	MemoryContext context;		/* the dispatcher's */
	MemoryContext scratch;		/* NULL: not needed yet */
	WhUserFunctions *functions; /* NULL: none was called yet */
	const WhEvent *event;
	bool		parsed;			/* json is known */
	Jsonb	   *json;			/* NULL: the body is not JSON */
} WhContent;

/* Takes up an event. Raises an error when the catalog or its validator refuses it. */
extern void wh_content_judge(WhContent *content, const WhEvent *event);

/* Leaves out subscribers whose filter refuses the event; returns how many remain. */
extern int	wh_content_filter(WhContent *content, const WhSubscriber **subscribers, int count);

/*
 * A jsonb of the payload in each version that a subscriber wants, in the current context; 0 when
 * none does. User functions run, so subscribers are copied first.
 */
extern Datum wh_content_versions(WhContent *content, const WhSubscriber **subscribers, int count);

/* Lets go what is known of the event. */
extern void wh_content_done(WhContent *content);

#endif
