/* What the sales service does: a row per RPC. Rules are triggers in schema/, figures are statements in reports.c. */
#include "resource/subjects.h"
#include "svc-sales/ops.h"

/* -- deals */

const struct resource stage_resource = {
	.message = "crm.v1.Stage", .table = "stage", .filter = "name slug kind is_active created_us", .sort = "position name slug probability created_us updated_us seq",
	.default_sort = "position", .seed = "stage_seed",
};

const struct resource deal_resource = {
	.message = "crm.v1.Deal", .table = "deal",
	.filter = "external_id title account contact lead value stage stage_slug status probability expected_close_us closed_us owner source created_by created_us updated_us",
	.sort = "title value stage_slug status probability expected_close_us closed_us source description created_us updated_us stage_changed_us seq",
	.default_sort = "-created_us", .searchable = true, .lower = "stage_slug source", .joined = "stage=name", .seed = "stage_seed",
};

/* -- products */

const struct resource category_resource = {
	.message = "crm.v1.Category", .table = "category", .filter = "external_id name parent is_active created_us", .sort = "name description is_active created_us updated_us seq",
	.default_sort = "name",
};

const struct resource product_resource = {
	.message = "crm.v1.Product", .table = "product",
	.filter = "external_id name sku category category_name price stock_quantity low_stock status owner created_us updated_us",
	.sort = "name sku description category_name price cost stock_quantity reorder_level status created_us updated_us seq",
	.default_sort = "-created_us", .searchable = true, .joined = "category=name",
};

const struct resource stock_movement_resource = {
	.message = "crm.v1.StockMovement", .table = "stock_movement", .filter = "product kind created_us order", .sort = "created_us seq", .default_sort = "-created_us",
	.hard = true, .joined = "product=name",
};

/* -- orders */

const struct resource order_resource = {
	.message = "crm.v1.Order", .table = "orders",
	.filter = "external_id number account status total created_by created_us updated_us", .sort = "number status total created_us updated_us status_changed_us seq",
	.default_sort = "-created_us", .searchable = true,
};

/* -- work in the background */

static const struct resource job_resource = {
	.message = "crm.v1.Job", .table = "job", .filter = "kind state created_by created_us", .sort = "created_us seq", .default_sort = "-created_us",
};

static const struct resource job_item_resource = {
	.message = "crm.v1.JobItem", .table = "job_item", .filter = "job state code action", .sort = "position", .default_sort = "position", .hard = true,
};

const struct op sales_ops[] = {
	OPS_RESOURCE("Stages", &stage_resource),
	OPS_RESOURCE("Deals", &deal_resource),
	{ .rpc = "Deals.Upsert", .kind = OP_UPSERT, .resource = &deal_resource },
	{ .rpc = "Deals.Export", .kind = OP_EXPORT, .resource = &deal_resource },
	{ .rpc = "Deals.PrepareImport", .kind = OP_IMPORT_PREPARE, .resource = &deal_resource },
	{ .rpc = "Deals.Import", .kind = OP_IMPORT, .resource = &deal_resource },
	{ .rpc = "Deals.BulkUpdate", .kind = OP_BULK_UPDATE, .resource = &deal_resource },
	{ .rpc = "Deals.BulkDelete", .kind = OP_BULK_DELETE, .resource = &deal_resource },
	{ .rpc = "Deals.ChangeStage", .kind = OP_UPDATE, .resource = &deal_resource },
	{ .rpc = "Deals.MarkWon", .kind = OP_UPDATE, .resource = &deal_resource, .set = "status=won" },
	{ .rpc = "Deals.MarkLost", .kind = OP_UPDATE, .resource = &deal_resource, .set = "status=lost" },
	{ .rpc = "Deals.Reopen", .kind = OP_UPDATE, .resource = &deal_resource, .set = "status=open" },
	{ .rpc = "Deals.Clone", .kind = OP_HANDLER, .handler = deal_clone },
	{ .rpc = "Deals.Refs", .kind = OP_REFS, .resource = &deal_resource },
	{ .rpc = "Deals.History", .kind = OP_REPORT, .resource = &deal_resource, .sql = deals_history_sql },
	{ .rpc = "Deals.Pipeline", .kind = OP_REPORT, .resource = &deal_resource, .sql = deals_pipeline_sql },
	{ .rpc = "Deals.Forecast", .kind = OP_REPORT, .resource = &deal_resource, .sql = deals_forecast_sql },
	{ .rpc = "Deals.Leaderboard", .kind = OP_REPORT, .resource = &deal_resource, .sql = deals_leaderboard_sql },
	{ .rpc = "Deals.Analytics", .kind = OP_REPORT, .resource = &deal_resource, .sql = deals_analytics_sql },
	OPS_RESOURCE("Categories", &category_resource),
	{ .rpc = "Categories.Upsert", .kind = OP_UPSERT, .resource = &category_resource },
	OPS_RESOURCE("Products", &product_resource),
	{ .rpc = "Products.Upsert", .kind = OP_UPSERT, .resource = &product_resource },
	{ .rpc = "Products.Export", .kind = OP_EXPORT, .resource = &product_resource },
	{ .rpc = "Products.PrepareImport", .kind = OP_IMPORT_PREPARE, .resource = &product_resource },
	{ .rpc = "Products.Import", .kind = OP_IMPORT, .resource = &product_resource },
	{ .rpc = "Products.BulkUpdate", .kind = OP_BULK_UPDATE, .resource = &product_resource },
	{ .rpc = "Products.BulkDelete", .kind = OP_BULK_DELETE, .resource = &product_resource },
	{ .rpc = "Products.AdjustStock", .kind = OP_HANDLER, .handler = product_adjust_stock },
	{ .rpc = "Products.Movements", .kind = OP_LIST, .resource = &stock_movement_resource },
	{ .rpc = "SalesJobs.List", .kind = OP_LIST, .resource = &job_resource },
	{ .rpc = "SalesJobs.Get", .kind = OP_GET, .resource = &job_resource },
	{ .rpc = "SalesJobs.Cancel", .kind = OP_UPDATE, .resource = &job_resource, .set = "state=cancelled" },
	{ .rpc = "SalesJobs.Results", .kind = OP_LIST, .resource = &job_item_resource },
	{ .rpc = "SalesJobs.ResultFile", .kind = OP_EXPORT, .resource = &job_item_resource },
	{ .rpc = "SalesJobs.Revert", .kind = OP_REVERT, .resource = &job_resource },
	{ .rpc = "SalesSubjects.Find", .kind = OP_HANDLER, .handler = subjects_find },
	{ .rpc = "SalesSubjects.Erase", .kind = OP_HANDLER, .handler = subjects_erase },
	{ .rpc = "Orders.List", .kind = OP_LIST, .resource = &order_resource },
	{ .rpc = "Orders.Export", .kind = OP_EXPORT, .resource = &order_resource },
	{ .rpc = "Orders.Get", .kind = OP_GET, .resource = &order_resource },
	{ .rpc = "Orders.Create", .kind = OP_CREATE, .resource = &order_resource },
	{ .rpc = "Orders.Update", .kind = OP_UPDATE, .resource = &order_resource },
	{ .rpc = "Orders.Upsert", .kind = OP_UPSERT, .resource = &order_resource },
	{ .rpc = "Orders.ChangeStatus", .kind = OP_UPDATE, .resource = &order_resource },
};
const size_t sales_n_ops = sizeof(sales_ops) / sizeof(sales_ops[0]);
