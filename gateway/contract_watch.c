/* The network's side of contracts: who has which, fetching what is not known, and telling operators. */
#include "gateway/contract_watch.h"

#include "base/clock.h"
#include "base/log.h"
#include "telemetry/metrics.h"

#define FETCH_TIMEOUT_MS 3000
#define PATIENCE_US 2000000
#define FETCHES_MAX 32 /* at once; what finds no place is asked for after the next probe */

/* One Health.Contract under way. */
struct fetch {
	bool busy;
	struct gateway *g;
	const char *service;
	uint64_t instance, hash;
};

static struct {
	struct gateway *g;
	struct rpc_client *rpc;
	struct fetch fetches[FETCHES_MAX];
	int64_t started_us; /* monotonic */
} me; /* one per process */

static void decide(struct gateway *g)
{
	struct faces *f = contracts_decide(g->contracts);

	if (f)
		reload_publish(g, f);
}

static void on_contract(void *arg, const struct rpc_result *r)
{
	struct fetch *f = arg;

	f->busy = false;
	if (r->status != STATUS_OK) {
		log_warn("CONTRACT-AWAY", "%s does not tell its contract (%s)", f->service, status_name(r->status));
		return;
	}
	/* another hash: the instance has been replaced meanwhile, and its next probe will say so */
	if (rpc_contract_hash(r->payload) != f->hash)
		return;
	contracts_take(f->g->contracts, f->service, f->hash, r->payload);
	decide(f->g);
}

static struct fetch *fetch_place(uint64_t instance)
{
	struct fetch *free_one = NULL;

	for (size_t i = 0; i < FETCHES_MAX; i++) {
		if (me.fetches[i].busy && me.fetches[i].instance == instance)
			return NULL;
		if (!me.fetches[i].busy)
			free_one = &me.fetches[i];
	}
	return free_one;
}

static void fetch(int service, uint64_t instance, uint64_t hash)
{
	struct fetch *f = fetch_place(instance);
	struct rpc_request q = { .service = service, .instance = instance, .lane = RPC_SLOW, .rpc = STR("Health.Contract"), .timeout_ms = FETCH_TIMEOUT_MS,
		.done = on_contract, .arg = f };

	if (!f)
		return;
	*f = (struct fetch){ true, me.g, me.g->services[service].name, instance, hash };
	rpc_client_call(me.rpc, &q);
}

static void on_seen(void *arg, int service, uint64_t instance, bool alive, uint64_t contract)
{
	struct gateway *g = arg;
	const char *name = g->services[service].name;
	enum contracts_news news;

	if (!alive) {
		if (contracts_gone(g->contracts, name, instance))
			decide(g);
		return;
	}
	news = contracts_seen(g->contracts, name, instance, contract);
	if (news == CONTRACTS_WANTED)
		fetch(service, instance, contract);
	else if (news == CONTRACTS_CHANGED)
		decide(g);
}

void contract_watch_start(struct gateway *g, struct rpc_client *rpc)
{
	me.g = g;
	me.rpc = rpc;
	me.started_us = clock_mono_us();
	rpc_client_watch(rpc, on_seen, g);
}

bool contract_watch_waits(const struct gateway *g)
{
	if (clock_mono_us() - me.started_us > PATIENCE_US)
		return false;
	for (size_t i = 0; i < g->n_services; i++) {
		if (!contracts_settled(g->contracts, g->services[i].name))
			return true;
	}
	return false;
}

/* -- for operators */

void contract_watch_detail(const struct gateway *g, struct buf *out)
{
	struct contracts_row rows[SERVICES_MAX];
	size_t n = contracts_rows(g->contracts, rows);
	bool some = false;

	buf_z(out, "\"contracts\":{");
	for (size_t i = 0; i < n; i++) {
		if (!rows[i].now)
			continue;
		buf_z(out, some ? "," : "");
		some = true;
		buf_json_str(out, str_of(rows[i].service));
		buf_z(out, ":{\"version\":");
		buf_json_str(out, str_of(rows[i].now->version));
		buf_printf(out, ",\"built\":%lld,\"source\":\"%s\",\"refused\":%llu}", (long long)rows[i].now->built, rows[i].own ? "own" : "service",
		    (unsigned long long)rows[i].refused);
	}
	buf_c(out, '}');
}

/* One version of each service at a time; what was before is gone. */
void contract_watch_metrics(const struct gateway *g, struct buf *out)
{
	struct contracts_row rows[SERVICES_MAX];
	size_t n = contracts_rows(g->contracts, rows);

	metrics_head(out, "crm_contract_info", "gauge", "The contract of each service that is in force: of its own, or of the gateway's files");
	for (size_t i = 0; i < n; i++) {
		const struct metric_label labels[] = { { "upstream", str_of(rows[i].service) }, { "version", str_of(rows[i].now ? rows[i].now->version : "") },
			{ "source", str_of(rows[i].own ? "own" : "service") } };

		if (rows[i].now)
			metrics_labels(out, "crm_contract_info", labels, 3, 1);
	}
	metrics_head(out, "crm_contract_refused_total", "counter", "Contracts that could not be put into force");
	for (size_t i = 0; i < n; i++)
		metrics_line(out, "crm_contract_refused_total", "upstream", str_of(rows[i].service), (double)rows[i].refused);
}
