/*
 * Pictures of people: where an upload goes, what it must be, which blob it is, and the thread that deletes blobs that nobody needs.
 * The bytes pass through the gateway only (docs/adr/0017-blobs.md).
 */
#ifndef CRM_AUTH_AVATARS_H
#define CRM_AUTH_AVATARS_H

#include <libpq-fe.h>

#include "blob/blob.h"

/* Opens the store and starts the thread; without a URL neither. Exits with a sentence when it cannot. */
void avatars_start(const struct blob_options *o, const char *database_url);
void avatars_stop(void);

/* What a writer sends as avatar: the whole URL of the one that is there already is that one. old may be NULL. */
const char *avatar_written(const char *in, const char *old);

#endif
