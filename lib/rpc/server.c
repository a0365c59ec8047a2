/* The service's end of the hop: contexts that receive batches, calls that are answered, batches that are sent back. */
#include "rpc/rpc.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/codec.h"
#include "base/log.h"
#include "rpc/frame.h"
#include "rpc/handoff.h"
#include "rpc/mac.h"
#include "rpc/replay.h"
#include "telemetry/metrics.h"

enum { CONTEXTS = 128, SPARE_CALLS = 256, KEEP_OUT_BYTES = 64 * 1024, KEEP_ANSWER_BYTES = 4096 };

/* One REP context: strictly receive, answer, send. Between receive's callback and send it belongs to the loop, else to NNG. */
struct slot {
	struct handoff_node node; /* first: the hand-off gives nodes back */
	struct rpc_server *server;
	nng_ctx ctx;
	nng_aio *aio;
	bool sending;
	nng_msg *request;
	uint8_t mac[RPC_MAC_BYTES];
	struct rpc_mac *key; /* that the request was signed with, held; the reply is signed with it too */
	struct buf out; /* ReplyBatch so far */
	size_t open;    /* calls without an answer, and one for the loop while it still hands calls out */
};

struct served {
	struct handoff_node node; /* first */
	struct rpc_call call;
	struct slot *slot;
	uint32_t id;
	struct buf answer; /* the encoded Reply of a call that a worker answered */
	struct served *spare;
};

struct rpc_server {
	struct event_base *base;
	pthread_t thread;
	rpc_dispatch dispatch;
	bool (*healthy)(void *arg);
	void *arg;
	struct rpc_macs *macs;
	struct replay replay;
	nng_socket socket;
	struct slot *slots;
	struct handoff received, answered;
	struct served *spares;
	size_t n_spares;
	struct rpc_stats stats;
	void (*observe)(void *arg, const struct rpc_call *call, enum status status);
	void *observe_arg;
	struct frame_health health;
	struct buf contract; /* empty: none */
	bool draining;
	void (*idle)(void *arg);
	void *idle_arg;
	struct event *idle_ev;
};

static const double sizes[] = { 1, 2, 4, 8, 16, 32, 64 };
static struct metric batches = { .name = "crm_rpc_server_batch_calls", .help = "Calls of a message that was received", .type = METRIC_HISTOGRAM, .bounds = sizes,
	.n_bounds = sizeof(sizes) / sizeof(sizes[0]) };

/* -- NNG's side */

static void slot_receive(struct slot *s)
{
	s->sending = false;
	nng_ctx_recv(s->ctx, s->aio);
}

static void slot_cb(void *arg)
{
	struct slot *s = arg;
	int rc = nng_aio_result(s->aio);

	if (s->sending) {
		if (rc != 0)
			nng_msg_free(nng_aio_get_msg(s->aio));
		if (rc != NNG_ECLOSED)
			slot_receive(s);
		return;
	}
	if (rc == 0) {
		s->request = nng_aio_get_msg(s->aio);
		nng_aio_set_msg(s->aio, NULL);
		handoff_push(&s->server->received, &s->node);
	} else if (rc != NNG_ECLOSED) {
		slot_receive(s);
	}
}

/* -- calls: from the wire to the dispatcher */

static struct served *served_new(struct rpc_server *sv, struct slot *slot)
{
	struct served *c = sv->spares;
	struct arena arena;

	if (c) {
		sv->spares = c->spare;
		sv->n_spares--;
	} else {
		c = xcalloc(1, sizeof(*c));
	}
	arena = c->call.arena;
	memset(&c->call, 0, offsetof(struct rpc_call, violations));
	c->call.arena = arena;
	c->call.n_violations = 0;
	c->call.status_text = NULL;
	c->slot = slot;
	return c;
}

static void served_release(struct rpc_server *sv, struct served *c)
{
	if (sv->n_spares >= SPARE_CALLS || c->answer.cap > KEEP_ANSWER_BYTES) {
		arena_fini(&c->call.arena);
		buf_fini(&c->answer);
		free(c);
		return;
	}
	arena_reset(&c->call.arena);
	buf_clear(&c->answer);
	c->spare = sv->spares;
	sv->spares = c;
	sv->n_spares++;
}

