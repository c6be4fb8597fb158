/*
 * The options of an endpoint, as register_endpoint and update_endpoint are given them.
 */
#ifndef WH_SQL_OPTIONS_H
#define WH_SQL_OPTIONS_H

#include "postgres.h"

#include "sql/header.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

/* In the order of the functions' arguments. */
typedef enum WhOption
{
	OPTION_URL, OPTION_EVENT_TYPES, OPTION_DESCRIPTION, OPTION_FILTER, OPTION_HEADERS,
	OPTION_SIGNATURE_SCHEMES, OPTION_PAYLOAD_FORMAT, OPTION_API_VERSION, OPTION_RETRY_SCHEDULE,
	OPTION_RETRY_ON, OPTION_TIMEOUT, OPTION_RATE_LIMIT, OPTION_MAX_IN_FLIGHT, OPTION_ORDERING,
	OPTION_CLIENT_CERTIFICATE, OPTION_CLIENT_KEY, OPTION_METADATA
} WhOption;

#define OPTION_COUNT (OPTION_METADATA + 1)

typedef struct WhOptions
{
	NullableDatum values[OPTION_COUNT];
	bool		given[OPTION_COUNT];	/* false: the value is not looked at */
	bool		is_new;			/* of an endpoint that has no secrets yet */

	/* what wh_options_judge finds */
	WhHeaders	headers;
	char	   *client_key;		/* a secret; NULL: none is given */
} WhOptions;

/* The argument's name, which is also that of the column of endpoints, and the column's type. */
typedef struct WhOptionColumn
{
	const char *name;
	Oid			type;			/* InvalidOid: kept elsewhere */
} WhOptionColumn;

extern const WhOptionColumn wh_option_columns[OPTION_COUNT];

/*
 * Raises 22023, naming the option, for the first that is not what it may be. What is left in values
 * can be stored where it can be read: Authorization's value is masked there.
 */
extern void wh_options_judge(WhOptions *options);

/* The value that the option has when register_endpoint is not given it. */
extern NullableDatum wh_option_default(WhOption option);

/*
 * Stores the secrets among the options that were judged, instead of those the endpoint had, and
 * wipes them. The caller is connected to SPI.
 */
extern void wh_options_store_secrets(const pg_uuid_t *endpoint_id, WhOptions *options);

/* Milliseconds; a month counts thirty days. Saturates far outside what any rule allows. */
extern int64 wh_interval_ms(const Interval *span);

/* How long an older secret is good beside a new one, as an interval; raises 22023. */
extern Datum wh_overlap_argument(FunctionCallInfo fcinfo, int number);

#endif
