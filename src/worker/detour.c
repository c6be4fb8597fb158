/*
 * What keeps a request from coming through the proxy is no attempt: its delivery waits in the
 * queue.
 *
 * A proxy that cannot be used makes everybody wait. One that refuses a receiver makes that endpoint
 * wait; but should it go on to refuse this one while it connects to others, the reason lies with
 * the receiver (the proxy's rules are against it, or it cannot be reached), and the failures count.
 */
#include "postgres.h"

#include "utils/timestamp.h"
#include "worker/engine_state.h"

#define FIRST_WAIT_MS 1000
#define LONGEST_WAIT_MS 60000
#define LOG_MS 60000			/* between lines of the log */

static void
tell(WhEngine *e, const WhDelivery *d, TimestampTz now)
{
	if (now < wh_later(e->proxy.logged_at, LOG_MS))
		return;
	e->proxy.logged_at = now;
	ereport(LOG,
			(errmsg("webhooks: requests have to wait: %s", d->request.error),
			 errhint("They are sent when the proxy lets them through, and use up no attempts.")));
}

/* Twice the last wait, unless that is not over yet. */
static TimestampTz
longer(TimestampTz until, int *wait_ms, TimestampTz now)
{
	if (now < until)
		return until;
	*wait_ms = *wait_ms == 0 ? FIRST_WAIT_MS : Min(2 * *wait_ms, LONGEST_WAIT_MS);
	return wh_later(now, *wait_ms);
}

/* Whether it has connected to another since it began to refuse this one. */
static bool
refusal_counts(const WhEngine *e, const WhDetour *detour)
{
	return detour->refused_at != 0 && e->proxy.let_through_at > detour->refused_at;
}

bool
wh_detour_passed(WhEngine *e, WhDelivery *d)
{
	WhDetour   *detour = &d->endpoint->detour;
	TimestampTz now = GetCurrentTimestamp();

	switch (d->request.proxy_trouble)
	{
		case WH_PROXY_FINE:
			e->proxy.wait_ms = 0;
			*detour = (WhDetour) {0};
			if (d->request.let_through)
				e->proxy.let_through_at = Max(e->proxy.let_through_at, d->attempted_at);
			return true;
		case WH_PROXY_FAILS:
			e->fetch_not_before = longer(e->fetch_not_before, &e->proxy.wait_ms, now);
			break;
		case WH_PROXY_REFUSES:
			e->proxy.wait_ms = 0;
			if (refusal_counts(e, detour))
				return true;
			if (detour->refused_at == 0)
				detour->refused_at = now;
			detour->held_until = longer(detour->held_until, &detour->wait_ms, now);
			break;
	}
	tell(e, d, now);
	return false;
}

void
wh_detour_forget(WhEngine *e)
{
	e->fetch_not_before = GetCurrentTimestamp();
	e->proxy.wait_ms = 0;
	wh_scheduler_forget_detours(e->queue.scheduler);
}
