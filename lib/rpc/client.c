/* The caller's end of the hop: which instance gets a call, when it is answered, and what its caller is told. */
#include "rpc/client.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/codec.h"
#include "base/log.h"
#include "rpc/client_priv.h"
#include "rpc/hop_span.h"

enum {
	TICK_MS = 10,
	PROBE_EVERY_MS = 500,
	PROBE_EJECTED_MS = 100,          /* one that comes back is noticed soon */
	PROBE_TIMEOUT_MS = 450,
	NO_PROGRESS_US = 1000 * 1000,
	TIMEOUTS_IN_A_ROW = 3,
	AWAY_US = 1500 * 1000,           /* calls wait for an instance that went away: a restart takes less */
	LANE_QUEUE = 8192,               /* calls that wait for a free message, per lane and instance */
	SPARE_CALLS = 1024,
	KEEP_BODY_BYTES = 8192,
	QUEUE_BYTES = 64 * 1024 * 1024,  /* all that is encoded and not answered */
};

/*
 * hopeless: what is under way will not be answered. away: it is worth a short wait, as a successor comes;
 * one that hangs is not.
 */
static void instance_eject(struct rpc_instance *in, const char *why, bool hopeless, bool away);

/* -- calls */

static struct rpc_pending *pending_new(struct rpc_client *c)
{
	struct rpc_pending *p = c->spares;

	if (!p)
		return xcalloc(1, sizeof(*p));
	c->spares = p->spare;
	c->n_spares--;
	return p;
}

static void pending_release(struct rpc_client *c, struct rpc_pending *p)
{
	struct buf body = p->body;

	if (c->n_spares >= SPARE_CALLS) {
		buf_fini(&body);
		free(p);
		return;
	}
	if (body.cap > KEEP_BODY_BYTES)
		buf_fini(&body);
	buf_clear(&body);
	*p = (struct rpc_pending){ .body = body, .spare = c->spares };
	c->spares = p;
	c->n_spares++;
}

/* Takes p out of the lane's queue, the message or the car park that it is in. */
static void pending_detach(struct rpc_client *c, struct rpc_pending *p)
{
	struct rpc_instance *in = p->instance;

	if (p->message) {
		p->message->calls[p->index] = NULL;
		p->message = NULL;
	} else if (p->parked) {
		TAILQ_REMOVE(&c->services[p->service].parked, p, queue);
		c->services[p->service].n_parked--;
		p->parked = false;
	} else if (p->queued) {
		TAILQ_REMOVE(&in->queue[p->lane], p, queue);
		in->queued[p->lane]--;
		p->queued = false;
	}
	if (in)
		in->in_flight--;
	p->instance = NULL;
}

void rpc_pending_finish(struct rpc_client *c, struct rpc_pending *p, const struct rpc_result *r)
{
	rpc_done done = p->done;
	void *arg = p->arg;

	if (p->instance && r->status != STATUS_OK && (r->status == STATUS_UNAVAILABLE || r->status == STATUS_INTERNAL))
		p->instance->stats.errors++;
	if (p->span)
		hop_span_end(p, r);
	pending_detach(c, p);
	if (p->refusal != STATUS_OK)
		TAILQ_REMOVE(&c->refused, p, queue);
	TAILQ_REMOVE(&c->wheel[p->slot], p, wheel);
	c->waiting--;
	c->bytes -= p->body.n;
	pending_release(c, p);
	done(arg, r);
}

static void pending_fail(struct rpc_client *c, struct rpc_pending *p, enum status s, bool unknown)
{
	struct rpc_result r = { .status = s, .text = str_of(status_text(s)), .unknown = unknown };

	rpc_pending_finish(c, p, &r);
}

static bool better(const struct rpc_instance *a, const struct rpc_instance *b)
{
	int last_a = a->leaving + 2 * a->gone, last_b = b->leaving + 2 * b->gone;

	return last_a != last_b ? last_a < last_b : a->in_flight < b->in_flight;
}

/*
 * The healthy instance with the fewest calls in flight, one that leaves or is gone only for want of another; among equals the one after the last
 * choice.
 */