static void slot_send(struct slot *s)
{
	struct str batch = buf_view(&s->out);
	uint8_t mac[RPC_MAC_BYTES];
	nng_msg *reply;

	rpc_mac_reply(s->key, s->mac, batch, mac);
	rpc_mac_rele(s->key);
	s->key = NULL;
	if (nng_msg_alloc(&reply, RPC_MAC_BYTES + batch.n) != 0)
		log_die("RPC-MEMORY", "out of memory for a reply of %zu bytes", batch.n);
	memcpy(nng_msg_body(reply), mac, RPC_MAC_BYTES);
	if (batch.n)
		memcpy((char *)nng_msg_body(reply) + RPC_MAC_BYTES, batch.p, batch.n);
	nng_msg_free(s->request);
	s->request = NULL;
	if (s->out.cap > KEEP_OUT_BYTES)
		buf_fini(&s->out);
	buf_clear(&s->out);
	s->sending = true;
	nng_aio_set_msg(s->aio, reply);
	nng_ctx_send(s->ctx, s->aio);
}

static void slot_close_one(struct slot *s)
{
	if (--s->open == 0)
		slot_send(s);
}

/* Room for the whole batch is the receiver's RPC_MAX_MESSAGE: an answer that does not fit becomes an error of its own. */
static void slot_append(struct slot *s, uint32_t id, struct str encoded)
{
	static const struct frame_reply too_large = { .status = STATUS_INTERNAL, .text = "The answer is too large" };
	struct frame_reply instead = too_large;

	if (s->out.n + encoded.n <= RPC_MAX_PAYLOAD) {
		buf_str(&s->out, encoded);
		return;
	}
	log_error("RPC-REPLY-SIZE", "a reply of %zu bytes does not fit its batch", encoded.n);
	instead.id = id;
	frame_put_reply(&s->out, &instead);
}

static void idle_cb(evutil_socket_t fd, short what, void *arg)
{
	struct rpc_server *sv = arg;

	if (sv->stats.in_flight == 0 && sv->idle) {
		void (*idle)(void *) = sv->idle;

		sv->idle = NULL;
		idle(sv->idle_arg);
	}
}

/* NNG reports a reply as sent before it is on the wire; whoever exits at once would take it along. */
static void idle_later(struct rpc_server *sv)
{
	struct timeval grace = { 0, 50 * 1000 };

	event_add(sv->idle_ev, &grace);
}

static void served_done(struct served *c)
{
	struct slot *s = c->slot;
	struct rpc_server *sv = s->server;

	sv->stats.in_flight--;
	served_release(sv, c);
	slot_close_one(s);
	if (sv->draining && sv->stats.in_flight == 0)
		idle_later(sv);
}

static void served_answer(struct rpc_call *call, struct frame_reply *r);

static void answer_health(struct rpc_server *sv, struct rpc_call *call)
{
	struct buf payload = { 0 };

	if (!sv->health.leaving && sv->healthy && !sv->healthy(sv->arg)) {
		rpc_reply_error(call, STATUS_UNAVAILABLE, NULL);
		return;
	}
	frame_put_health(&payload, sv->health);
	rpc_reply_ok(call, buf_view(&payload));
	buf_fini(&payload);
}

static void call_route(struct rpc_server *sv, struct served *c, int64_t now)
{
	if (c->call.deadline_us <= now) {
		sv->stats.expired++;
		rpc_reply_error(&c->call, STATUS_DEADLINE_EXCEEDED, NULL);
	} else if (c->call.deadline_us > now + (int64_t)(RPC_MAX_TIMEOUT_MS + 10000) * 1000) {
		rpc_reply_error(&c->call, STATUS_BAD_REQUEST, NULL);
	} else if (sv->draining) {
		served_answer(&c->call, &(struct frame_reply){ .status = STATUS_UNAVAILABLE, .refused = true });
	} else if (str_eq(c->call.rpc, STR("Health.Check"))) {
		answer_health(sv, &c->call);
	} else if (str_eq(c->call.rpc, STR("Health.Contract")) && sv->contract.n) {
		rpc_reply_ok(&c->call, buf_view(&sv->contract));
	} else {
		sv->stats.calls++;
		c->call.started_us = clock_mono_us();
		sv->dispatch(sv->arg, &c->call);
	}
}

/* Reads all calls before the first is handed out: a malformed message is refused whole. */
static bool batch_read(struct rpc_server *sv, struct slot *s, struct str batch, struct served *calls[RPC_MAX_CALLS], size_t *n)
{
	struct str bodies[RPC_MAX_CALLS];
	struct frame_origin origin;
	size_t total;

	*n = 0;
	if (!frame_read_calls(batch, &origin, bodies, &total) || !replay_accept(&sv->replay, origin, clock_us()))
		return false;
	for (size_t i = 0; i < total; i++) {
		struct served *c = served_new(sv, s);

		calls[(*n)++] = c;
		if (!frame_read_call(bodies[i], &c->id, &c->call))
			return false;
	}
	return true;
}

