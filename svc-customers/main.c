/* svc-customers: accounts, contacts, leads, tags, territories. */
#include "service/service.h"

#include "resource/engine.h"
#include "svc-customers/ops.h"

static void start(const struct service_settings *s, struct event_base *base, struct db *db)
{
	resource_listen(s->database_url, "customers");
}

int main(int argc, char **argv)
{
	const struct service customers = {
		.name = "customers", .ops = customers_ops, .n_ops = customers_n_ops, .start = start, .stop = resource_unlisten,
	};

	return service_main(&customers, argc, argv);
}