static struct rpc_instance *service_pick(struct rpc_service *s, const struct rpc_instance *but)
{
	struct rpc_instance *best = NULL;

	for (size_t k = 0; k < s->n; k++) {
		struct rpc_instance *in = s->instances[(s->next + k) % s->n];

		if (in->healthy && in != but && (!best || better(in, best)))
			best = in;
	}
	s->next++;
	return best;
}

static struct rpc_instance *service_one(const struct rpc_service *s, uint64_t id, const struct rpc_instance *but)
{
	for (size_t k = 0; k < s->n; k++) {
		struct rpc_instance *in = s->instances[k];

		if (in->id == id)
			return in->healthy && in != but ? in : NULL;
	}
	return NULL;
}

static bool pending_queue(struct rpc_client *c, struct rpc_pending *p, const struct rpc_instance *but)
{
	struct rpc_service *s = &c->services[p->service];
	struct rpc_instance *in = p->only ? service_one(s, p->only, but) : service_pick(s, but);

	if (!in || in->queued[p->lane] >= LANE_QUEUE)
		return false;
	p->instance = in;
	p->queued = true;
	in->in_flight++;
	in->queued[p->lane]++;
	TAILQ_INSERT_TAIL(&in->queue[p->lane], p, queue);
	rpc_client_flush_soon(c);
	return true;
}

/* Waits for a successor of the instance that went away; false: there is none to wait for. */
static bool pending_park(struct rpc_client *c, struct rpc_pending *p)
{
	struct rpc_service *s = &c->services[p->service];
	int64_t now = clock_mono_us();

	if (!p->park_until_us)
		p->park_until_us = now + AWAY_US;
	if (p->only || now >= s->away_until_us || now >= p->park_until_us || s->n_parked >= LANE_QUEUE)
		return false;
	p->parked = true;
	s->n_parked++;
	TAILQ_INSERT_TAIL(&s->parked, p, queue);
	return true;
}

static void service_unpark(struct rpc_client *c, struct rpc_service *s)
{
	struct rpc_pending *p = TAILQ_FIRST(&s->parked);

	s->away_until_us = 0;
	while (p) {
		pending_detach(c, p);
		if (!pending_queue(c, p, NULL))
			pending_fail(c, p, STATUS_UNAVAILABLE, p->retried);
		p = TAILQ_FIRST(&s->parked);
	}
}

/* Nobody came in time. */
static void check_parked(struct rpc_client *c, struct rpc_service *s, int64_t now)
{
	struct rpc_pending *p = TAILQ_FIRST(&s->parked), *next;

	for (; p; p = next) {
		next = TAILQ_NEXT(p, queue);
		if (now >= s->away_until_us || now >= p->park_until_us)
			pending_fail(c, p, STATUS_UNAVAILABLE, p->retried);
	}
}

void rpc_pending_refused(struct rpc_pending *p)
{
	instance_eject(p->instance, "it ends", false, true);
	rpc_pending_reroute(p, false);
}

void rpc_pending_reroute(struct rpc_pending *p, bool sent)
{
	struct rpc_instance *was = p->instance;
	struct rpc_client *c = was->client;

	pending_detach(c, p);
	if ((!sent || (p->may_retry && !p->retried)) && p->due_us > clock_mono_us()) {
		p->retried = p->retried || sent;
		if (pending_queue(c, p, was) || pending_park(c, p))
			return;
	}
	pending_fail(c, p, STATUS_UNAVAILABLE, sent || p->retried);
}

/* -- deadlines: a wheel of TICK_MS slots, turned only while calls wait */

static void tick_arm(struct rpc_client *c)
{
	struct timeval tv = { 0, TICK_MS * 1000 };

	if (c->waiting && !event_pending(c->tick_ev, EV_TIMEOUT, NULL)) {
		c->tick_us = clock_mono_us();
		c->turned = c->tick_us / (TICK_MS * 1000);
		event_add(c->tick_ev, &tv);
	}
}

