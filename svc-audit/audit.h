/* The parts of svc-audit that main.c puts together. */
#ifndef CRM_SVC_AUDIT_AUDIT_H
#define CRM_SVC_AUDIT_AUDIT_H

#include "resource/resource.h"
#include "service/service.h"

struct audit_settings {
	const char *bus_owner_database_url, *bus_schema_dir, *signing_key_file, *checkpoint_file;
	const char *services, *service_hosts_file, *master_key_file, *mail_url, *mail_from, *mail_templates;
};
/* Loaded by the service; set before it runs. */
extern const struct audit_settings *audit_settings;

extern const struct resource entry_resource, security_event_resource, retention_policy_resource, alert_rule_resource;
extern const struct op audit_ops[];
extern const size_t audit_n_ops;

/* Every topic of the product. */
extern const char *const audit_topics[];
extern const size_t audit_n_topics;

struct signer;
/* The key that signs ends and cuts; NULL before audit_start. */
extern const struct signer *audit_signer;

/* Starts the consumer and remembers how Verify reaches the database. */
void audit_start(const struct service_settings *s, struct event_base *base, struct db *db);
void audit_stop(void);
void audit_metrics(struct buf *out);

/* OP_HANDLERs: worker thread, reply exactly once. */
void audit_verify(struct rpc_call *call, struct db_conn *db);
void audit_note_export(struct rpc_call *call, struct db_conn *db);
void audit_observe(struct rpc_call *call, struct db_conn *db);
void audit_stats(struct rpc_call *call, struct db_conn *db);
void audit_compliance(struct rpc_call *call, struct db_conn *db);
void security_event_resolve(struct rpc_call *call, struct db_conn *db);
void retention_policy_apply(struct rpc_call *call, struct db_conn *db);

/* Programs of their own in this binary: `svc-audit verify …`, `svc-audit public-key FILE`. */
int audit_verify_main(int argc, char **argv);
int audit_public_key_main(int argc, char **argv);

#endif
