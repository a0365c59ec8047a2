/* Packs calls into NNG messages, sends them to one instance and takes the replies apart. */
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/wire.h"
#include "rpc/client_priv.h"
#include "telemetry/metrics.h"

/* A message outlives the last deadline in it a little, so that the calls' own timer speaks first. */
enum { MESSAGE_GRACE_MS = 30, RECONNECT_MIN_MS = 50, RECONNECT_MAX_MS = 200 };

static const double sizes[] = { 1, 2, 4, 8, 16, 32, 64 };
static struct metric batches = { .name = "crm_rpc_client_batch_calls", .help = "Calls of a message to a service instance", .type = METRIC_HISTOGRAM, .bounds = sizes,
	.n_bounds = sizeof(sizes) / sizeof(sizes[0]) };

/* -- NNG's side */

static void message_complete(struct rpc_message *m, int rc)
{
	m->rc = rc;
	handoff_push(&m->instance->client->completed, &m->node);
}

static void message_cb(void *arg)
{
	struct rpc_message *m = arg;
	int rc = nng_aio_result(m->aio);

	if (!m->sent) {
		if (rc != 0) {
			nng_msg_free(nng_aio_get_msg(m->aio));
			nng_aio_set_msg(m->aio, NULL);
			message_complete(m, rc);
			return;
		}
		m->sent = true;
		nng_ctx_recv(m->ctx, m->aio);
		/* an abort between the two operations found nothing to cancel */
		if (atomic_load(&m->abort))
			nng_aio_cancel(m->aio);
		return;
	}
	if (rc == 0) {
		m->reply = nng_aio_get_msg(m->aio);
		nng_aio_set_msg(m->aio, NULL);
	}
	message_complete(m, rc);
}

static void pipe_cb(nng_pipe pipe, nng_pipe_ev ev, void *arg)
{
	struct rpc_instance *in = arg;

	atomic_fetch_add(ev == NNG_PIPE_EV_ADD_POST ? &in->pipes_up : &in->pipes_down, 1);
	handoff_kick(&in->client->completed);
}

/* -- sending */

static bool message_build(struct rpc_client *c, struct rpc_message *m, nng_msg **msg)
{
	struct str batch = buf_view(&c->scratch);

	m->key = rpc_mac_hold(rpc_macs_first(c->macs));
	rpc_mac_request(m->key, batch, m->mac);
	if (nng_msg_alloc(msg, RPC_MAC_BYTES + batch.n) != 0)
		return false;
	memcpy(nng_msg_body(*msg), m->mac, RPC_MAC_BYTES);
	memcpy((char *)nng_msg_body(*msg) + RPC_MAC_BYTES, batch.p, batch.n);
	return true;
}

/* c->scratch holds the calls. */
static void message_send(struct rpc_message *m, int64_t timeout_ms)
{
	struct rpc_instance *in = m->instance;
	struct rpc_client *c = in->client;
	nng_msg *msg;

	c->origin.sequence++;
	frame_put_origin(&c->scratch, c->origin);
	if (!message_build(c, m, &msg))
		log_die("RPC-MEMORY", "out of memory for a message of %zu bytes", c->scratch.n);
	buf_clear(&c->scratch);
	if (c->scratch.cap > 2 * RPC_BATCH_BYTES)
		buf_fini(&c->scratch);
	m->busy = true;
	m->sent = false;
	m->timed_out = false;
	m->reply = NULL;
	atomic_store(&m->abort, false);
	in->owed_messages++;
	if (!in->owed_since_us)
		in->owed_since_us = clock_mono_us();
	nng_aio_set_timeout(m->aio, (nng_duration)timeout_ms);
	nng_aio_set_msg(m->aio, msg);
	nng_ctx_send(m->ctx, m->aio);
}

static void lane_send(struct rpc_instance *in, enum rpc_lane lane, struct rpc_message *m)
{
	struct rpc_client *c = in->client;
	int64_t now = clock_mono_us(), due = now;
	struct rpc_pending *p = TAILQ_FIRST(&in->queue[lane]);

	m->n = 0;
	while (p && m->n < RPC_MAX_CALLS && (m->n == 0 || c->scratch.n + p->body.n <= RPC_BATCH_BYTES)) {
		TAILQ_REMOVE(&in->queue[lane], p, queue);
		in->queued[lane]--;
		p->queued = false;
		p->message = m;
		p->index = m->n;
		m->calls[m->n] = p;
		frame_put_call(&c->scratch, m->n++, buf_view(&p->body));
		due = p->due_us > due ? p->due_us : due;
		in->stats.calls++;
		p = TAILQ_FIRST(&in->queue[lane]);
	}
	in->stats.batches++;
	metric_observe(metric_series(&batches), m->n);
	message_send(m, (due - now) / 1000 + MESSAGE_GRACE_MS);
}

