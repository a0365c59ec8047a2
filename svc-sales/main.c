/* svc-sales: deals and their pipeline, products and their stock, orders. */
#include "resource/row_service.h"

#include "svc-sales/consume.h"
#include "svc-sales/ops.h"

int main(int argc, char **argv)
{
	const struct service service = { .name = "sales", .ops = sales_ops, .n_ops = sales_n_ops, .start = consume_start, .stop = consume_stop, .metrics = consume_metrics };

	return row_service_main(&service, argc, argv);
}