static void pending_expire(struct rpc_client *c, struct rpc_pending *p)
{
	struct rpc_instance *in = p->instance;
	struct rpc_message *m = p->message;
	bool counts = m && !m->timed_out;

	if (in)
		in->stats.timeouts++;
	if (m)
		m->timed_out = true;
	pending_fail(c, p, p->parked ? STATUS_UNAVAILABLE : STATUS_DEADLINE_EXCEEDED, m != NULL || p->retried);
	if (counts && ++in->timeouts_in_a_row >= TIMEOUTS_IN_A_ROW && in->healthy)
		instance_eject(in, "calls in a row without an answer in time", false, false);
}

static void wheel_turn(struct rpc_client *c, int64_t now)
{
	int64_t to = now / (TICK_MS * 1000), from = c->turned;

	if (to - from >= RPC_WHEEL)
		from = to - RPC_WHEEL + 1;
	c->turned = to;
	for (int64_t at = from; at <= to; at++) {
		struct rpc_pending *p = TAILQ_FIRST(&c->wheel[at % RPC_WHEEL]);

		while (p) {
			struct rpc_pending *next;

			if (p->due_us > now) {
				p = TAILQ_NEXT(p, wheel);
				continue;
			}
			/* done() may add to or empty this slot, so start over */
			pending_expire(c, p);
			next = TAILQ_FIRST(&c->wheel[at % RPC_WHEEL]);
			p = next;
		}
	}
}

/* A pause of our own (stopped, starved) is no fault of theirs. */
static void forgive_own_pause(struct rpc_client *c, int64_t now, int64_t expected_us)
{
	int64_t late = now - c->tick_us - expected_us;

	if (late < 200 * 1000)
		return;
	for (size_t i = 0; i < c->n_instances; i++)
		if (c->instances[i]->owed_since_us)
			c->instances[i]->owed_since_us += late;
}

static void check_progress(struct rpc_client *c, int64_t now)
{
	for (size_t i = 0; i < c->n_instances; i++) {
		struct rpc_instance *in = c->instances[i];

		if (in->healthy && in->owed_since_us && now - in->owed_since_us >= NO_PROGRESS_US)
			instance_eject(in, "no answer for a second while calls wait", true, false);
	}
}

static void tick_cb(evutil_socket_t fd, short what, void *arg)
{
	struct rpc_client *c = arg;
	int64_t now = clock_mono_us();

	forgive_own_pause(c, now, TICK_MS * 1000);
	c->tick_us = now;
	wheel_turn(c, now);
	check_progress(c, now);
	for (size_t i = 0; i < c->n_services; i++)
		check_parked(c, &c->services[i], now);
	if (c->waiting) {
		struct timeval tv = { 0, TICK_MS * 1000 };

		event_add(c->tick_ev, &tv);
	}
}

/* -- health */

static void tell(const struct rpc_instance *in, bool alive, uint64_t contract)
{
	struct rpc_client *c = in->client;

	if (c->seen)
		c->seen(c->seen_arg, (int)(in->service - c->services), in->id, alive, contract);
}

static void instance_eject(struct rpc_instance *in, const char *why, bool hopeless, bool away)
{
	struct rpc_pending *p;

	if (!in->healthy)
		return;
	if (away)
		in->service->away_until_us = clock_mono_us() + AWAY_US;
	in->healthy = false;
	tell(in, false, 0);
	in->stats.ejections++;
	in->timeouts_in_a_row = 0;
	in->owed_since_us = 0;
	log_at(in->leaving || in->gone ? LOG_INFO : LOG_WARN, "RPC-EJECT", "%s at %s gets no calls: %s", in->stats.name, in->stats.url, why);
	rpc_instance_hurry(in);
	for (int lane = 0; lane < RPC_LANES; lane++) {
		p = TAILQ_FIRST(&in->queue[lane]);
		while (p) {
			rpc_pending_reroute(p, false);
			p = TAILQ_FIRST(&in->queue[lane]);
		}
	}
	if (hopeless)
		rpc_instance_abort(in);
}

void rpc_instance_hurry(struct rpc_instance *in)
{
	if (in->source)
		rpc_name_hurry(in->source->name);
}

