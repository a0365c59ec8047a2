/* Tables of the customers service: its resources and its ops. */
#ifndef CRM_SVC_CUSTOMERS_OPS_H
#define CRM_SVC_CUSTOMERS_OPS_H

#include "db/db.h"
#include "resource/resource.h"

extern const struct resource account_resource, contact_resource, lead_resource, tag_resource, territory_resource, note_resource, timeline_resource, job_resource, job_item_resource;
extern const struct op customers_ops[];
extern const size_t customers_n_ops;

/* Handlers: worker thread, reply exactly once. */
void lead_convert(struct rpc_call *call, struct db_conn *db);
void territory_assign(struct rpc_call *call, struct db_conn *db);

/* Statements of OP_REPORTs. */
extern const char account_stats_sql[];

#endif
