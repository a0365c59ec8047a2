/*
 * Pictures of people: where an upload goes, what it must be, which blob it is.
 * The bytes pass through the gateway only (docs/adr/0017-blobs.md).
 */
#ifndef CRM_AUTH_AVATARS_H
#define CRM_AUTH_AVATARS_H

#include "blob/blob.h"

/* What a writer sends as avatar: the whole URL of the one that is there already is that one. old may be NULL. */
const char *avatar_written(const char *in, const char *old);

#endif
