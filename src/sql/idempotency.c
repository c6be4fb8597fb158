/*
 * The primary key of the table decides who is first; ON CONFLICT waits for whoever else is at it.
 *
 * An entry past the window is taken over by the next event with its key. Nothing else is ever
 * updated, so a repeat writes nothing: it is told by the first look.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "settings.h"
#include "sql/idempotency.h"
#include "sql/owner.h"
#include "sql/session.h"
#include "utils/builtins.h"

#define TABLE "idempotency_keys"

static WhOwnerStatement find_statement = {
	"SELECT event_id FROM webhooks.idempotency_keys"
	" WHERE tenant_id OPERATOR(pg_catalog.=) $1 AND idempotency_key OPERATOR(pg_catalog.=) $2"
	" AND created_at OPERATOR(pg_catalog.>) $3",
	3, {TEXTOID, TEXTOID, TIMESTAMPTZOID}
};

static WhOwnerStatement claim_statement = {
	"INSERT INTO webhooks.idempotency_keys AS k (tenant_id, idempotency_key, created_at, event_id)"
	" VALUES ($1, $2, $4, $5)"
	" ON CONFLICT (tenant_id, idempotency_key)"
	" DO UPDATE SET created_at = excluded.created_at, event_id = excluded.event_id"
	" WHERE k.created_at OPERATOR(pg_catalog.<=) $3",
	5, {TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, UUIDOID}
};

/* The arguments that both statements begin with. */
static void
set_key(Datum *values, const char *tenant_id, const char *key, TimestampTz now)
{
	values[0] = CStringGetTextDatum(tenant_id);
	values[1] = CStringGetTextDatum(key);
	values[2] = TimestampTzGetDatum(now - wh_setting_idempotency_window_ms() * 1000);
}

static bool
find(Datum *values, pg_uuid_t *event_id)
{
	if (wh_owner_execute(&find_statement, values, NULL) == 0)
		return false;
	*event_id = wh_result_id(0, 1);
	return true;
}

bool
wh_idempotency_find(const char *tenant_id, const char *key, pg_uuid_t *event_id)
{
	WhOwnerScope scope = wh_owner_begin(TABLE);
	Datum		values[3];
	bool		found;

	set_key(values, tenant_id, key, GetCurrentTimestamp());
	found = find(values, event_id);
	wh_owner_end(&scope);
	return found;
}

bool
wh_idempotency_claim(const char *tenant_id, const char *key, TimestampTz now, pg_uuid_t *event_id)
{
	WhOwnerScope scope = wh_owner_begin(TABLE);
	pg_uuid_t	own_id = *event_id;
	Datum		values[5];
	bool		claimed;

	set_key(values, tenant_id, key, now);
	values[3] = TimestampTzGetDatum(now);
	values[4] = UUIDPGetDatum(&own_id);

	/* between the two, an entry may have been cleaned up */
	while (!(claimed = wh_owner_execute(&claim_statement, values, NULL) > 0) &&
		   !find(values, event_id))
		CHECK_FOR_INTERRUPTS();
	wh_owner_end(&scope);
	return claimed;
}
