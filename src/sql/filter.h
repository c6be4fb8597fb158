/*
 * Filters: a jsonpath of an endpoint, asked about each payload before anything is queued for it.
 */
#ifndef WH_SQL_FILTER_H
#define WH_SQL_FILTER_H

#include "postgres.h"

#include "utils/jsonb.h"
#include "utils/jsonpath.h"

/* A filter taken apart once, to be asked many times. */
typedef struct WhFilter
{
	JsonPath   *path;
	bool		exists;			/* a path with "? (…)": passes if it selects anything */
	bool		fragile;		/* evaluating it may raise an error whatever the mode */
} WhFilter;

/*
 * Raises 22023 for a jsonpath that could exhaust the stack or run for minutes, and for one with a
 * variable, which no caller gives it.
 */
extern void wh_path_check(const char *argument, JsonPath *path);

/* The same, and for a jsonpath that is no filter: one that has no answer of yes or no. */
extern void wh_filter_check(JsonPath *path);

/* The filter of an endpoint, in the current context. */
extern WhFilter *wh_filter_read(JsonPath *path);

/*
 * Whether a payload passes. Whatever goes wrong in the evaluation is a no: what one endpoint wrote
 * must not fail the transaction that dispatches. Errors that are not about the payload (a
 * cancelled query, memory) are raised.
 */
extern bool wh_filter_passes(const WhFilter *filter, Jsonb *payload);

/*
 * What the path finds first in the payload, in the current context; NULL when that is nothing, or
 * an error. Raises the same errors only.
 */
extern Jsonb *wh_path_first(JsonPath *path, Jsonb *payload);

/*
 * The JSON value that a raw body is, in the current context; NULL when it is none. Raises the same
 * errors only.
 */
extern Jsonb *wh_filter_parse(const char *body, Size len);

#endif
