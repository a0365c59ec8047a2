/* svc-audit: the audit log. It consumes every topic into a hash chain per tenant and answers AuditLogs. */
#include <stdlib.h>
#include <string.h>

#include "events/bus.h"
#include "svc-audit/audit.h"

static struct {
	const char *bus_owner_database_url, *bus_schema_dir;
} own;

static const struct setting settings[] = {
	{ "BUS_OWNER_DATABASE_URL", SETTING_TEXT, offsetof(__typeof__(own), bus_owner_database_url), "", "owner of schema bus, for `migrate` when the bus is PostgreSQL; empty: the bus is not migrated", true, 0, 0 },
	{ "BUS_SCHEMA_DIR", SETTING_TEXT, offsetof(__typeof__(own), bus_schema_dir), "lib/events/schema/bus", "migrations of the PostgreSQL bus", false, 0, 0 },
};
#define N_SETTINGS (sizeof settings / sizeof settings[0])

/* The bus belongs to no service; this one migrates it because it always runs where the bus is read. */
static void migrate_bus(int argc, char **argv)
{
	const char *url = getenv("BUS_URL");

	if (argc < 2 || strcmp(argv[1], "migrate"))
		return;
	settings_load(settings, N_SETTINGS, &own);
	if (*own.bus_owner_database_url && (!url || bus_is_postgres(url)))
		bus_migrate(own.bus_owner_database_url, own.bus_schema_dir);
}

int main(int argc, char **argv)
{
	struct service s = {
		.name = "audit",
		.ops = audit_ops,
		.n_ops = audit_n_ops,
		.settings = settings,
		.n_settings = N_SETTINGS,
		.settings_at = &own,
		.start = audit_start,
		.stop = audit_stop,
		.no_relay = true,
	};

	migrate_bus(argc, argv);
	return service_main(&s, argc, argv);
}
