/*
 * The headers argument of a function: judged, and its Authorization value taken out.
 */
#ifndef WH_SQL_HEADER_H
#define WH_SQL_HEADER_H

#include "postgres.h"

#include "utils/jsonb.h"

/* What stands in the tables in the place of a secret value. */
#define WH_HEADER_MASK "********"

typedef struct WhHeaders
{
	Jsonb	   *stored;			/* with the mask as Authorization's value */
	char	   *authorization;	/* that value, a secret: the caller wipes it; NULL: there is none */
	bool		masked;			/* the value given is the mask itself: whoever gives back what he
								 * read in the table means the value that is kept; authorization
								 * is NULL */
} WhHeaders;

/*
 * Raises 22023, by the argument's name, unless headers is an object of at most WH_HEADERS_MAX
 * headers that are allowed. No message shows a value.
 */
extern WhHeaders wh_headers_judge(const char *argument, Jsonb *headers);

/* Raises 22023 for the mask where nothing is kept that it could mean. */
extern void wh_headers_refuse_mask(const char *argument, const WhHeaders *headers);

/* Both. */
extern WhHeaders wh_headers_judge_new(const char *argument, Jsonb *headers);

#endif
