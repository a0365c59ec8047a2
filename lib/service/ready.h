/*
 * Inside lib/service: is the database's schema what this program needs? Every file of the migration folders must have been
 * applied; more (a newer program's) is fine. Asked once a second until it is so. Loop thread.
 */
#ifndef CRM_SERVICE_READY_H
#define CRM_SERVICE_READY_H

#include <event2/event.h>

#include "db/db.h"

struct ready;

/* complete is called once. */
struct ready *ready_new(struct event_base *base, struct db *db, const char *common_dir, const char *dir, void (*complete)(void *arg), void *arg);
void ready_free(struct ready *r);
/* NULL: yes; else a word for operators. */
const char *ready_why_not(const struct ready *r);

#endif