/* s->key is the request's, or ours when that is wrong: even a refusal is signed. */
static bool mac_matches(struct rpc_server *sv, struct slot *s, struct str *batch)
{
	const char *p = nng_msg_body(s->request);
	size_t n = nng_msg_len(s->request);
	struct rpc_mac *key = NULL;

	memset(s->mac, 0, sizeof(s->mac));
	if (n >= RPC_MAC_BYTES) {
		memcpy(s->mac, p, RPC_MAC_BYTES);
		*batch = (struct str){ p + RPC_MAC_BYTES, n - RPC_MAC_BYTES };
		key = rpc_macs_of_request(sv->macs, s->mac, *batch);
	}
	s->key = rpc_mac_hold(key ? key : rpc_macs_first(sv->macs));
	return key != NULL;
}

static void slot_refuse(struct rpc_server *sv, struct slot *s, struct served **calls, size_t n, const char *why)
{
	for (size_t i = 0; i < n; i++)
		served_release(sv, calls[i]);
	sv->stats.bad_mac++;
	log_warn("RPC-REFUSED", "a message was refused: %s", why);
	slot_send(s);
}

static void slot_open(struct rpc_server *sv, struct slot *s)
{
	struct served *calls[RPC_MAX_CALLS];
	struct str batch;
	size_t n = 0;
	int64_t now;

	sv->stats.messages++;
	if (!mac_matches(sv, s, &batch)) {
		slot_refuse(sv, s, calls, 0, "its MAC is wrong");
		return;
	}
	if (!batch_read(sv, s, batch, calls, &n)) {
		slot_refuse(sv, s, calls, n, "malformed or seen before");
		return;
	}
	now = clock_us();
	metric_observe(metric_series(&batches), (double)n);
	s->open = n + 1;
	sv->stats.in_flight += n;
	for (size_t i = 0; i < n; i++)
		call_route(sv, calls[i], now);
	slot_close_one(s);
}

/* -- answers */

static struct served *served_of(struct rpc_call *c)
{
	return (struct served *)((char *)c - offsetof(struct served, call));
}

static void served_answer(struct rpc_call *call, struct frame_reply *r)
{
	struct served *c = served_of(call);
	struct rpc_server *sv = c->slot->server;

	r->id = c->id;
	if (r->payload.n > RPC_MAX_PAYLOAD) {
		log_error("RPC-REPLY-SIZE", "%.*s: a reply of %zu bytes", STR_FMT(call->rpc), r->payload.n);
		*r = (struct frame_reply){ .id = c->id, .status = STATUS_INTERNAL, .text = "The answer is too large" };
	}
	if (sv->observe)
		sv->observe(sv->observe_arg, call, r->status);
	if (!pthread_equal(pthread_self(), sv->thread)) {
		frame_put_reply(&c->answer, r);
		handoff_push(&sv->answered, &c->node);
		return;
	}
	if (c->slot->out.n + r->payload.n + 256 <= RPC_MAX_PAYLOAD && r->status == STATUS_OK) {
		frame_put_reply(&c->slot->out, r);
	} else {
		frame_put_reply(&c->answer, r);
		slot_append(c->slot, c->id, buf_view(&c->answer));
	}
	served_done(c);
}

void rpc_violate(struct rpc_call *c, const char *path, const char *rule, const char *message, const char *param)
{
	if (c->n_violations == sizeof(c->violations) / sizeof(c->violations[0]))
		return;
	c->violations[c->n_violations++] = (struct rpc_violation){ path, rule, message, param };
}

void rpc_reply_ok(struct rpc_call *c, struct str payload)
{
	served_answer(c, &(struct frame_reply){ .payload = payload });
}

void rpc_reply_replayed(struct rpc_call *c, struct str payload)
{
	served_answer(c, &(struct frame_reply){ .payload = payload, .replayed = true });
}

void rpc_reply_retry(struct rpc_call *c, enum status s, const char *text, uint32_t retry_after_ms)
{
	served_answer(c, &(struct frame_reply){ .status = s == STATUS_OK ? STATUS_INTERNAL : s, .text = text ? text : c->status_text,
	    .retry_after_ms = retry_after_ms, .violations = c->violations, .n_violations = c->n_violations });
}

void rpc_reply_error(struct rpc_call *c, enum status s, const char *text)
{
	rpc_reply_retry(c, s, text, 0);
}

