/* Which instances a client has: those of addresses that were given, and those that host names have at the time. */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "rpc/client_priv.h"

enum {
	GONE_US = 2 * 1000 * 1000,    /* an address that comes back by then (an answer of DNS that left it out) finds everything as it was */
	RETIRED_US = 1000 * 1000,     /* NNG takes its time to end connections, on its own threads */
	START_US = 1500 * 1000,       /* calls wait for the first addresses of a name */
};

static void names_changed(void *arg)
{
	handoff_kick(&((struct rpc_client *)arg)->completed);
}

/* -- instances begin */

static struct rpc_instance *take_retired(struct rpc_client *c, int64_t now)
{
	struct rpc_instance **at = &c->retired, *in;

	while (*at && (now - (*at)->gone_us < RETIRED_US || !rpc_instance_quiet(*at)))
		at = &(*at)->next_retired;
	in = *at;
	if (in)
		*at = in->next_retired;
	return in;
}

/* False: there are too many. */
static bool instance_start(struct rpc_client *c, struct rpc_service *s, struct rpc_source *source, const char *url)
{
	struct rpc_instance *in;

	if (c->n_instances == RPC_MAX_INSTANCES)
		return false;
	in = take_retired(c, clock_mono_us());
	if (!in)
		in = rpc_instance_new(c);
	in->id = ++c->last_id;
	in->service = s;
	in->source = source;
	in->healthy = !source;
	in->joining = source != NULL;
	in->leaving = in->gone = false;
	in->timeouts_in_a_row = 0;
	in->owed_since_us = 0;
	atomic_store(&in->pipes_up, 0);
	atomic_store(&in->pipes_down, 0);
	in->up_seen = in->down_seen = 0;
	in->stats = (struct rpc_service_stats){ .name = s->name };
	memcpy(in->stats.url, url, strlen(url) + 1);
	s->instances[s->n++] = c->instances[c->n_instances++] = in;
	rpc_instance_dial(in);
	return true;
}

void rpc_fleet_add(struct rpc_client *c, struct rpc_service *s, const char *url)
{
	struct rpc_source *source = &s->sources[s->n_sources];

	if (strlen(url) >= RPC_URL_BYTES && !rpc_url_has_name(url))
		log_die("RPC-CLIENT", "%s: the URL is too long", url);
	if (!rpc_url_has_name(url)) {
		if (!instance_start(c, s, NULL, url))
			log_die("RPC-CLIENT", "more than %d instances", RPC_MAX_INSTANCES);
		return;
	}
	if (s->n_sources++ == RPC_MAX_NAMES)
		log_die("RPC-CLIENT", "service %s has more than %d host names", s->name, RPC_MAX_NAMES);
	s->away_until_us = clock_mono_us() + START_US;
	source->name = rpc_name_watch(url, names_changed, c);
}

/* -- instances end */

static void list_remove(struct rpc_instance **list, size_t *n, const struct rpc_instance *in)
{
	size_t at = 0;

	while (list[at] != in)
		at++;
	memmove(&list[at], &list[at + 1], (--*n - at) * sizeof(*list));
}

static void instance_retire(struct rpc_client *c, struct rpc_instance *in, int64_t now)
{
	log_info("RPC-GONE", "%s at %s: the connection is closed", in->stats.name, in->stats.url);
	rpc_instance_ends(in);
	list_remove(in->service->instances, &in->service->n, in);
	list_remove(c->instances, &c->n_instances, in);
	in->service = NULL; /* what still comes back from it is nobody's */
	in->gone_us = now;
	rpc_instance_hang_up(in);
	in->next_retired = c->retired;
	c->retired = in;
}

static bool service_has_another(const struct rpc_service *s)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->instances[i]->healthy && !s->instances[i]->gone)
			return true;
	return false;
}

static bool may_retire(const struct rpc_instance *in, int64_t now)
{
	if (!in->gone || in->in_flight || now - in->gone_us < GONE_US)
		return false;
	for (int lane = 0; lane < RPC_LANES; lane++)
		for (int k = 0; k < RPC_LANE_MESSAGES; k++)
			if (in->messages[lane][k].busy)
				return false;
	/* better one that is not said to exist than none */
	return !in->healthy || service_has_another(in->service);
}

/* -- following the names */

static struct rpc_instance *find_instance(const struct rpc_service *s, const struct rpc_source *source, const char *url)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->instances[i]->source == source && strcmp(s->instances[i]->stats.url, url) == 0)
			return s->instances[i];
	return NULL;
}

static void mark_gone(struct rpc_service *s, const struct rpc_source *source, const struct rpc_addresses *now_there)
{
	for (size_t i = 0; i < s->n; i++) {
		struct rpc_instance *in = s->instances[i];
		bool there = false;

		for (size_t k = 0; k < now_there->n; k++)
			there = there || strcmp(in->stats.url, now_there->url[k]) == 0;
		if (in->source != source || in->gone == !there)
			continue;
		in->gone = !there;
		in->gone_us = clock_mono_us();
		log_info("RPC-NAME", "%s at %s is %s", s->name, in->stats.url, there ? "there again" : "not an instance any more: it gets no calls");
	}
}

static void source_follow(struct rpc_client *c, struct rpc_service *s, struct rpc_source *source)
{
	struct rpc_addresses set;
	bool was_short = source->short_of;

	if (source->seen == rpc_name_generation(source->name) && !source->short_of)
		return;
	rpc_name_addresses(source->name, &set);
	source->seen = set.generation;
	source->short_of = false;
	mark_gone(s, source, &set);
	for (size_t i = 0; i < set.n; i++)
		if (!find_instance(s, source, set.url[i]) && !instance_start(c, s, source, set.url[i]))
			source->short_of = true;
	if (source->short_of && !was_short)
		log_warn("RPC-NAME", "%s has addresses that are not used: there may be %d instances of all services", s->name, RPC_MAX_INSTANCES);
}

void rpc_fleet_follow(struct rpc_client *c)
{
	int64_t now = clock_mono_us();

	for (size_t i = c->n_instances; i-- > 0;)
		if (may_retire(c->instances[i], now))
			instance_retire(c, c->instances[i], now);
	for (size_t i = 0; i < c->n_services; i++)
		for (size_t k = 0; k < c->services[i].n_sources; k++)
			source_follow(c, &c->services[i], &c->services[i].sources[k]);
}
