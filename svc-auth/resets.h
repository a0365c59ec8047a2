/* Tokens that let a person choose a password, sent by mail. */
#ifndef CRM_AUTH_RESETS_H
#define CRM_AUTH_RESETS_H

#include "resource/handler.h"

/*
 * Makes a token for the person (older ones die) and puts the mail into the queue. template: "password-reset", "welcome".
 * Threading: a worker thread, in its transaction.
 */
enum status reset_mail(struct rpc_call *call, struct db_conn *db, const char *person_id, const char *template) MUST_CHECK;

#endif
