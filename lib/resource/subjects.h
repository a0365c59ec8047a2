/*
 * Who a service keeps personal fields of, and erasing them: for every resource whose message has a field with `personal`. An entity
 * that gets such fields, or a field that gets the word, is covered without further ado.
 *
 * OP_HANDLERs for <Service>Subjects.Find and .Erase (crm.v1.SubjectsRequest → SubjectsReply), which only svc-audit calls.
 */
#ifndef CRM_RESOURCE_SUBJECTS_H
#define CRM_RESOURCE_SUBJECTS_H

#include "resource/handler.h"

#define SUBJECTS_MAX 1000      /* of one entity, in a reply */
#define SUBJECT_ERASED "Erased" /* stands where a name must be */

/* By mail address, or by id; also rows that were deleted. */
void subjects_find(struct rpc_call *call, struct db_conn *db);
/*
 * By id only: personal columns are emptied, an event <service>.<entity>.erased without values is made, and outbox and kept replies
 * are scrubbed. What is erased already stays as it is. The reply has those that changed.
 */
void subjects_erase(struct rpc_call *call, struct db_conn *db);

/* Handlers of services with tables of their own. ids of the entity in the request, as uuid[] parameter; "{}" when there is none. */
const char *subjects_ids(struct rpc_call *call, const Crm__V1__SubjectsRequest *req, const char *entity);
/* Appends entity, id and row (may be NULL) of a SubjectsReply. */
void subjects_put(struct buf *reply, const char *entity, const char *id, const char *row);
/* Outbox and kept replies of these ids (uuid[] parameter), in the caller's tenant. */
enum status subjects_scrub(struct db_conn *db, const char *ids) MUST_CHECK;

#endif
