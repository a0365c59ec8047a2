/* The life of a service program: settings, migrate, start in order, serve, drain. */
#include "service/service.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/version.h"
#include "db/cleaner.h"
#include "events/relay.h"
#include "resource/engine.h"
#include "rpc/nng_threads.h"
#include "service/contract.h"
#include "service/dispatch.h"
#include "service/ready.h"
#include "telemetry/admin.h"
#include "telemetry/health.h"
#include "telemetry/metrics.h"
#include "telemetry/trace_export.h"

#define STATEMENT_TIMEOUT_MS 10000
#define ARENAS 4 /* of malloc; else up to eight per core, and each of some 25 threads keeps what it once needed */

#define AT(member) offsetof(struct service_settings, member)
static const struct setting rows[] = {
	{ "LOG_FORMAT", SETTING_TEXT, AT(log_format), "auto", "json, text, or auto: text on a terminal", false, 0, 0 },
	{ "LOG_LEVEL", SETTING_TEXT, AT(log_level), "info", "debug, info, warn or error", false, 0, 0 },
	{ "OWNER_DATABASE_URL", SETTING_TEXT, AT(owner_database_url), "", "PostgreSQL as <schema>_owner; for `migrate` only", true, 0, 0 },
	{ "SCHEMA_DIR", SETTING_TEXT, AT(schema_dir), "", "the service's migrations; empty: svc-<name>/schema", false, 0, 0 },
	{ "COMMON_SCHEMA_DIR", SETTING_TEXT, AT(common_schema_dir), "lib/db/schema", "migrations that every service has", false, 0, 0 },
	{ "MIGRATE_WAIT_SECONDS", SETTING_INT, AT(migrate_wait), "60", "how long `migrate` waits for the database to come", false, 0, 3600 },
	{ "MIGRATE_BLOCK_MS", SETTING_INT, AT(migrate_block), "1000", "others may wait so long for locks of a migration, then it is rolled back and tried again; 0: as long as it takes", false, 0, 600000 },
	/* the rows above are what `migrate` needs */
	{ "DATABASE_URL", SETTING_TEXT, AT(database_url), NULL, "PostgreSQL as <schema>_app", true, 0, 0 },
	{ "RELAY_DATABASE_URL", SETTING_TEXT, AT(relay_database_url), "", "PostgreSQL as <schema>_relay; needed where there is an outbox", true, 0, 0 },
	{ "LISTEN_URL", SETTING_TEXT, AT(listen_url), NULL, "where calls are accepted: tcp://127.0.0.1:7101", false, 0, 0 },
	{ "ADMIN_LISTEN", SETTING_TEXT, AT(admin_listen), NULL, "health and metrics, never public: 127.0.0.1:9101", false, 0, 0 },
	{ "ENVELOPE_KEY_FILE", SETTING_TEXT, AT(envelope_key_file), NULL, "one to four lines of 64 hex digits: keys of the MAC of every call; the first signs, all are accepted; read again when it changes", false, 0, 0 },
	{ "BUS_URL", SETTING_TEXT, AT(bus_url), "", "postgres://… as bus_app, or kafka://host:9092", true, 0, 0 },
	{ "DESCRIPTOR_DIR", SETTING_TEXT, AT(descriptor_dir), "build/gen/descriptors", "compiled contracts", false, 0, 0 },
	{ "DIALECT_DIR", SETTING_TEXT, AT(dialect_dir), "", "how this service looks in each dialect, <dialect>.pb, for the gateway; empty: build/gen/fragments/<name>", false, 0, 0 },
	{ "DB_READ_CONNS", SETTING_INT, AT(read_conns), "2", "connections for reads; more than 4 is slower", false, 1, 32 },
	{ "DB_WRITE_CONNS", SETTING_INT, AT(write_conns), "16", "connections for writes: so many commits share a flush of the disk", false, 1, 64 },
	{ "DRAIN_DELAY_SECONDS", SETTING_INT, AT(drain_delay), "0", "from SIGTERM on it is not ready and serves on for so long; a second SIGTERM ends that", false, 0, 120 },
	{ "DRAIN_SECONDS", SETTING_INT, AT(drain), "8", "then it takes no calls, and those in flight may take so long", false, 1, 600 },
	{ "DB_WORKERS", SETTING_INT, AT(workers), "4", "threads for handlers, each with a connection", false, 1, 64 },
};
#define N_ROWS (sizeof(rows) / sizeof(rows[0]))
#define N_MIGRATE_ROWS 7
#define EXIT_PENDING 3 /* of migrate --check */

