/* The gateway: everything HTTP. This file is the table of contents. */
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "gateway/gateway.h"
#include "gateway/siphash.h"
#include "gateway/telemetry.h"
#include "rpc/nng_threads.h"
#include "telemetry/trace_export.h"
#include "telemetry/health.h"
#include "telemetry/process.h"

static struct gateway gateway;

static void print_help(int argc, char **argv)
{
	size_t n = gateway_settings_n + trace_settings_n;
	struct setting *all = xcalloc(n, sizeof(*all));

	memcpy(all, gateway_settings_rows, gateway_settings_n * sizeof(*all));
	memcpy(all + gateway_settings_n, trace_settings_rows, trace_settings_n * sizeof(*all));
	settings_args(all, n, "gateway                        serves HTTP until SIGTERM\n"
	    "gateway health [--live] [url]  0: the admin port (of ADMIN_LISTEN, or at url) says it is ready; 1: it does not", argc, argv);
	free(all);
}

static void read_settings(struct gateway *g, int argc, char **argv)
{
	const char *why = "";

	print_help(argc, argv);
	if (argc > 1) {
		fprintf(stderr, "gateway: unknown argument %s; try --help\n", argv[1]);
		exit(2);
	}
	settings_load(gateway_settings_rows, gateway_settings_n, &g->settings);
	log_init("gateway", g->settings.log_format, g->settings.log_level);
	g->n_listeners = settings_listen(&g->arena, g->settings.listen, g->listeners, &why);
	if (!g->n_listeners)
		log_die("SETTINGS", "LISTEN: %s", why);
	g->n_services = settings_services(&g->arena, g->settings.services, g->services, &why);
	if (!g->n_services)
		log_die("SETTINGS", "SERVICES: %s", why);
	if (!proxies_parse(&g->proxies, g->settings.trusted_proxies, &g->arena, &why))
		log_die("SETTINGS", "TRUSTED_PROXIES: %s", why);
	g->envelope_keys = rpc_keys_open(g->settings.envelope_key_file);
}

static void load_tls(struct gateway *g)
{
	const char *why = "";

	if (!*g->settings.tls_cert_file && !*g->settings.tls_key_file)
		return;
	g->tls = tls_new(g->settings.tls_cert_file, g->settings.tls_key_file, &why);
	if (!g->tls)
		log_die("TLS", "%s", why);
}

static void load_dialects(struct gateway *g)
{
	const char *why = "";
	struct faces *f;

	g->contracts = contracts_new(g->services, g->n_services, g->listeners, g->n_listeners);
	f = reload_faces(g, &why);
	if (!f)
		log_die("DIALECTS", "%s", why);
	reload_publish(g, f);
}

static void open_counters(struct gateway *g)
{
	struct counters_config config = { .url = g->settings.counters_url, .name = "crm:gateway", .most = RATES_MAX, .on_ring = control_poll, .arg = g };
	const char *why = NULL;

	g->counters = counters_open(&config, &why);
	if (!g->counters)
		log_die("SETTINGS", "COUNTERS_URL: %s", why);
	if (g->settings.rate_limit_scale > 0) {
		struct rpc_key_set keys = rpc_keys_get(g->envelope_keys);

		g->rates = rates_new((uint32_t)g->settings.rate_limit_scale, g->counters, keys.key[0]);
		explicit_bzero(&keys, sizeof(keys));
	}
}

static void open_blobs(struct gateway *g)
{
	const char *why = "";

	if (!*g->settings.blob.url)
		return;
	g->blobs = blob_open(&g->settings.blob, &why);
	if (!g->blobs)
		log_die("BLOB-URL", "BLOB_URL: %s", why);
}

static void make_shared_state(struct gateway *g)
{
	siphash_init();
	pthread_mutex_init(&g->faces_lock, NULL);
	g->docs = docs_load(g->settings.docs_dir);
	g->revocations = revocations_new();
	g->keys = key_store_new();
	g->watch = watch_new();
	atomic_store(&g->keys_asked_us, -KEY_WAIT_US);
	g->control_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (g->control_fd < 0)
		log_die("START", "eventfd: %s", strerror(errno));
	open_counters(g);
}

static void raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		log_warn("START", "the limit of open files cannot be raised: %s", strerror(errno));
}

static void start_workers(struct gateway *g)
{
	/* the services and the database want the other half; and the fewer threads, the more calls share a message */
	long cores = sysconf(_SC_NPROCESSORS_ONLN), wanted = g->settings.threads ? g->settings.threads : cores / 2;
	size_t n = wanted < 1 ? 1 : wanted > WORKERS_MAX ? WORKERS_MAX : (size_t)wanted;

	g->n_workers = n;
	for (size_t i = 0; i < n; i++)
		worker_start(&g->workers[i], g, (unsigned)i);
	log_info("STARTED", "%zu threads, %zu listeners, %zu services", n, g->n_listeners, g->n_services);
}

int main(int argc, char **argv)
{
	struct gateway *g = &gateway;

	if (argc > 1 && strcmp(argv[1], "health") == 0)
		return health_main("gateway", settings_one(gateway_settings_rows, gateway_settings_n, "ADMIN_LISTEN"), argc, argv);
	signal(SIGPIPE, SIG_IGN);
	read_settings(g, argc, argv);
	trace_start("gateway");
	raise_file_limit();
	load_tls(g);
	make_shared_state(g);
	open_blobs(g);
	jobs_start((unsigned)g->settings.job_threads);
	process_disk_watch("export", g->settings.export_dir);
	if (strncmp(g->settings.blob.url, "file:", 5) == 0)
		process_disk_watch("blobs", g->settings.blob.url + 5);
	telemetry_init(g->settings.access_log || strcmp(g->settings.log_level, "debug") == 0);
	load_dialects(g);
	malloc_trim(0); /* contracts and dialects were larger while they were read */
	rpc_nng_start();
	rpc_names_file(g->settings.service_hosts_file);
	start_workers(g);
	control_run(g);
	trace_stop();
	_exit(0); /* NNG has threads that cannot be ended safely */
}
