/* Inside lib/db: threads that run handlers, each with a blocking connection of its own. */
#ifndef CRM_DB_WORKERS_H
#define CRM_DB_WORKERS_H

#include "db/db.h"

struct workers;

struct workers *workers_new(const char *url, int n, int statement_timeout_ms);
/* Ends after the jobs that have begun and those that wait; their connections close. */
void workers_free(struct workers *w);
bool workers_put(struct workers *w, void (*job)(struct db_conn *c, void *arg), void *arg);
void workers_stats(struct workers *w, struct db_stats *s);

#endif