/* One service per process. */
static struct {
	const struct service *service;
	struct service_settings settings;
	struct schema *schema;
	struct event_base *base;
	struct db *db;
	struct ready *ready;
	struct dispatch *dispatch;
	struct rpc_keys *keys;
	struct rpc_server *server;
	struct admin *admin;
	struct cleaner *cleaner;
	bool started; /* migrations are complete and everything that needs them runs */
	bool relay;
	bool leaving; /* told to end: not ready, callers go elsewhere */
	bool draining;
	int64_t told_us; /* monotonic */
	struct event *delay;
} me;

const struct schema *service_schema(void)
{
	return me.schema;
}

struct db *service_db(void)
{
	return me.db;
}

struct rpc_keys *service_envelope_keys(void)
{
	return me.keys;
}

/* -- settings */

static void print_help(const struct service *s, int argc, char **argv)
{
	size_t n = N_ROWS + s->n_settings + trace_settings_n;
	struct setting *all = xcalloc(n, sizeof(*all));
	struct arena a = { 0 };

	memcpy(all, rows, sizeof(rows));
	if (s->n_settings)
		memcpy(all + N_ROWS, s->settings, s->n_settings * sizeof(*all));
	memcpy(all + N_ROWS + s->n_settings, trace_settings_rows, trace_settings_n * sizeof(*all));
	settings_args(all, n, arena_printf(&a, "svc-%1$s                        serves until SIGTERM\n"
	    "svc-%1$s migrate                brings the database schema up to date and ends: 0 done, 1 failed\n"
	    "svc-%1$s migrate --check        changes nothing; 0: up to date; 3: prints the migrations that are pending\n"
	    "svc-%1$s health [--live] [url]  0: the admin port (of ADMIN_LISTEN, or at url) says it is ready; 1: it does not%2$s%3$s",
	    s->name, s->commands ? "\n" : "", s->commands ? s->commands : ""), argc, argv);
	arena_fini(&a);
	free(all);
}

const char *service_setting(const char *name)
{
	return settings_one(rows, N_ROWS, name);
}

/* Joined; lives as long as the process. */
static const char *text(const char *a, const char *b, const char *c)
{
	struct buf out = { 0 };

	buf_z(&out, a);
	buf_z(&out, b);
	buf_z(&out, c);
	return buf_cstr(&out);
}

static void load_settings(const struct service *s, size_t n)
{
	struct service_settings *at = &me.settings;

	settings_load(rows, n, at);
	if (!*at->schema_dir)
		at->schema_dir = text("svc-", s->name, "/schema");
	if (n == N_ROWS && !*at->dialect_dir)
		at->dialect_dir = text("build/gen/fragments/", s->name, "");
	log_init(text("svc-", s->name, ""), at->log_format, at->log_level);
}

/* To look, the role that serves is enough. */
static const char *migrate_url(bool check)
{
	if (*me.settings.owner_database_url)
		return me.settings.owner_database_url;
	if (!check)
		log_die("SERVICE-SETTINGS", "OWNER_DATABASE_URL must be given to migrate");
	return service_setting("DATABASE_URL");
}

static int migrate_folder(struct migrate_config *c, bool check)
{
	c->wait_s = me.settings.migrate_wait;
	c->block_ms = me.settings.migrate_block;
	if (check)
		return migrate_pending(c, stdout);
	migrate_run(c);
	return 0;
}