/* -- the server itself */

/* The loop may run on another thread than the one that made the server; its first wake-up tells which. */
static void know_thread(struct rpc_server *sv)
{
	if (!pthread_equal(sv->thread, pthread_self()))
		sv->thread = pthread_self();
}

static void received_cb(void *arg)
{
	struct rpc_server *sv = arg;
	struct handoff_node *at, *next;

	know_thread(sv);
	for (at = handoff_take(&sv->received); at; at = next) {
		next = at->next;
		slot_open(sv, (struct slot *)at);
	}
}

static void answered_cb(void *arg)
{
	struct rpc_server *sv = arg;
	struct handoff_node *at, *next;

	for (at = handoff_take(&sv->answered); at; at = next) {
		struct served *c = (struct served *)at;

		next = at->next;
		slot_append(c->slot, c->id, buf_view(&c->answer));
		served_done(c);
	}
}

static void listen_at(struct rpc_server *sv, const char *url)
{
	struct timespec pause = { 0, 100 * 1000 * 1000 };
	int rc = nng_rep0_open(&sv->socket);

	if (rc == 0)
		rc = nng_socket_set_size(sv->socket, NNG_OPT_RECVMAXSZ, RPC_MAX_MESSAGE);
	if (rc != 0)
		log_die("RPC-LISTEN", "NNG: %s", nng_strerror(rc));
	/* a predecessor that is still closing gives the port back within moments */
	for (int i = 0; i < 30; i++) {
		rc = nng_listen(sv->socket, url, NULL, 0);
		if (rc != NNG_EADDRINUSE)
			break;
		nanosleep(&pause, NULL);
	}
	if (rc != 0)
		log_die("RPC-LISTEN", "cannot listen at %s: %s", url, nng_strerror(rc));
}

static void slots_start(struct rpc_server *sv)
{
	sv->slots = xcalloc(CONTEXTS, sizeof(*sv->slots));
	for (int i = 0; i < CONTEXTS; i++) {
		struct slot *s = &sv->slots[i];
		int rc;

		s->server = sv;
		rc = nng_ctx_open(&s->ctx, sv->socket);
		if (rc == 0)
			rc = nng_aio_alloc(&s->aio, slot_cb, s);
		if (rc != 0)
			log_die("RPC-LISTEN", "NNG: %s", nng_strerror(rc));
		nng_aio_set_timeout(s->aio, NNG_DURATION_INFINITE);
		slot_receive(s);
	}
}

struct rpc_server *rpc_server_new(struct event_base *base, const char *url, struct rpc_keys *keys, rpc_dispatch dispatch,
    bool (*healthy)(void *arg), void *arg)
{
	struct rpc_server *sv = xcalloc(1, sizeof(*sv));

	metric_register(&batches);
	sv->base = base;
	sv->dispatch = dispatch;
	sv->healthy = healthy;
	sv->arg = arg;
	sv->macs = rpc_macs_new(keys);
	sv->thread = pthread_self();
	handoff_init(&sv->received, base, received_cb, sv);
	handoff_init(&sv->answered, base, answered_cb, sv);
	sv->idle_ev = event_new(base, -1, 0, idle_cb, sv);
	if (!sv->idle_ev)
		log_die("RPC-LISTEN", "no memory for an event");
	listen_at(sv, url);
	slots_start(sv);
	return sv;
}

struct rpc_stats rpc_server_stats(const struct rpc_server *s)
{
	return s->stats;
}

void rpc_server_observe(struct rpc_server *s, void (*answered)(void *arg, const struct rpc_call *call, enum status status), void *arg)
{
	s->observe = answered;
	s->observe_arg = arg;
}

void rpc_server_leave(struct rpc_server *s)
{
	s->health.leaving = true;
}

uint64_t rpc_contract_hash(struct str contract)
{
	uint8_t digest[32];
	uint64_t hash;

	sha256(contract.p, contract.n, digest);
	memcpy(&hash, digest, sizeof(hash));
	return hash | 1;
}

void rpc_server_contract(struct rpc_server *s, struct str contract)
{
	buf_clear(&s->contract);
	buf_str(&s->contract, contract);
	s->health.contract = contract.n ? rpc_contract_hash(contract) : 0;
}

void rpc_server_drain(struct rpc_server *s, void (*idle)(void *arg), void *arg)
{
	s->draining = true;
	s->idle = idle;
	s->idle_arg = arg;
	if (s->stats.in_flight == 0)
		idle_later(s);
}
