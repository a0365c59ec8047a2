/*
 * What db_migrate and the readiness check share: the files of a migration folder.
 *
 * A migration's name is its file name, so it is the same wherever the program is installed: numbers below 100 are the tables
 * that every service has, a service's own start at 100.
 */
#ifndef CRM_DB_MIGRATE_H
#define CRM_DB_MIGRATE_H

#include "base/arena.h"

/* Names of NNN_*.sql in dir in order, into *names (in the arena). -1 when the folder cannot be read. */
int migrate_files(struct arena *a, const char *dir, const char *const **names);

#endif
