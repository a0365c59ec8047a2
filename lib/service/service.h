/*
 * What every service program is: settings, log, database, RPC server, admin port, relay, signals, drain.
 * main.c of a service is one call with a table; everything an operator sees is the same in all of them.
 */
#ifndef CRM_SERVICE_SERVICE_H
#define CRM_SERVICE_SERVICE_H

#include "base/buf.h"
#include "base/settings.h"
#include "db/migrate.h"
#include "resource/resource.h"

/* Settings that every service has; see service.c for names, defaults and docs. */
struct service_settings {
	const char *database_url, *owner_database_url, *relay_database_url; /* roles: <schema>_app, <schema>_owner, <schema>_relay */
	const char *listen_url;         /* NNG: tcp://127.0.0.1:7101 */
	const char *admin_listen;       /* 127.0.0.1:9101 */
	const char *envelope_key_file;
	const char *bus_url;            /* postgres://bus_app@… or kafka://127.0.0.1:9092 */
	const char *descriptor_dir;     /* build/gen/descriptors */
	const char *dialect_dir;        /* build/gen/fragments/<name> */
	const char *schema_dir;         /* svc-x/schema */
	const char *common_schema_dir;  /* lib/db/schema */
	const char *log_format, *log_level;
	long read_conns, write_conns, workers, drain_delay, drain, migrate_wait, migrate_block;
};

struct service {
	const char *name;               /* "customers": schema of the database, proto file, name in logs "svc-customers" */
	const struct op *ops;
	size_t n_ops;
	const struct setting *settings; /* the service's own, loaded into settings_at */
	size_t n_settings;
	void *settings_at;
	/* Once the database is reached and its migrations are complete, before calls are accepted; on the loop thread; may start threads of its own (consumers, pools). NULL: nothing. */
	void (*start)(const struct service_settings *s, struct event_base *base, struct db *db);
	void (*stop)(void);             /* at drain, before the loop ends; only after start */
	void (*metrics)(struct buf *out); /* appends the service's own to /metrics; loop thread. NULL: none */
	const char *commands;           /* lines for --help about subcommands of its own; NULL: none */
	bool no_relay;                  /* has no outbox */
	/* Of another schema that `migrate` brings up to date before the service's own; false: none now. NULL: never. url, schema and dir are filled in. */
	bool (*migrates)(struct migrate_config *c);
};

/* `<program>` serves until SIGTERM; `<program> migrate [--check]` runs the migrations (says which are pending) and ends; `<program> health` (telemetry/health.h); --help prints the settings. */
int service_main(const struct service *s, int argc, char **argv);
/* One of the settings that every service has, for a command that needs no more; exits with a sentence when it is not given. Heap. */
const char *service_setting(const char *name);

/* The running service's schema and database, for handlers. */
const struct schema *service_schema(void);
struct db *service_db(void);
/* For a service that calls others; from start() on. */
struct rpc_keys;
struct rpc_keys *service_envelope_keys(void);

#endif
