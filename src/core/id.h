/*
 * Ids: UUID version 7 (RFC 9562, 5.7), so that they sort by time, and delivery ids derived from
 * them.
 */
#ifndef WH_CORE_ID_H
#define WH_CORE_ID_H

#include <stdint.h>

#define WH_ID_LEN 16
#define WH_ID_TEXT_SIZE 37		/* 32 digits, 4 hyphens and the NUL */

/*
 * Builds a UUIDv7. time_tick is the Unix time in 1/4096 ms: its upper 48 bits are unix_ts_ms, its
 * lower 12 go into rand_a (RFC 9562, 6.2, method 3). Whoever passes growing ticks gets growing ids.
 */
extern void wh_id_v7(unsigned char id[WH_ID_LEN], uint64_t time_tick, uint64_t random);

/*
 * The id of an event's delivery to an endpoint. The same pair always has the same delivery id, on
 * every platform, and the event's first eight bytes (time, version) are kept: deliveries sort by
 * time, and an event's deliveries lie together.
 */
extern void wh_id_delivery(unsigned char delivery_id[WH_ID_LEN],
						   const unsigned char event_id[WH_ID_LEN],
						   const unsigned char endpoint_id[WH_ID_LEN]);

/* Writes the id in lower case: RFC 9562, 4. */
extern void wh_id_text(char text[WH_ID_TEXT_SIZE], const unsigned char id[WH_ID_LEN]);

#endif