void rpc_instance_flush(struct rpc_instance *in)
{
	for (int lane = 0; lane < RPC_LANES; lane++)
		for (int k = 0; k < RPC_LANE_MESSAGES && in->queued[lane]; k++)
			if (!in->messages[lane][k].busy)
				lane_send(in, lane, &in->messages[lane][k]);
}

void rpc_instance_probe(struct rpc_instance *in, unsigned timeout_ms)
{
	struct rpc_request health = { .rpc = STR("Health.Check") };
	struct buf body = { 0 };

	if (in->probe.busy)
		return;
	frame_put_call_body(&body, &health, clock_us() + (int64_t)timeout_ms * 1000);
	frame_put_call(&in->client->scratch, 0, buf_view(&body));
	buf_fini(&body);
	message_send(&in->probe, timeout_ms);
}

static void message_abort(struct rpc_message *m)
{
	if (!m->busy)
		return;
	atomic_store(&m->abort, true);
	nng_aio_cancel(m->aio);
}

void rpc_instance_abort(struct rpc_instance *in)
{
	for (int lane = 0; lane < RPC_LANES; lane++)
		for (int k = 0; k < RPC_LANE_MESSAGES; k++)
			message_abort(&in->messages[lane][k]);
}

/* -- replies */

static bool reply_is_genuine(struct rpc_client *c, struct rpc_message *m, struct str *batch)
{
	const char *p = nng_msg_body(m->reply);
	size_t n = nng_msg_len(m->reply);

	if (n < RPC_MAC_BYTES)
		return false;
	*batch = (struct str){ p + RPC_MAC_BYTES, n - RPC_MAC_BYTES };
	return rpc_macs_reply_is(c->macs, m->key, m->mac, (const uint8_t *)p, *batch);
}

static void probe_answered(struct rpc_message *m, struct str batch)
{
	struct wire_reader r = wire_read(batch);
	struct wire_field f;
	struct rpc_result result;
	uint32_t id;

	if (wire_next(&r, &f) && f.number == 1 && f.type == WIRE_BYTES && frame_read_reply(f.bytes, &id, &result))
		rpc_instance_health(m->instance, result.status, frame_read_health(result.payload));
}

static void calls_answered(struct rpc_message *m, struct str batch)
{
	struct rpc_client *c = m->instance->client;
	struct wire_reader r = wire_read(batch);
	struct wire_field f;
	struct rpc_result result;
	uint32_t id;

	while (wire_next(&r, &f)) {
		if (f.number != 1 || f.type != WIRE_BYTES || !frame_read_reply(f.bytes, &id, &result))
			continue;
		m->instance->timeouts_in_a_row = 0;
		if (id < m->n && m->calls[id] && result.refused)
			rpc_pending_refused(m->calls[id]);
		else if (id < m->n && m->calls[id])
			rpc_pending_finish(c, m->calls[id], &result);
	}
}

/* What the reply did not answer, or what never got a reply. */
static void calls_failed(struct rpc_message *m)
{
	for (unsigned i = 0; i < m->n; i++)
		if (m->calls[i] && m->rc != NNG_ETIMEDOUT)
			rpc_pending_reroute(m->calls[i], m->sent);
}

/* The last deadline in it has passed, but for rounding. */
static void calls_late(struct rpc_message *m)
{
	struct rpc_result late = { .status = STATUS_DEADLINE_EXCEEDED, .text = str_of(status_text(STATUS_DEADLINE_EXCEEDED)),
		.unknown = m->sent };

	for (unsigned i = 0; i < m->n; i++)
		if (m->calls[i])
			rpc_pending_finish(m->instance->client, m->calls[i], &late);
}

static void message_replied(struct rpc_message *m)
{
	struct rpc_instance *in = m->instance;
	struct str batch;

	if (!reply_is_genuine(in->client, m, &batch)) {
		log_warn("RPC-BAD-MAC", "%s at %s: the reply's MAC is wrong; do both have the same envelope key?", in->stats.name,
		    in->stats.url);
		return;
	}
	/* an empty batch is what a peer with another view of us says; only an answer is a sign of health */
	if (batch.n)
		rpc_instance_progress(in);
	if (m->probe)
		probe_answered(m, batch);
	else
		calls_answered(m, batch);
}