static int migrate(const struct service *s, bool check)
{
	struct migrate_config c = { 0 };
	int pending = 0;

	load_settings(s, N_MIGRATE_ROWS);
	if (s->migrates && s->migrates(&c))
		pending += migrate_folder(&c, check);
	c = (struct migrate_config){ .url = migrate_url(check), .schema = s->name, .dir = me.settings.common_schema_dir };
	pending += migrate_folder(&c, check);
	c.dir = me.settings.schema_dir;
	pending += migrate_folder(&c, check);
	return pending ? EXIT_PENDING : 0;
}

/* -- what operators see */

static const char *why_not_ready(void)
{
	if (me.leaving)
		return "draining";
	if (!db_healthy(me.db))
		return "no database connection";
	if (ready_why_not(me.ready))
		return ready_why_not(me.ready);
	return me.started && resource_ready() ? NULL : "statements not checked yet";
}

static bool is_healthy(void *arg)
{
	return why_not_ready() == NULL;
}

static bool admin_ready(void *arg, struct buf *detail)
{
	const char *why = why_not_ready();

	buf_printf(detail, "\"db\":\"%s\",", db_healthy(me.db) ? "up" : "down");
	ready_detail(me.ready, detail);
	if (me.relay)
		buf_printf(detail, ",\"relay\":\"%s\"", relay_stats().healthy ? "up" : "down"); /* does not keep us from serving */
	if (why) {
		buf_z(detail, ",\"reason\":");
		buf_json_str(detail, str_of(why));
	}
	return why == NULL;
}

static void admin_about(void *arg, struct buf *members)
{
	ready_detail(me.ready, members);
}

static void db_metrics(struct buf *out)
{
	struct db_stats s = db_stats_get(me.db);

	metrics_one(out, "crm_db_statements_total", "counter", "Statements sent", (double)s.statements);
	metrics_one(out, "crm_db_errors_total", "counter", "Submissions and handler statements that failed", (double)s.errors);
	metrics_one(out, "crm_db_reconnects_total", "counter", "Connection attempts after a loss", (double)s.reconnects);
	metrics_one(out, "crm_db_syncs_total", "counter", "Pipeline segments", (double)s.syncs);
	metrics_one(out, "crm_db_grouped_total", "counter", "Reads that shared a segment", (double)s.grouped);
	metrics_head(out, "crm_db_waiting", "gauge", "Submissions without a connection yet, handlers without a worker");
	metrics_line(out, "crm_db_waiting", "kind", STR("read"), (double)s.reads_waiting);
	metrics_line(out, "crm_db_waiting", "kind", STR("write"), (double)s.writes_waiting);
	metrics_line(out, "crm_db_waiting", "kind", STR("handler"), (double)s.jobs_waiting);
	metrics_one(out, "crm_db_connections", "gauge", "Connections of the loop that are up", s.connections_up);
	metrics_one(out, "crm_db_connections_wanted", "gauge", "Connections that the loop should have", s.connections);
	metrics_one(out, "crm_db_handlers_total", "counter", "Handlers run", (double)s.jobs);
	metrics_one(out, "crm_db_handlers_running", "gauge", "Handlers on a worker", (double)s.jobs_running);
	metrics_one(out, "crm_db_workers", "gauge", "Workers, each with a connection of its own", s.workers);
}

static void rpc_metrics(struct buf *out)
{
	struct rpc_stats s = me.server ? rpc_server_stats(me.server) : (struct rpc_stats){ 0 };

	metrics_one(out, "crm_rpc_messages_total", "counter", "Messages received", (double)s.messages);
	metrics_one(out, "crm_rpc_calls_total", "counter", "Calls handed out", (double)s.calls);
	metrics_one(out, "crm_rpc_refused_total", "counter", "Messages with a wrong MAC or malformed", (double)s.bad_mac);
	metrics_one(out, "crm_rpc_expired_total", "counter", "Calls past their deadline when they arrived", (double)s.expired);
	metrics_one(out, "crm_rpc_in_flight", "gauge", "Calls being worked on", (double)s.in_flight);
	if (me.keys)
		rpc_keys_metrics(me.keys, out);
}

