/* The parts of svc-audit that main.c puts together. */
#ifndef CRM_SVC_AUDIT_AUDIT_H
#define CRM_SVC_AUDIT_AUDIT_H

#include "resource/resource.h"
#include "service/service.h"

extern const struct op audit_ops[];
extern const size_t audit_n_ops;

/* Starts the consumer and remembers how Verify reaches the database. */
void audit_start(const struct service_settings *s, struct event_base *base, struct db *db);
void audit_stop(void);

/* OP_HANDLER of AuditLogs.Verify. */
void audit_verify(struct rpc_call *call, struct db_conn *db);

#endif
