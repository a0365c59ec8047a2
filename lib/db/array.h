/*
 * Array literals of PostgreSQL, as text parameters: {"a","b \" c"}. Good for text[], uuid[], bigint[].
 *
 *   struct buf b = { 0 };
 *   for (…) db_array_put(&b, item);
 *   param = db_array_end(&b, arena);
 *
 * Pure functions, any thread. Items must not have NUL characters.
 */
#ifndef CRM_DB_ARRAY_H
#define CRM_DB_ARRAY_H

#include "base/arena.h"
#include "base/buf.h"

/* Appends one element; the first brings the opening brace. */
void db_array_put(struct buf *b, struct str item);
/* The literal, in the arena; "{}" when nothing was put. Frees b. */
char *db_array_end(struct buf *b, struct arena *a);

#endif