static void relay_metrics(struct buf *out)
{
	struct relay_stats s = relay_stats();

	metrics_one(out, "crm_relay_active", "gauge", "1: this process carries the outbox", s.active);
	metrics_one(out, "crm_relay_published_total", "counter", "Events published", (double)s.published);
	metrics_one(out, "crm_relay_failures_total", "counter", "Rounds that did not get through", (double)s.failures);
	metrics_one(out, "crm_relay_lag_rows", "gauge", "Outbox rows that wait", (double)s.lag_rows);
	metrics_one(out, "crm_relay_lag_seconds", "gauge", "Age of the oldest outbox row that waits", s.lag_seconds);
}

static void admin_metrics(void *arg, struct buf *out)
{
	db_metrics(out);
	rpc_metrics(out);
	if (me.relay)
		relay_metrics(out);
	if (me.started && me.service->metrics)
		me.service->metrics(out);
}

/* -- the end */

static void stop_parts(void *arg)
{
	const struct service *s = me.service;

	if (me.started && s->stop)
		s->stop();
	if (me.started)
		resource_unlisten();
	if (me.relay)
		relay_stop();
	if (me.cleaner)
		cleaner_stop(me.cleaner);
	event_base_loopbreak(me.base);
}

static void on_delay_over(evutil_socket_t fd, short what, void *arg)
{
	if (me.draining)
		return;
	log_info("SERVICE-DRAIN", "after %.1f s: no new calls; those in flight have %ld s", (double)(clock_mono_us() - me.told_us) / 1e6, me.settings.drain);
	me.draining = true;
	event_del(me.delay);
	alarm((unsigned)me.settings.drain);
	rpc_server_drain(me.server, stop_parts, NULL);
}

/* Callers learn of the end by Health.Check, those who choose among pods by /readyz, and not at once: until then they are served. */
static void on_signal(evutil_socket_t signal_number, short what, void *arg)
{
	struct timeval delay = { me.settings.drain_delay, 0 };

	if (!me.leaving)
		me.told_us = clock_mono_us();
	if (me.leaving || !me.started || !me.settings.drain_delay) {
		me.leaving = true;
		on_delay_over(-1, what, arg);
		return;
	}
	me.leaving = true;
	log_info("SERVICE-DRAIN", "leaving; serving on for %ld s", me.settings.drain_delay);
	rpc_server_leave(me.server);
	event_add(me.delay, &delay);
}

/* The default action would look like a crash to a supervisor. */
static void on_alarm(int signal_number)
{
	_exit(0);
}

static void watch_signals(void)
{
	struct sigaction alarm_action = { .sa_handler = on_alarm };
	static const int numbers[] = { SIGTERM, SIGINT };

	me.delay = evtimer_new(me.base, on_delay_over, NULL);
	if (!me.delay)
		log_die("SERVICE-START", "no memory for an event");
	signal(SIGPIPE, SIG_IGN);
	sigaction(SIGALRM, &alarm_action, NULL);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		event_add(evsignal_new(me.base, numbers[i], on_signal, NULL), NULL);
}

/* -- the beginning */

static void start_relay(const struct service *s)
{
	const struct service_settings *at = &me.settings;
	struct relay_config c = { .schema = s->name, .relay_database_url = at->relay_database_url, .bus_url = at->bus_url, .descriptor_dir = at->descriptor_dir };

	relay_start(&c);
	me.relay = true;
}

/* The tables are there: what needs them begins, then calls are let in. */
static void on_schema(void *arg)
{
	const struct service *s = me.service;
	const struct service_settings *at = &me.settings;

	if (me.leaving)
		return;
	resource_init(me.schema, me.db, s->ops, s->n_ops, s->name);
	resource_listen(at->database_url, s->name);
	if (!s->no_relay)
		start_relay(s);
	if (*at->relay_database_url)
		me.cleaner = cleaner_start(at->relay_database_url);
	if (s->start)
		s->start(at, me.base, me.db);
	malloc_trim(0); /* contracts were larger while they were read */
	me.started = true;
	dispatch_open(me.dispatch);
}

