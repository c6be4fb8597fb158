/*
 * Text that is put together in memory of the caller's, to be signed. What has no more room, or must
 * not be signed, makes the writer fail: then what it wrote is of no use.
 */
#ifndef WH_CORE_WRITER_H
#define WH_CORE_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct WhWriter
{
	char	   *start;
	size_t		len;
	size_t		size;
	bool		failed;
} WhWriter;

extern void wh_put(WhWriter *out, const char *text, size_t len);
extern void wh_put_text(WhWriter *out, const char *text);
extern void wh_put_number(WhWriter *out, int64_t number);

/* ASCII letters in lower case. */
extern void wh_put_lower(WhWriter *out, const char *text, size_t len);

/* A header's value without the blanks around it (RFC 9421, 2.1). */
extern void wh_put_trimmed(WhWriter *out, const char *text);

#endif
