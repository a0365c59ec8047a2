/* Inside lib/db: threads that run handlers, each with a blocking connection of its own. */
#ifndef CRM_DB_WORKERS_H
#define CRM_DB_WORKERS_H

#include "db/db.h"

struct workers;
struct metric_series;

#define DB_WAIT_BOUNDS 15
extern const double db_wait_bounds[DB_WAIT_BOUNDS];
/* Of crm_db_wait_seconds, for db.c and workers.c. */
struct metric_series *db_wait_series(const char *kind);

struct workers *workers_new(const char *url, int n, int statement_timeout_ms);
/* Ends after the jobs that have begun and those that wait; their connections close. */
void workers_free(struct workers *w);
bool workers_put(struct workers *w, void (*job)(struct db_conn *c, void *arg), void *arg);
void workers_stats(struct workers *w, struct db_stats *s);

#endif
