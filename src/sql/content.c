/*
 * The functions called here are the users' own: each runs in a scratch context, so that a statement
 * of very many events does not gather what they leave behind, and never sees an operational event.
 */
#include "postgres.h"

#include "core/event_type.h"
#include "core/media_type.h"
#include "sql/catalog.h"
#include "sql/content.h"
#include "sql/filter.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

/* Switches to the scratch context; returns the one before. */
static MemoryContext
enter_scratch(WhContent *content)
{
	if (content->scratch == NULL)
		content->scratch = AllocSetContextCreate(content->context, "webhooks event",
												 ALLOCSET_SMALL_SIZES);
	return MemoryContextSwitchTo(content->scratch);
}

static WhUserFunctions *
user_functions(WhContent *content)
{
	if (content->functions == NULL)
	{
		MemoryContext before = MemoryContextSwitchTo(content->context);

		content->functions = wh_user_functions_create();
		MemoryContextSwitchTo(before);
	}
	return content->functions;
}

/* The JSON value of the event, NULL when its body is none. In the scratch context. */
static Jsonb *
json_value(WhContent *content)
{
	const WhEvent *event = content->event;

	if (content->parsed)
		return content->json;
	if (event->body == NULL)
		content->json = DatumGetJsonbP(event->payload);
	else if (wh_media_type_is_json(event->content_type))
		content->json = wh_filter_parse(VARDATA_ANY(event->body),
										VARSIZE_ANY_EXHDR(event->body));
	else
		content->json = NULL;
	content->parsed = true;
	return content->json;
}

void
wh_content_judge(WhContent *content, const WhEvent *event)
{
	char	   *validator = wh_catalog_check(event->event_type);
	MemoryContext before;

	content->event = event;
	content->parsed = false;
	if (validator == NULL)
		return;
	before = enter_scratch(content);
	wh_catalog_validate(user_functions(content), validator, event->event_type,
						json_value(content));
	MemoryContextSwitchTo(before);
}

int
wh_content_filter(WhContent *content, const WhSubscriber **subscribers, int count)
{
	const WhSubscriber *all = *subscribers;
	WhSubscriber *passed;
	int			passed_count = 0;
	int			first = 0;

	while (first < count && all[first].filter == NULL)
		first++;
	if (first == count)
		return count;

	passed = palloc_extended(count * sizeof(WhSubscriber), MCXT_ALLOC_HUGE);
	for (int i = 0; i < count; i++)
	{
		MemoryContext before = enter_scratch(content);
		bool		passes = all[i].filter == NULL ||
			(json_value(content) && wh_filter_passes(all[i].filter, content->json));

		MemoryContextSwitchTo(before);
		if (passes)
			passed[passed_count++] = all[i];
	}
	*subscribers = passed;
	return passed_count;
}

/* The subscribers' versions, each once, in the current context. */
static List *
distinct_versions(const WhSubscriber *subscribers, int count)
{
	List	   *versions = NIL;

	for (int i = 0; i < count; i++)
	{
		const char *version = subscribers[i].api_version;
		bool		seen = version == NULL;
		ListCell   *cell;

		foreach(cell, versions)
			seen = seen || strcmp(lfirst(cell), version) == 0;
		if (!seen)
			versions = lappend(versions, pstrdup(version));
	}
	return versions;
}

static void
push_text(JsonbParseState **state, JsonbIteratorToken token, char *text)
{
	JsonbValue	v = {.type = jbvString, .val.string = {(int) strlen(text), text}};

	(void) pushJsonbValue(state, token, &v);
}

Datum
wh_content_versions(WhContent *content, const WhSubscriber **subscribers, int count)
{
	const WhEvent *event = content->event;
	List	   *versions = event->body || wh_event_type_is_operational(event->event_type) ? NIL :
		distinct_versions(*subscribers, count);
	MemoryContext before;
	WhSubscriber *copies;
	JsonbParseState *state = NULL;
	JsonbValue *object;
	ListCell   *cell;

	if (versions == NIL)
		return (Datum) 0;
	copies = palloc_extended(count * sizeof(WhSubscriber), MCXT_ALLOC_HUGE);
	memcpy(copies, *subscribers, count * sizeof(WhSubscriber));
	*subscribers = copies;

	before = enter_scratch(content);
	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	foreach(cell, versions)
	{
		JsonbValue	v;

		JsonbToJsonbValue(wh_api_version_transform(user_functions(content), lfirst(cell),
												   event->event_type, json_value(content)), &v);
		push_text(&state, WJB_KEY, lfirst(cell));
		(void) pushJsonbValue(&state, WJB_VALUE, &v);
	}
	object = pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	MemoryContextSwitchTo(before);
	return JsonbPGetDatum(JsonbValueToJsonb(object));
}

void
wh_content_done(WhContent *content)
{
	if (content->scratch)
		MemoryContextReset(content->scratch);
}
