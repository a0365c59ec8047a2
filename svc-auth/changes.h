/* What every gateway must know within a second: ended sessions, changed people, deleted tenants. feed.c hands it out. */
#ifndef CRM_AUTH_CHANGES_H
#define CRM_AUTH_CHANGES_H

#include "resource/handler.h"

/* Notes the change in this transaction. epoch_us: tokens issued before it are dead; 0: none. Thread: the call's. */
enum status change_note(struct rpc_call *call, struct db_conn *db, const char *kind, const char *id, int64_t epoch_us, bool revoked) MUST_CHECK;

#endif