void rpc_instance_ends(struct rpc_instance *in)
{
	if (in->healthy)
		tell(in, false, 0);
}

void rpc_instance_lost(struct rpc_instance *in)
{
	in->service->away_until_us = clock_mono_us() + AWAY_US; /* anew, if it has said before that it ends */
	instance_eject(in, "the connection is gone", true, true);
}

void rpc_instance_progress(struct rpc_instance *in)
{
	in->owed_since_us = in->owed_messages ? clock_mono_us() : 0;
}

/* Silence is judged by check_progress. */
void rpc_instance_health(struct rpc_instance *in, enum status s, struct frame_health h)
{
	if (s != STATUS_OK) {
		instance_eject(in, "it says that it is not able to serve", false, true);
		return;
	}
	if (!in->healthy)
		log_info("RPC-BACK", in->joining ? "%s at %s answers: it gets calls" : "%s at %s answers again", in->stats.name, in->stats.url);
	if (h.leaving && !in->leaving) {
		log_info("RPC-LEAVING", "%s at %s will end: calls go to others", in->stats.name, in->stats.url);
		rpc_instance_hurry(in);
	}
	in->healthy = true;
	in->joining = false;
	in->leaving = h.leaving;
	service_unpark(in->client, in->service);
	tell(in, true, h.contract);
}

static void probe_arm(struct rpc_client *c)
{
	struct timeval tv = { 0, PROBE_EVERY_MS * 1000 };

	for (size_t i = 0; i < c->n_instances; i++)
		if (!c->instances[i]->healthy)
			tv.tv_usec = PROBE_EJECTED_MS * 1000;
	c->probe_hurry = tv.tv_usec == PROBE_EJECTED_MS * 1000;
	event_add(c->probe_ev, &tv);
}

static void probe_cb(evutil_socket_t fd, short what, void *arg)
{
	struct rpc_client *c = arg;
	int64_t now = clock_mono_us();

	if (!event_pending(c->tick_ev, EV_TIMEOUT, NULL)) {
		forgive_own_pause(c, now, PROBE_EVERY_MS * 1000);
		c->tick_us = now;
		check_progress(c, now);
	}
	c->probe_turn = (c->probe_turn + 1) % (PROBE_EVERY_MS / PROBE_EJECTED_MS);
	for (size_t i = 0; i < c->n_instances; i++)
		if (!c->instances[i]->healthy || c->probe_turn == 0 || !c->probe_hurry)
			rpc_instance_probe(c->instances[i], PROBE_TIMEOUT_MS);
	rpc_fleet_follow(c);
	probe_arm(c);
}

/* -- the client */

static void flush_cb(evutil_socket_t fd, short what, void *arg)
{
	struct rpc_client *c = arg;
	struct rpc_pending *last = TAILQ_LAST(&c->refused, rpc_pending_list);
	bool more = last != NULL;

	/* not those that are refused meanwhile */
	while (more) {
		struct rpc_pending *p = TAILQ_FIRST(&c->refused);

		more = p != last;
		pending_fail(c, p, p->refusal, false);
	}
	for (size_t i = 0; i < c->n_instances; i++)
		rpc_instance_flush(c->instances[i]);
}

void rpc_client_flush_soon(struct rpc_client *c)
{
	/* an active event runs at the end of this loop turn, after what else is ready: that is what makes batches */
	event_active(c->flush_ev, EV_TIMEOUT, 0);
}

struct rpc_client *rpc_client_new(struct event_base *base, struct rpc_keys *keys)
{
	struct rpc_client *c = xcalloc(1, sizeof(*c));

	c->macs = rpc_macs_new(keys);
	random_bytes(&c->origin.client, sizeof(c->origin.client));
	c->origin.client |= 1;
	for (int i = 0; i < RPC_WHEEL; i++)
		TAILQ_INIT(&c->wheel[i]);
	TAILQ_INIT(&c->refused);
	c->flush_ev = event_new(base, -1, 0, flush_cb, c);
	c->tick_ev = event_new(base, -1, 0, tick_cb, c);
	c->probe_ev = event_new(base, -1, 0, probe_cb, c);
	if (!c->flush_ev || !c->tick_ev || !c->probe_ev)
		log_die("RPC-CLIENT", "no memory for events");
	probe_arm(c);
	handoff_init(&c->completed, base, rpc_client_completed_cb, c);
	return c;
}

