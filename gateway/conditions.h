/* Conditional and idempotent requests: If-Match, If-None-Match (RFC 9110), Idempotency-Key (draft-07). Pure. */
#ifndef CRM_GATEWAY_CONDITIONS_H
#define CRM_GATEWAY_CONDITIONS_H

#include "base/buf.h"
#include "base/str.h"

#define IDEMPOTENCY_KEY_MAX 200

/* `"saas-7"`, `W/"saas-7"`, a list (its first counts), `*` (*version = 0). False: malformed. Any dialect's tag is understood. */
bool conditions_if_match(struct str header, uint64_t *version);
/* True when a listed tag, weakly compared, is etag (with its quotes), or the header is `*`. */
bool conditions_none_match(struct str header, struct str etag);
void conditions_etag(struct buf *out, const char *dialect, uint64_t version);
/* Bare (`abc`) or a structured string (`"abc"`). False: malformed, empty or too long. *key points into scratch or the header. */
bool conditions_idempotency_key(struct str header, char scratch[IDEMPOTENCY_KEY_MAX], struct str *key);

#endif
