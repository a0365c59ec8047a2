/* svc-sales: deals and their pipeline, products and their stock, orders. */
#include "blob/sweep.h"
#include "jobs/jobs.h"
#include "resource/import.h"
#include "service/service.h"

#include "svc-sales/consume.h"
#include "svc-sales/ops.h"

static struct {
	struct blob_options blob;
} settings;

static const struct setting rows[] = {
	BLOB_SETTINGS(__typeof__(settings), blob),
};

static void start(const struct service_settings *s, struct event_base *base, struct db *db)
{
	consume_start(s, base, db);
	import_store(blob_sweep_start(&settings.blob, s->database_url));
	jobs_start(base, db, "sales");
}

static void stop(void)
{
	jobs_stop();
	blob_sweep_stop();
	consume_stop();
}

int main(int argc, char **argv)
{
	const struct service sales = { .name = "sales", .ops = sales_ops, .n_ops = sales_n_ops,
		.settings = rows, .n_settings = sizeof(rows) / sizeof(*rows), .settings_at = &settings,
		.start = start, .stop = stop, .metrics = consume_metrics };

	return service_main(&sales, argc, argv);
}
