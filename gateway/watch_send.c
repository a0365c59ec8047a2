/* Sends what watch.c counted, as AuditLogs.Observe. */
#include "gateway/watch_send.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/wire.h"

#define EVERY_MS 1000
#define TIMEOUT_MS 1500
#define FINISH_US 2000000

/* Fields of crm.v1.Observation. */
enum { F_ID = 1, F_KIND, F_TENANT, F_USER, F_API_KEY, F_IP, F_USER_AGENT, F_REQUEST, F_DIALECT, F_WHAT, F_REASON, F_COUNT, F_FIRST, F_LAST };

struct watch_sender {
	struct gateway *g;
	struct rpc_client *rpc;
	struct event *timer;
	bool busy, away;
	void (*done)(void *arg); /* set: it is the end */
	void *arg;
	int64_t finish_by;       /* monotonic */
};

static void put_text(struct buf *b, uint32_t field, const char *text)
{
	if (*text)
		wire_put_bytes(b, field, str_of(text));
}

static void put_report(struct buf *b, const struct watch_report *p)
{
	size_t at = wire_open(b, 1);

	put_text(b, F_ID, p->id);
	put_text(b, F_KIND, watch_word(p->kind));
	put_text(b, F_TENANT, p->tenant_id);
	put_text(b, F_USER, p->user_id);
	put_text(b, F_API_KEY, p->api_key_id);
	put_text(b, F_IP, p->ip);
	put_text(b, F_USER_AGENT, p->user_agent);
	put_text(b, F_REQUEST, p->request_id);
	put_text(b, F_DIALECT, p->dialect);
	put_text(b, F_WHAT, p->what);
	put_text(b, F_REASON, p->reason);
	wire_put_varint(b, F_COUNT, p->count);
	wire_put_varint(b, F_FIRST, (uint64_t)p->first_us);
	wire_put_varint(b, F_LAST, (uint64_t)p->last_us);
	wire_close(b, at);
}

static void turn(struct watch_sender *s);

static void again(struct watch_sender *s, int64_t ms)
{
	struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

	event_add(s->timer, &tv);
}

static void on_answer(void *arg, const struct rpc_result *result)
{
	struct watch_sender *s = arg;
	/* what is refused for what it is would be refused again */
	bool arrived = result->status != STATUS_UNAVAILABLE && result->status != STATUS_DEADLINE_EXCEEDED;

	s->busy = false;
	if (!arrived && !s->away)
		log_warn("WATCH-WAITS", "svc-audit does not take security events (%s): they wait", status_name(result->status));
	else if (result->status != STATUS_OK)
		log_error("WATCH-REFUSED", "svc-audit refused security events: %s", status_name(result->status));
	s->away = !arrived;
	watch_settle(s->g->watch, arrived);
	if (s->done && arrived)
		turn(s);
	else
		again(s, s->done ? 100 : EVERY_MS);
}

/* What no tenant owns is said here. */
static void say(const struct watch_report *p)
{
	log_warn("SECURITY", "%s refused: %s, %llu times from %s within %lld s (%s)", watch_word(p->kind), *p->reason ? p->reason : "limit", (unsigned long long)p->count,
	    p->ip, (long long)((p->last_us - p->first_us) / 1000000), p->what);
}

/* False: there is nothing that svc-audit should know. */
static bool send_due(struct watch_sender *s)
{
	const struct watch_report *due[WATCH_BATCH];
	size_t n = watch_take(s->g->watch, clock_us(), s->done != NULL, due, WATCH_BATCH);
	struct rpc_request q = { .service = rpc_client_find(s->rpc, STR("audit")), .lane = RPC_WRITE, .rpc = STR("AuditLogs.Observe"), .timeout_ms = TIMEOUT_MS,
		.may_retry = true, .done = on_answer, .arg = s };
	struct buf payload = { 0 };

	for (size_t i = 0; i < n; i++)
		*due[i]->tenant_id ? put_report(&payload, due[i]) : say(due[i]);
	q.payload = buf_view(&payload);
	s->busy = payload.n > 0 && q.service >= 0;
	if (s->busy)
		rpc_client_call(s->rpc, &q);
	else
		watch_settle(s->g->watch, true);
	buf_fini(&payload);
	return s->busy;
}

static void turn(struct watch_sender *s)
{
	if (s->done && clock_mono_us() > s->finish_by) {
		log_warn("WATCH-LOST", "%zu security events could not be handed on", watch_stats(s->g->watch).rows);
		s->done(s->arg);
		return;
	}
	if (s->busy || send_due(s))
		return;
	if (s->done)
		s->done(s->arg);
	else
		again(s, EVERY_MS);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	turn(arg);
}

struct watch_sender *watch_sender_start(struct gateway *g, struct event_base *base, struct rpc_client *rpc)
{
	struct watch_sender *s = xcalloc(1, sizeof(*s));

	s->g = g;
	s->rpc = rpc;
	s->timer = event_new(base, -1, 0, on_timer, s);
	again(s, EVERY_MS);
	return s;
}

void watch_sender_finish(struct watch_sender *s, void (*done)(void *arg), void *arg)
{
	s->done = done;
	s->arg = arg;
	s->finish_by = clock_mono_us() + FINISH_US;
	if (!s->busy)
		turn(s);
}
