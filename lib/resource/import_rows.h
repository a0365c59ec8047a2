/* Inside lib/resource: the rows of one step of an import. */
#ifndef CRM_RESOURCE_IMPORT_ROWS_H
#define CRM_RESOURCE_IMPORT_ROWS_H

#include "jobs/jobs.h"
#include "proto/common.pb-c.h"
#include "resource/internal.h"

enum import_action { IMPORT_FAILED, IMPORT_CREATED, IMPORT_UPDATED, IMPORT_SKIPPED };

struct import_row {
	uint64_t number; /* in the table */
	struct str entity;
	struct values *values;
	const char *key; /* what it is recognised by; NULL: nothing */
	bool open;       /* nothing has been done about it yet */
	/* what it came to */
	enum import_action action;
	const char *id, *before;
	int64_t made;    /* version that it has now */
	enum status status;
	const char *field, *message, *problems; /* problems: JSON */
};

struct import_step {
	const struct bound *b;
	struct job *job;
	const Crm__V1__ImportRequest *req;
	struct actor actor;
	struct import_row *rows;
	size_t n;
	int64_t read; /* bytes of the file */
	const struct col *match; /* NULL: every row is a new one */
};

/* wire: an ImportRow. False: it is none. */
bool import_row_read(struct import_step *st, struct import_row *r, struct str wire);
/* In the step's transaction: every row gets its action. Not OK: the step as a whole failed. */
enum status import_rows_write(struct import_step *st, struct db_conn *db) MUST_CHECK;

#endif
