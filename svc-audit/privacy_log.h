/* What the log does for an export and an erasure (privacy.h). Worker threads; each function is one transaction or part of one. */
#ifndef CRM_SVC_AUDIT_PRIVACY_LOG_H
#define CRM_SVC_AUDIT_PRIVACY_LOG_H

#include "resource/handler.h"

/* found: bytes of a SubjectsReply. As JSON [{"entity","id"}], in the arena. */
const char *privacy_subjects(struct rpc_call *call, const Crm__V1__SubjectsReply *found);

/*
 * Destroys the keys and writes down what is to be erased. *all: that, and what an interrupted erasure left, as JSON. CONFLICT: a legal
 * hold covers one of them.
 */
enum status privacy_begin(struct rpc_call *call, struct db_conn *db, const char *subjects, const char **all) MUST_CHECK;
/* Everything has been erased where it was kept: the bus is scrubbed, the erasure is over. note: something changed, so there is an entry. */
enum status privacy_end(struct rpc_call *call, struct db_conn *db, const char *bus_url, const char *subjects, bool note) MUST_CHECK;
/* The document of an export, and its entry in the log. */
enum status privacy_document(struct rpc_call *call, struct db_conn *db, const Crm__V1__SubjectsReply *found, const char *subjects, struct buf *out, bool *more) MUST_CHECK;

#endif
