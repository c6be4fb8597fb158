/*
 * The bytes of a request body in payload format "standard":
 * {"type":…,"timestamp":…,"data":…}. The same event gives the same bytes on every attempt.
 */
#ifndef WH_CORE_BODY_H
#define WH_CORE_BODY_H

#include <stddef.h>
#include <stdint.h>

/* Upper bound of what wh_body_standard writes for these lengths, the terminating NUL included. */
extern size_t wh_body_standard_bound(size_t event_type_len, size_t data_len);

/*
 * Writes the body, NUL-terminated, and returns its length. event_type is valid (see event_type.h),
 * data is JSON text, occurred_at_us is microseconds since the Unix epoch, written in RFC 3339 form
 * in UTC with six digits of fraction: 2026-11-23T06:30:00.123456Z. Years outside 0001 to 9999 are
 * clamped to those.
 */
extern size_t wh_body_standard(char *out, const char *event_type, int64_t occurred_at_us,
							   const char *data, size_t data_len);

#endif
