/*
 * Migrations: the files of a folder, applied once each and in order, and what a service needs to know of them to say whether it is ready.
 *
 * A migration's name is its file name, so it is the same wherever the program is installed: numbers below 100 are the tables
 * that every service has, a service's own start at 100. Comments at the top of a file may say:
 *
 *	-- oldest-program: 140      programs that do not know migration 140 (of the same kind, common or own) or a later one cannot run any more
 *	-- outside-transaction      its one statement runs alone: CREATE INDEX CONCURRENTLY
 */
#ifndef CRM_DB_MIGRATE_H
#define CRM_DB_MIGRATE_H

#include <stdio.h>

#include "base/arena.h"
#include "base/buf.h"

#define MIGRATE_WAIT_S 60
#define MIGRATE_BLOCK_MS 1000
#define MIGRATE_COMMON_END 100 /* numbers below are common */

struct migrate_config {
	const char *url;         /* <schema>_owner; who only asks for what is pending needs no more than <schema>_app */
	const char *schema, *dir;
	long wait_s;             /* for the database to come */
	long block_ms;           /* others may wait for our locks for so long, then the file is rolled back and tried again; 0: as long as it takes */
};

/* Brings the schema to the newest file. Exits with a sentence when it cannot. Blocking; before the loop starts. */
void migrate_run(const struct migrate_config *c);
/* How many files have not been applied; prints "<schema> <name>" for each. Changes nothing. Exits like migrate_run. */
int migrate_pending(const struct migrate_config *c, FILE *out);

/* Names of NNN_*.sql in dir in order, into *names (in the arena). -1 when the folder cannot be read. */
int migrate_files(struct arena *a, const char *dir, const char *const **names);
/* 140 of "140_avatars.sql". */
int migrate_number(const char *name);

/* A file as it is applied. */
struct migrate_file {
	const char *name;
	char checksum[65];  /* of its bytes */
	char *sql;          /* in the arena, {{schema}} replaced */
	int oldest_program; /* 0: not given */
	bool outside;       /* runs outside of a transaction */
};
/* Exits with a sentence when it cannot be read or its comments at the top make no sense. */
void migrate_file_read(struct arena *a, const char *dir, const char *name, const char *schema, struct migrate_file *f);

#endif
