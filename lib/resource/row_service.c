/* A main for services that are rows. */
#include "resource/row_service.h"

#include "blob/sweep.h"
#include "jobs/jobs.h"
#include "resource/import.h"

static struct {
	const struct service *own;
	struct blob_options blob;
} settings;

static const struct setting rows[] = {
	BLOB_SETTINGS(__typeof__(settings), blob),
};

static void start(const struct service_settings *s, struct event_base *base, struct db *db)
{
	settings.own->start(s, base, db);
	import_store(blob_sweep_start(&settings.blob, s->database_url));
	jobs_start(base, db, settings.own->name);
}

static void stop(void)
{
	jobs_stop();
	blob_sweep_stop();
	settings.own->stop();
}

int row_service_main(const struct service *own, int argc, char **argv)
{
	struct service all = *own;

	settings.own = own;
	all.settings = rows;
	all.n_settings = sizeof(rows) / sizeof(*rows);
	all.settings_at = &settings;
	all.start = start;
	all.stop = stop;
	return service_main(&all, argc, argv);
}
