/* What the customers service does: a row per RPC; logic is in convert.c and territories.c. */
#include "resource/subjects.h"
#include "svc-customers/ops.h"

const struct resource tag_resource = {
	.message = "crm.v1.Tag", .table = "tag", .filter = "name color", .sort = "name created_us seq", .default_sort = "name",
};

const struct resource territory_resource = {
	.message = "crm.v1.Territory", .table = "territory", .filter = "external_id name is_active created_us updated_us",
	.sort = "name description is_active created_us updated_us seq", .default_sort = "-created_us", .searchable = true,
	.defaults = "is_active=true",
};

const struct resource account_resource = {
	.message = "crm.v1.Account", .table = "account",
	.filter = "external_id name contact_name email phone industry size status account_type tags owner territory created_by rating created_us updated_us last_contact_us total_value total_orders",
	.sort = "name contact_name email phone website notes industry size status account_type rating total_orders total_value created_us updated_us last_contact_us seq",
	.default_sort = "-created_us", .searchable = true, .one_of = "name contact_name",
	.defaults = "status=active",
};

const struct resource contact_resource = {
	.message = "crm.v1.Contact", .table = "contact",
	.filter = "external_id display given family email phone company title account tags status owner created_by created_us updated_us last_contact_us",
	.sort = "display given family email phone company title status notes created_us updated_us last_contact_us seq",
	.default_sort = "-created_us", .person = true, .searchable = true, .one_of = "display given family",
	.defaults = "status=active",
};

const struct resource lead_resource = {
	.message = "crm.v1.Lead", .table = "lead",
	.filter = "external_id display given family email phone company title source status value owner territory created_by created_us updated_us converted_us converted_account",
	.sort = "display given family email phone company title source status value notes created_us updated_us converted_us seq",
	.default_sort = "-created_us", .person = true, .searchable = true, .one_of = "display given family",
	.lower = "source status", .defaults = "status=new",
};

const struct resource note_resource = {
	.message = "crm.v1.Note", .table = "note", .filter = "account kind pinned created_by created_us", .sort = "created_us updated_us pinned seq", .default_sort = "-created_us",
	.defaults = "pinned=false",
};

const struct resource timeline_resource = {
	.message = "crm.v1.TimelineEntry", .table = "timeline_entry", .filter = "account type entity created_by created_us", .sort = "created_us seq", .default_sort = "-created_us",
	.hard = true,
};

const struct resource job_resource = {
	.message = "crm.v1.Job", .table = "job", .filter = "kind state created_by created_us", .sort = "created_us seq", .default_sort = "-created_us",
};

const struct resource job_item_resource = {
	.message = "crm.v1.JobItem", .table = "job_item", .filter = "job state code action", .sort = "position", .default_sort = "position", .hard = true,
};

const struct op customers_ops[] = {
	OPS_RESOURCE("Accounts", &account_resource),
	{ .rpc = "Accounts.Upsert", .kind = OP_UPSERT, .resource = &account_resource },
	{ .rpc = "Accounts.Export", .kind = OP_EXPORT, .resource = &account_resource },
	{ .rpc = "Accounts.PrepareImport", .kind = OP_IMPORT_PREPARE, .resource = &account_resource },
	{ .rpc = "Accounts.Import", .kind = OP_IMPORT, .resource = &account_resource },
	{ .rpc = "Accounts.Refs", .kind = OP_REFS, .resource = &account_resource },
	{ .rpc = "Accounts.Stats", .kind = OP_REPORT, .sql = account_stats_sql },
	{ .rpc = "Accounts.BulkUpdate", .kind = OP_BULK_UPDATE, .resource = &account_resource },
	{ .rpc = "Accounts.BulkDelete", .kind = OP_BULK_DELETE, .resource = &account_resource },
	{ .rpc = "Jobs.List", .kind = OP_LIST, .resource = &job_resource },
	{ .rpc = "Jobs.Get", .kind = OP_GET, .resource = &job_resource },
	{ .rpc = "Jobs.Cancel", .kind = OP_UPDATE, .resource = &job_resource, .set = "state=cancelled" },
	{ .rpc = "Jobs.Results", .kind = OP_LIST, .resource = &job_item_resource },
	{ .rpc = "Jobs.ResultFile", .kind = OP_EXPORT, .resource = &job_item_resource },
	{ .rpc = "Jobs.Revert", .kind = OP_REVERT, .resource = &job_resource },
	{ .rpc = "Notes.List", .kind = OP_LIST, .resource = &note_resource },
	{ .rpc = "Notes.Create", .kind = OP_CREATE, .resource = &note_resource },
	{ .rpc = "Notes.Update", .kind = OP_UPDATE, .resource = &note_resource },
	{ .rpc = "Notes.Delete", .kind = OP_DELETE, .resource = &note_resource },
	{ .rpc = "Timeline.List", .kind = OP_LIST, .resource = &timeline_resource },
	OPS_RESOURCE("Contacts", &contact_resource),
	{ .rpc = "Contacts.Upsert", .kind = OP_UPSERT, .resource = &contact_resource },
	{ .rpc = "Contacts.Export", .kind = OP_EXPORT, .resource = &contact_resource },
	{ .rpc = "Contacts.PrepareImport", .kind = OP_IMPORT_PREPARE, .resource = &contact_resource },
	{ .rpc = "Contacts.Import", .kind = OP_IMPORT, .resource = &contact_resource },
	{ .rpc = "Contacts.BulkUpdate", .kind = OP_BULK_UPDATE, .resource = &contact_resource },
	{ .rpc = "Contacts.BulkDelete", .kind = OP_BULK_DELETE, .resource = &contact_resource },
	{ .rpc = "Contacts.Refs", .kind = OP_REFS, .resource = &contact_resource },
	OPS_RESOURCE("Leads", &lead_resource),
	{ .rpc = "Leads.Upsert", .kind = OP_UPSERT, .resource = &lead_resource },
	{ .rpc = "Leads.Export", .kind = OP_EXPORT, .resource = &lead_resource },
	{ .rpc = "Leads.PrepareImport", .kind = OP_IMPORT_PREPARE, .resource = &lead_resource },
	{ .rpc = "Leads.Import", .kind = OP_IMPORT, .resource = &lead_resource },
	{ .rpc = "Leads.BulkUpdate", .kind = OP_BULK_UPDATE, .resource = &lead_resource },
	{ .rpc = "Leads.BulkDelete", .kind = OP_BULK_DELETE, .resource = &lead_resource },
	{ .rpc = "Leads.Refs", .kind = OP_REFS, .resource = &lead_resource },
	{ .rpc = "Leads.BulkCreate", .kind = OP_BULK_CREATE, .resource = &lead_resource },
	{ .rpc = "Leads.Convert", .kind = OP_HANDLER, .handler = lead_convert },
	{ .rpc = "Tags.List", .kind = OP_LIST, .resource = &tag_resource },
	{ .rpc = "Tags.Create", .kind = OP_CREATE, .resource = &tag_resource },
	OPS_RESOURCE("Territories", &territory_resource),
	{ .rpc = "Territories.Upsert", .kind = OP_UPSERT, .resource = &territory_resource },
	{ .rpc = "CustomersSubjects.Find", .kind = OP_HANDLER, .handler = subjects_find },
	{ .rpc = "CustomersSubjects.Erase", .kind = OP_HANDLER, .handler = subjects_erase },
	{ .rpc = "Territories.AssignAccounts", .kind = OP_HANDLER, .handler = territory_assign },
};
const size_t customers_n_ops = sizeof(customers_ops) / sizeof(customers_ops[0]);
