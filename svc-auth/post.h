/*
 * Mail of svc-auth: written into mail_queue in the transaction of what it is about, sent by a thread of its own, tried again
 * with growing pauses until the server takes it, kept for a week when the server says never.
 * Threading: post_add on a worker, in its transaction; the rest from main.
 */
#ifndef CRM_AUTH_POST_H
#define CRM_AUTH_POST_H

#include "resource/handler.h"

struct post_value {
	const char *name, *value;
};

/* values: for the {{names}} of svc-auth/mail/<template>.txt; `link` and `token` are secrets and lie sealed in the queue. */
enum status post_add(struct rpc_call *call, struct db_conn *db, const char *to, const char *template, const struct post_value *values, size_t n) MUST_CHECK;

/* The address of a page that takes the token, in the arena. */
const char *post_link(struct rpc_call *call, const char *page, const char *token);

struct post_settings {
	const char *database_url, *mail_url, *from, *templates, *web_url;
};
/* Exits the program when mail_url or the templates are wrong. */
void post_start(const struct post_settings *s);
void post_stop(void);
/* Only what post_start checks and post_link needs, without the thread. For tests, which call post_turn. */
void post_init(const struct post_settings *s);
/* Sends one that is due. False: there was none, or the database failed. */
bool post_turn(PGconn *db);

#endif
