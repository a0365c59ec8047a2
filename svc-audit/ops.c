/* What svc-audit answers: a row per RPC. The log is read like any resource; the rest is in the file of its name. */
#include "svc-audit/audit.h"
#include "svc-audit/privacy.h"
#include "svc-audit/subject.h"
#include "svc-audit/feed.h"

const struct resource entry_resource = {
	.message = "crm.v1.AuditEntry",
	.table = "entry",
	.filter = "seq created_us type action resource resource_id resource_seq user api_key_id request_id dialect",
	.sort = "seq created_us",
	.default_sort = "-seq",
	.searchable = true,
	.hard = true,
	.from = "entry_read",
	.reveal = subject_reveal,
};

const struct resource security_event_resource = {
	.message = "crm.v1.SecurityEvent",
	.table = "security_event",
	.filter = "kind severity status user ip created_us alert_rule entry",
	.sort = "created_us severity kind seq",
	.default_sort = "-created_us",
	.hard = true,
};

const struct resource retention_policy_resource = {
	.message = "crm.v1.RetentionPolicy",
	.table = "retention_policy",
	.filter = "kind legal_hold",
	.sort = "seq name",
	.default_sort = "seq",
	.hard = true,
};

static const struct resource legal_hold_resource = {
	.message = "crm.v1.LegalHold",
	.table = "legal_hold",
	.filter = "name resource resource_id",
	.sort = "created_us seq",
	.default_sort = "-created_us",
};

const struct resource alert_rule_resource = {
	.message = "crm.v1.AlertRule",
	.table = "alert_rule",
	.filter = "name event_type action resource severity is_active created_us",
	.sort = "name severity created_us seq",
	.default_sort = "-created_us",
	.one_of = "event_type action resource",
	.defaults = "severity=medium threshold=1 window_s=300 is_active=true channel=stream",
};

const struct op audit_ops[] = {
	{ .rpc = "AuditLogs.List", .kind = OP_LIST, .resource = &entry_resource },
	{ .rpc = "AuditLogs.Get", .kind = OP_GET, .resource = &entry_resource },
	{ .rpc = "AuditLogs.Verify", .kind = OP_HANDLER, .handler = audit_verify },
	{ .rpc = "AuditLogs.NoteExport", .kind = OP_HANDLER, .handler = audit_note_export },
	{ .rpc = "AuditLogs.Observe", .kind = OP_HANDLER, .handler = audit_observe },
	{ .rpc = "AuditLogs.Stats", .kind = OP_HANDLER, .handler = audit_stats },
	{ .rpc = "AuditLogs.Compliance", .kind = OP_HANDLER, .handler = audit_compliance },
	{ .rpc = "Privacy.Export", .kind = OP_LOOP, .on_loop = privacy_export },
	{ .rpc = "Privacy.Erase", .kind = OP_LOOP, .on_loop = privacy_erase },
	{ .rpc = "SecurityEvents.List", .kind = OP_LIST, .resource = &security_event_resource },
	{ .rpc = "SecurityEvents.Get", .kind = OP_GET, .resource = &security_event_resource },
	{ .rpc = "SecurityEvents.Resolve", .kind = OP_HANDLER, .handler = security_event_resolve },
	{ .rpc = "RetentionPolicies.List", .kind = OP_LIST, .resource = &retention_policy_resource },
	{ .rpc = "RetentionPolicies.Update", .kind = OP_UPDATE, .resource = &retention_policy_resource },
	{ .rpc = "RetentionPolicies.Apply", .kind = OP_HANDLER, .handler = retention_policy_apply },
	{ .rpc = "LegalHolds.List", .kind = OP_LIST, .resource = &legal_hold_resource },
	{ .rpc = "LegalHolds.Create", .kind = OP_CREATE, .resource = &legal_hold_resource },
	{ .rpc = "LegalHolds.Delete", .kind = OP_DELETE, .resource = &legal_hold_resource },
	{ .rpc = "AlertRules.List", .kind = OP_LIST, .resource = &alert_rule_resource },
	{ .rpc = "AlertRules.Create", .kind = OP_CREATE, .resource = &alert_rule_resource },
	{ .rpc = "AlertRules.Update", .kind = OP_UPDATE, .resource = &alert_rule_resource },
	{ .rpc = "AlertRules.Delete", .kind = OP_DELETE, .resource = &alert_rule_resource },
	{ .rpc = "Feed.Read", .kind = OP_LOOP, .on_loop = feed_read },
	{ .rpc = "Feed.Moved", .kind = OP_LOOP, .on_loop = feed_moved },
};
const size_t audit_n_ops = sizeof audit_ops / sizeof audit_ops[0];
