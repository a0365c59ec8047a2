/*
 * A service's queue of mail: rows of its table mail_queue (id, recipient, template, sealed, …), written in the transaction of what they
 * are about, sent by a thread of its own, tried again with growing pauses until the server takes them, kept when it says never.
 * One queue per process. Threading: start and stop from main; the rest is the thread's, or a test's.
 */
#ifndef CRM_MAIL_QUEUE_H
#define CRM_MAIL_QUEUE_H

#include <libpq-fe.h>

#include "base/arena.h"
#include "mail/mail.h"

#define MAIL_VALUES_MAX 12

struct mail_queue_config {
	const char *database_url, *mail_url, *from, *templates; /* templates: folder of <name>.txt */
	const char *const *names;                              /* of the templates, at most 16; must stay */
	size_t n_names;
	/* Opens the column sealed of mail `id` (as PostgreSQL prints bytea) into what mail_value_put made. False: it cannot be opened. */
	bool (*open)(struct arena *a, const char *id, struct str hex, struct str *values);
};

/* Appends a value of a template's {{name}}; to be sealed and stored. Controls become spaces; at most MAIL_VALUES_MAX count. */
void mail_value_put(struct buf *b, const char *name, const char *value);

/* Exits the program when an address, the URL or a template is wrong. */
void mail_queue_start(const struct mail_queue_config *c);
void mail_queue_stop(void);
/* What start does before the thread. For tests, which call mail_queue_turn. */
void mail_queue_init(const struct mail_queue_config *c);
/* Sends one that is due. False: there was none, or the database failed. */
bool mail_queue_turn(PGconn *db);

#endif
