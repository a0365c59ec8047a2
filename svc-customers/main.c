/* svc-customers: accounts, contacts, leads, tags, territories. */
#include "jobs/jobs.h"
#include "service/service.h"

#include "svc-customers/consume.h"
#include "svc-customers/ops.h"

static void start(const struct service_settings *s, struct event_base *base, struct db *db)
{
	consume_start(s, base, db);
	jobs_start(base, db, "customers");
}

static void stop(void)
{
	jobs_stop();
	consume_stop();
}

int main(int argc, char **argv)
{
	const struct service customers = { .name = "customers", .ops = customers_ops, .n_ops = customers_n_ops,
		.start = start, .stop = stop, .metrics = consume_metrics };

	return service_main(&customers, argc, argv);
}