static void message_done(struct rpc_message *m)
{
	struct rpc_instance *in = m->instance;
	bool retired = !in->service;

	in->owed_messages--;
	if (!retired && (m->rc == NNG_ECONNRESET || m->rc == NNG_ECLOSED))
		rpc_instance_lost(in);
	if (!retired && m->reply)
		message_replied(m);
	if (m->rc == NNG_ETIMEDOUT)
		calls_late(m);
	else
		calls_failed(m);
	if (m->reply)
		nng_msg_free(m->reply);
	m->reply = NULL;
	rpc_mac_rele(m->key);
	m->key = NULL;
	m->n = 0;
	m->busy = false;
	if (!m->probe && in->queued[RPC_READ] + in->queued[RPC_WRITE] + in->queued[RPC_SLOW])
		rpc_client_flush_soon(in->client);
}

static void instance_pipes(struct rpc_instance *in)
{
	unsigned up = atomic_load(&in->pipes_up), down = atomic_load(&in->pipes_down);

	if (down != in->down_seen)
		rpc_instance_lost(in);
	if (up != in->up_seen && up != down)
		rpc_instance_probe(in, 450);
	in->up_seen = up;
	in->down_seen = down;
}

void rpc_client_completed_cb(void *arg)
{
	struct rpc_client *c = arg;
	struct handoff_node *at, *next;

	for (at = handoff_take(&c->completed); at; at = next) {
		next = at->next;
		message_done((struct rpc_message *)at);
	}
	for (size_t i = 0; i < c->n_instances; i++)
		instance_pipes(c->instances[i]);
	rpc_fleet_follow(c);
}

/* -- instances */

static void message_init(struct rpc_instance *in, struct rpc_message *m)
{
	nng_duration resend;

	m->instance = in;
	if (nng_ctx_open(&m->ctx, in->socket) != 0 || nng_aio_alloc(&m->aio, message_cb, m) != 0)
		log_die("RPC-DIAL", "no memory for NNG contexts");
	if (nng_ctx_get_ms(m->ctx, NNG_OPT_REQ_RESENDTIME, &resend) != 0 || resend != NNG_DURATION_INFINITE)
		log_die("RPC-DIAL", "NNG would send requests twice");
}

static void socket_open(struct rpc_instance *in)
{
	int rc = nng_req0_open(&in->socket);

	/* the contexts copy the resend time when they are opened */
	if (rc == 0)
		rc = nng_socket_set_ms(in->socket, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE);
	if (rc == 0)
		rc = nng_socket_set_size(in->socket, NNG_OPT_RECVMAXSZ, RPC_MAX_MESSAGE);
	if (rc == 0)
		rc = nng_socket_set_ms(in->socket, NNG_OPT_RECONNMINT, RECONNECT_MIN_MS);
	if (rc == 0)
		rc = nng_socket_set_ms(in->socket, NNG_OPT_RECONNMAXT, RECONNECT_MAX_MS);
	if (rc == 0)
		rc = nng_pipe_notify(in->socket, NNG_PIPE_EV_ADD_POST, pipe_cb, in);
	if (rc == 0)
		rc = nng_pipe_notify(in->socket, NNG_PIPE_EV_REM_POST, pipe_cb, in);
	if (rc != 0)
		log_die("RPC-DIAL", "NNG: %s", nng_strerror(rc));
}

struct rpc_instance *rpc_instance_new(struct rpc_client *c)
{
	struct rpc_instance *in = xcalloc(1, sizeof(*in));

	metric_register(&batches);
	in->client = c;
	for (int lane = 0; lane < RPC_LANES; lane++)
		TAILQ_INIT(&in->queue[lane]);
	socket_open(in);
	for (int lane = 0; lane < RPC_LANES; lane++)
		for (int k = 0; k < RPC_LANE_MESSAGES; k++)
			message_init(in, &in->messages[lane][k]);
	message_init(in, &in->probe);
	in->probe.probe = true;
	return in;
}

void rpc_instance_dial(struct rpc_instance *in)
{
	int rc = nng_dial(in->socket, in->stats.url, &in->dialer, NNG_FLAG_NONBLOCK);

	if (rc != 0)
		log_die("RPC-DIAL", "%s at %s: %s", in->stats.name, in->stats.url, nng_strerror(rc));
}

/* Without its dialer the socket has no connection; it is not closed itself, which NNG 1.5 does not survive always (adr/0031). */
void rpc_instance_hang_up(struct rpc_instance *in)
{
	nng_dialer_close(in->dialer);
	message_abort(&in->probe);
}

bool rpc_instance_quiet(const struct rpc_instance *in)
{
	for (int lane = 0; lane < RPC_LANES; lane++)
		for (int k = 0; k < RPC_LANE_MESSAGES; k++)
			if (in->messages[lane][k].busy)
				return false;
	return !in->probe.busy;
}
