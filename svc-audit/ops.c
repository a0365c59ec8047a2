/* What svc-audit answers: the log is read like any resource, and verified by a handler. */
#include "svc-audit/audit.h"

static const struct resource entry = {
	.message = "crm.v1.AuditEntry",
	.table = "entry",
	.filter = "seq created_us type action resource resource_id resource_seq user api_key_id request_id dialect",
	.sort = "seq created_us",
	.default_sort = "-seq",
	.searchable = true,
	.hard = true,
};

const struct op audit_ops[] = {
	{ .rpc = "AuditLogs.List", .kind = OP_LIST, .resource = &entry },
	{ .rpc = "AuditLogs.Get", .kind = OP_GET, .resource = &entry },
	{ .rpc = "AuditLogs.Verify", .kind = OP_HANDLER, .handler = audit_verify },
};
const size_t audit_n_ops = sizeof audit_ops / sizeof audit_ops[0];
