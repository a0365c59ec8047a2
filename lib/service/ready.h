/*
 * Inside lib/service: is the database's schema one that this program can work with? Every file of its migration folders must have been
 * applied (the near end); more, a newer program's, is fine, unless one of them says that programs as old as this one cannot run any more
 * (the far end: oldest-program, db/migrate.h). Asked once a second until it is so, then every 5 s. Loop thread.
 */
#ifndef CRM_SERVICE_READY_H
#define CRM_SERVICE_READY_H

#include <event2/event.h>

#include "base/buf.h"
#include "db/db.h"

struct ready;

/* complete is called once, the first time that the schema is in range. */
struct ready *ready_new(struct event_base *base, struct db *db, const char *common_dir, const char *dir, void (*complete)(void *arg), void *arg);
void ready_free(struct ready *r);
/* NULL: yes; else a word for operators. */
const char *ready_why_not(const struct ready *r);
/* Appends a member of a JSON object: "schema":{"state":"current","have":"190_external","need":"190_external"}, with "oldestProgram" where one is declared. */
void ready_detail(const struct ready *r, struct buf *out);

#endif
