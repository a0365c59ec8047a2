/* svc-audit: the audit log. It consumes every topic into a hash chain per tenant and answers AuditLogs. */
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "events/bus.h"
#include "base/log.h"
#include "rpc/rpc.h"
#include "svc-audit/audit.h"
#include "svc-audit/privacy.h"
#include "svc-audit/secret.h"
#include "svc-audit/subject.h"

static struct audit_settings own;

static const struct setting settings[] = {
	{ "BUS_OWNER_DATABASE_URL", SETTING_TEXT, offsetof(__typeof__(own), bus_owner_database_url), "", "owner of schema bus, for `migrate` when the bus is PostgreSQL; empty: the bus is not migrated", true, 0, 0 },
	{ "BUS_SCHEMA_DIR", SETTING_TEXT, offsetof(__typeof__(own), bus_schema_dir), "lib/events/schema/bus", "migrations of the PostgreSQL bus", false, 0, 0 },
	/* the rows above are what `migrate` needs */
	{ "AUDIT_SIGNING_KEY_FILE", SETTING_TEXT, offsetof(__typeof__(own), signing_key_file), NULL, "64 hex digits: the Ed25519 seed that signs ends of chains", false, 0, 0 },
	{ "AUDIT_CHECKPOINT_FILE", SETTING_TEXT, offsetof(__typeof__(own), checkpoint_file), "", "signed ends of chains are also appended here; empty: the database only", false, 0, 0 },
	{ "SERVICES", SETTING_TEXT, offsetof(__typeof__(own), services), "auth=tcp://127.0.0.1:7101 customers=tcp://127.0.0.1:7102 sales=tcp://127.0.0.1:7104", "services that keep personal data, and the URLs of their instances; a host name stands for all its addresses, looked up every 2 s", false, 0, 0 },
	{ "SERVICE_HOSTS_FILE", SETTING_TEXT, offsetof(__typeof__(own), service_hosts_file), "", "host names of SERVICES are looked up in this file (lines as in /etc/hosts), not by DNS; read anew each time", false, 0, 0 },
	{ "AUDIT_MASTER_KEY_FILE", SETTING_TEXT, offsetof(__typeof__(own), master_key_file), NULL, "64 hex digits: wraps the keys of people's data in the log, seals mail that waits", false, 0, 0 },
	{ "MAIL_URL", SETTING_TEXT, offsetof(__typeof__(own), mail_url), "folder:.run/outbox", "where mail of alerts goes: folder:/path, smtp://[user:password@]host[:port][?tls=required] or smtps://…", true, 0, 0 },
	{ "MAIL_FROM", SETTING_TEXT, offsetof(__typeof__(own), mail_from), "crm@crm.local", "sender's address of all mail", false, 0, 0 },
	{ "MAIL_TEMPLATE_DIR", SETTING_TEXT, offsetof(__typeof__(own), mail_templates), "/usr/share/crm/mail", "folder of the texts", false, 0, 0 },
};
#define N_MIGRATE_SETTINGS 2
#define N_SETTINGS (sizeof settings / sizeof settings[0])

/* The bus belongs to no service; this one migrates it because it always runs where the bus is read. */
static bool migrate_bus(struct migrate_config *c)
{
	const char *url = service_setting("BUS_URL");
	bool here = !*url || bus_is_postgres(url);

	settings_load(settings, N_MIGRATE_SETTINGS, &own);
	*c = (struct migrate_config){ .url = own.bus_owner_database_url, .schema = "bus", .dir = own.bus_schema_dir };
	return here && *own.bus_owner_database_url;
}

/* Of all services: the log has entries about everybody's entities. */
static const struct schema *contracts_load(const char *dir)
{
	char pattern[4096];
	glob_t found;
	const struct schema *s;

	snprintf(pattern, sizeof(pattern), "%s/*.pb", dir);
	if (glob(pattern, 0, NULL, &found) != 0)
		log_die("SCHEMA", "%s: there are no contracts", pattern);
	s = schema_load((const char *const *)found.gl_pathv, found.gl_pathc);
	globfree(&found);
	return s;
}

static void start(const struct service_settings *s, struct event_base *base, struct db *db)
{
	struct privacy_config privacy = { .base = base, .services = own.services, .hosts_file = own.service_hosts_file, .bus_url = s->bus_url, .db = db, .keys = service_envelope_keys() };
	uint8_t master[SEAL_KEY];

	rpc_key_load(own.master_key_file, master);
	secret_init(master);
	explicit_bzero(master, sizeof(master));
	privacy.contracts = contracts_load(s->descriptor_dir);
	subject_init(privacy.contracts);
	privacy_start(&privacy);
	audit_start(s, base, db);
}

int main(int argc, char **argv)
{
	struct service s = {
		.name = "audit",
		.commands = "svc-audit public-key FILE       of the signing key in FILE\n"
			    "svc-audit verify …              checks the log against signed checkpoints; without arguments it says how",
		.ops = audit_ops,
		.n_ops = audit_n_ops,
		.settings = settings,
		.n_settings = N_SETTINGS,
		.settings_at = &own,
		.start = start,
		.stop = audit_stop,
		.metrics = audit_metrics,
		.migrates = migrate_bus,
	};

	if (argc > 1 && strcmp(argv[1], "verify") == 0)
		return audit_verify_main(argc - 1, argv + 1);
	if (argc > 1 && strcmp(argv[1], "public-key") == 0)
		return audit_public_key_main(argc - 1, argv + 1);
	audit_settings = &own;
	return service_main(&s, argc, argv);
}