static void open_database(const struct service *s)
{
	const struct service_settings *at = &me.settings;
	struct db_config c = { .url = at->database_url, .read_conns = (int)at->read_conns, .write_conns = (int)at->write_conns,
		.workers = (int)at->workers, .statement_timeout_ms = STATEMENT_TIMEOUT_MS };

	if (!s->no_relay && (!*at->relay_database_url || !*at->bus_url))
		log_die("SERVICE-SETTINGS", "RELAY_DATABASE_URL and BUS_URL must be given: this service has an outbox");
	me.db = db_new(me.base, &c);
	me.dispatch = dispatch_new(me.schema, me.db, s->name, s->ops, s->n_ops);
	me.ready = ready_new(me.base, me.db, at->common_schema_dir, at->schema_dir, on_schema, NULL);
}

static void tell_contract(const struct service *s)
{
	struct buf contract = { 0 };
	const char *why = "";

	if (!contract_make(s->name, me.settings.descriptor_dir, me.settings.dialect_dir, &contract, &why))
		log_die("SERVICE-CONTRACT", "%s", why);
	rpc_server_contract(me.server, buf_view(&contract));
	buf_fini(&contract);
}

static void open_door(void)
{
	me.keys = rpc_keys_open(me.settings.envelope_key_file);
	rpc_keys_watch(me.keys, me.base, NULL, NULL);
	me.server = rpc_server_new(me.base, me.settings.listen_url, me.keys, dispatch_call, is_healthy, me.dispatch);
	rpc_server_observe(me.server, dispatch_observe, me.dispatch);
}

static void open_admin(const struct service *s)
{
	struct admin_config c = { .name = text("svc-", s->name, ""), .version = crm_version, .ready = admin_ready, .metrics = admin_metrics, .about = admin_about };

	me.admin = admin_start(me.base, me.settings.admin_listen, &c);
	if (!me.admin)
		exit(1);
}

static int serve(const struct service *s)
{
	const char *contract;

	load_settings(s, N_ROWS);
	if (s->n_settings)
		settings_load(s->settings, s->n_settings, s->settings_at);
	mallopt(M_ARENA_MAX, ARENAS);
	trace_start(text("svc-", s->name, ""));
	rpc_nng_start();
	contract = text(text(me.settings.descriptor_dir, "/", s->name), ".pb", "");
	me.schema = schema_load(&contract, 1);
	me.base = event_base_new();
	if (!me.base)
		log_die("SERVICE-START", "no event loop");
	open_database(s);
	open_door();
	tell_contract(s);
	open_admin(s);
	watch_signals();
	log_info("SERVICE-START", "svc-%s %s listens at %s", s->name, crm_version, me.settings.listen_url);
	event_base_dispatch(me.base);
	log_info("SERVICE-STOP", "svc-%s ends, %.1f s after SIGTERM", s->name, (double)(clock_mono_us() - me.told_us) / 1e6);
	trace_stop();
	_exit(0); /* NNG must not be closed with traffic around */
}

int service_main(const struct service *s, int argc, char **argv)
{
	char program[64];

	snprintf(program, sizeof(program), "svc-%s", s->name);
	me.service = s;
	print_help(s, argc, argv);
	if (argc == 2 && strcmp(argv[1], "migrate") == 0)
		return migrate(s, false);
	if (argc == 3 && strcmp(argv[1], "migrate") == 0 && strcmp(argv[2], "--check") == 0)
		return migrate(s, true);
	if (argc >= 2 && strcmp(argv[1], "health") == 0)
		return health_main(program, getenv("ADMIN_LISTEN"), argc, argv);
	if (argc > 1) {
		fprintf(stderr, "svc-%s: unknown argument %s; try --help\n", s->name, argv[1]);
		return 2;
	}
	return serve(s);
}
