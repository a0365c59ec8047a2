/* The rows of svc-sales and the handlers behind them. */
#ifndef CRM_SVC_SALES_OPS_H
#define CRM_SVC_SALES_OPS_H

#include "resource/resource.h"

extern const struct resource stage_resource, deal_resource, category_resource, product_resource, stock_movement_resource, order_resource;
extern const struct op sales_ops[];
extern const size_t sales_n_ops;

/* Statements of OP_REPORTs (reports.c). */
extern const char deals_history_sql[], deals_pipeline_sql[], deals_forecast_sql[], deals_leaderboard_sql[], deals_analytics_sql[];

/* OP_HANDLERs: worker thread, reply exactly once. */
void deal_clone(struct rpc_call *call, struct db_conn *db);
void product_adjust_stock(struct rpc_call *call, struct db_conn *db);

#endif
