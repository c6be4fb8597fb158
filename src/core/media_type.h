/*
 * Media types, as a Content-Type header has them: "text/plain; charset=utf-8".
 */
#ifndef WH_CORE_MEDIA_TYPE_H
#define WH_CORE_MEDIA_TYPE_H

#include <stdbool.h>

#define WH_MEDIA_TYPE_MAX 255	/* bytes */

/*
 * The grammar of RFC 9110, 8.3.1, in at most WH_MEDIA_TYPE_MAX bytes of ASCII without control
 * characters.
 */
extern bool wh_media_type_valid(const char *media_type);

/*
 * Whether a valid media type says JSON: application/json, text/json, or a subtype ending in
 * "+json".
 */
extern bool wh_media_type_is_json(const char *media_type);

#endif
