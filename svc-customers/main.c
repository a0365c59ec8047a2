/* svc-customers: accounts, contacts, leads, tags, territories. */
#include "resource/row_service.h"

#include "svc-customers/consume.h"
#include "svc-customers/ops.h"

int main(int argc, char **argv)
{
	const struct service service = { .name = "customers", .ops = customers_ops, .n_ops = customers_n_ops, .start = consume_start, .stop = consume_stop, .metrics = consume_metrics };

	return row_service_main(&service, argc, argv);
}