int rpc_client_add(struct rpc_client *c, const char *name, const char *urls)
{
	struct rpc_service *s;

	if (c->n_services == RPC_MAX_SERVICES)
		log_die("RPC-CLIENT", "more than %d services", RPC_MAX_SERVICES);
	s = &c->services[c->n_services];
	s->name = xstrdup(name);
	TAILQ_INIT(&s->parked);
	while (*urls) {
		size_t n = strcspn(urls, ",");
		char *url = xstrndup(urls, n);

		if (n)
			rpc_fleet_add(c, s, url);
		free(url);
		urls += n + (urls[n] == ',');
	}
	if (!s->n && !s->n_sources)
		log_die("RPC-CLIENT", "service %s has no address", name);
	return (int)c->n_services++;
}

int rpc_client_find(const struct rpc_client *c, struct str name)
{
	for (size_t i = 0; i < c->n_services; i++)
		if (str_eq(str_of(c->services[i].name), name))
			return (int)i;
	return -1;
}

static enum status refuse(struct rpc_client *c, struct rpc_pending *p)
{
	if (p->body.n > RPC_MAX_PAYLOAD)
		return STATUS_PAYLOAD_TOO_LARGE;
	if (p->service < 0 || (size_t)p->service >= c->n_services)
		return STATUS_NOT_IMPLEMENTED;
	if (c->bytes > QUEUE_BYTES || !(pending_queue(c, p, NULL) || pending_park(c, p)))
		return STATUS_UNAVAILABLE;
	return STATUS_OK;
}

static void put_body(struct rpc_pending *p, const struct rpc_request *r, int64_t deadline_us)
{
	struct rpc_request traced;
	char traceparent[TRACEPARENT + 1];

	if (!trace_on) {
		frame_put_call_body(&p->body, r, deadline_us);
		return;
	}
	traced = *r;
	p->span = hop_span_begin(&traced, traceparent);
	frame_put_call_body(&p->body, &traced, deadline_us);
}

void rpc_client_call(struct rpc_client *c, const struct rpc_request *r)
{
	struct rpc_pending *p = pending_new(c);
	uint32_t timeout_ms = r->timeout_ms < RPC_MAX_TIMEOUT_MS ? r->timeout_ms : RPC_MAX_TIMEOUT_MS;

	p->service = r->service;
	p->lane = (unsigned)r->lane < RPC_LANES ? r->lane : RPC_SLOW;
	p->may_retry = r->may_retry;
	p->only = r->instance;
	p->done = r->done;
	p->arg = r->arg;
	p->due_us = clock_mono_us() + (int64_t)timeout_ms * 1000;
	p->slot = (unsigned)(p->due_us / (TICK_MS * 1000) % RPC_WHEEL);
	TAILQ_INSERT_TAIL(&c->wheel[p->slot], p, wheel);
	c->waiting++;
	put_body(p, r, clock_us() + (int64_t)timeout_ms * 1000);
	c->bytes += p->body.n;
	tick_arm(c);
	p->refusal = refuse(c, p);
	if (p->refusal != STATUS_OK) {
		/* in the next turn of the loop, not at the end of this one: what callers do then would be this turn's again, for ever */
		TAILQ_INSERT_TAIL(&c->refused, p, queue);
		event_add(c->flush_ev, &(struct timeval){ 0 });
	}
}

void rpc_client_watch(struct rpc_client *c, rpc_seen seen, void *arg)
{
	c->seen = seen;
	c->seen_arg = arg;
}

size_t rpc_client_stats(const struct rpc_client *c, struct rpc_service_stats *rows, size_t max)
{
	for (size_t i = 0; i < c->n_instances && i < max; i++) {
		rows[i] = c->instances[i]->stats;
		rows[i].healthy = c->instances[i]->healthy;
		rows[i].in_flight = c->instances[i]->in_flight;
	}
	return c->n_instances;
}
