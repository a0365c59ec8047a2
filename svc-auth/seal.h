/* Secrets at rest: AES-256-GCM under a key derived from the key-encryption key for one purpose. */
#ifndef CRM_AUTH_SEAL_H
#define CRM_AUTH_SEAL_H

#include "base/arena.h"

/* The text as a bytea parameter (hex), in the arena. bound: what it belongs to; opening needs the same. */
char *seal_text(struct arena *a, const char *purpose, const char *bound, struct str text);
/* hex: what bytea prints, with its \x. False: tampered with, bound to something else, or another key. */
bool seal_open(struct arena *a, const char *purpose, const char *bound, struct str hex, struct str *text);

#endif
