/* A pipelined connection's life: connecting in the background, up, broken, back-off. */
#include "db/link.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/codec.h"
#include "base/log.h"
#include "db/outcome.h"

#define SLOTS_FIRST 256 /* a power of two */
#define CONNECT_SECONDS 5
#define BACKOFF_FIRST_MS 50
#define BACKOFF_LAST_MS 2000

static void on_connect(evutil_socket_t fd, short what, void *arg);

static void ignore_notice(void *arg, const char *message)
{
}

static void link_set(struct link *l, enum link_state state)
{
	bool was_up = l->state == LINK_UP;

	l->state = state;
	if (was_up != (state == LINK_UP)) {
		l->db->stats.connections_up += state == LINK_UP ? 1 : -1;
		db_link_changed(l->db, l->kind);
	}
}

static void retry_later(struct link *l)
{
	unsigned shift = l->failures < 6 ? l->failures : 6;
	uint32_t jitter;
	long ms = BACKOFF_FIRST_MS << shift;
	struct timeval t;

	if (ms > BACKOFF_LAST_MS)
		ms = BACKOFF_LAST_MS;
	random_bytes(&jitter, sizeof(jitter));
	ms = ms / 2 + (long)(jitter % (uint32_t)ms) / 2;
	l->failures++;
	t = (struct timeval){ ms / 1000, ms % 1000 * 1000 };
	evtimer_add(l->timer, &t);
}

static void drop_connection(struct link *l)
{
	event_del(l->read_ev);
	event_del(l->write_ev);
	if (l->c)
		PQfinish(l->c);
	l->c = NULL;
	statements_clear(&l->statements);
}

/* PQerrorMessage ends in a line feed. */
static void log_down(struct link *l, const char *why)
{
	size_t n = strcspn(why, "\n");

	if (l->failures == 0 || l->failures % 30 == 0)
		log_warn("DB-DOWN", "connection lost or refused, trying again: %.*s", (int)n, why);
}

void link_break(struct link *l, const char *why)
{
	if (l->state == LINK_DOWN)
		return;
	log_down(l, why);
	if (l->db->grouping == l)
		l->db->grouping = NULL;
	pipe_abandon(l);
	drop_connection(l);
	retry_later(l);
	link_set(l, LINK_DOWN);
	db_turn_later(l->db); /* another connection may take over */
}

static void on_read(evutil_socket_t fd, short what, void *arg)
{
	struct link *l = arg;

	pipe_receive(l);
	db_pump(l->db);
}

static void on_write(evutil_socket_t fd, short what, void *arg)
{
	link_flush(arg);
}

void link_flush(struct link *l)
{
	int left;

	if (l->state != LINK_UP)
		return;
	left = PQflush(l->c);
	if (left < 0)
		link_break(l, PQerrorMessage(l->c));
	else if (left > 0)
		event_add(l->write_ev, NULL);
}

static void link_ready(struct link *l)
{
	struct event_base *base = l->db->base;

	if (PQsetnonblocking(l->c, 1) != 0 || PQenterPipelineMode(l->c) != 1) {
		link_break(l, "no pipeline mode");
		return;
	}
	event_assign(l->read_ev, base, PQsocket(l->c), EV_READ | EV_PERSIST, on_read, l);
	event_assign(l->write_ev, base, PQsocket(l->c), EV_WRITE, on_write, l);
	event_add(l->read_ev, NULL);
	if (l->failures)
		log_info("DB-UP", "connected again");
	l->failures = 0;
	link_set(l, LINK_UP);
	db_pump(l->db);
}

static void wait_for(struct link *l, short what)
{
	struct timeval t = { CONNECT_SECONDS, 0 };

	event_del(l->read_ev);
	event_assign(l->read_ev, l->db->base, PQsocket(l->c), what, on_connect, l);
	event_add(l->read_ev, &t);
}

static void on_connect(evutil_socket_t fd, short what, void *arg)
{
	struct link *l = arg;

	if (what & EV_TIMEOUT) {
		link_break(l, "no answer within 5 s");
		return;
	}
	switch (PQconnectPoll(l->c)) {
	case PGRES_POLLING_READING:
		wait_for(l, EV_READ);
		return;
	case PGRES_POLLING_WRITING:
		wait_for(l, EV_WRITE);
		return;
	case PGRES_POLLING_OK:
		event_del(l->read_ev);
		link_ready(l);
		return;
	default:
		link_break(l, PQerrorMessage(l->c));
	}
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct link *l = arg;
	struct db_connect_params p;

	db_connect_params(&p, l->db->url, l->db->config.statement_timeout_ms, l->kind == DB_READ, l->kind == DB_READ ? "crm-read" : "crm-write");
	l->c = PQconnectStartParams(p.keys, p.values, 1);
	if (!l->c)
		abort();
	link_set(l, LINK_CONNECTING);
	l->db->stats.reconnects += l->failures > 0;
	if (PQstatus(l->c) == CONNECTION_BAD) {
		link_break(l, PQerrorMessage(l->c));
		return;
	}
	PQsetNoticeProcessor(l->c, ignore_notice, NULL);
	wait_for(l, EV_WRITE);
}

void link_init(struct link *l, struct db *d, enum db_kind kind)
{
	l->db = d;
	l->kind = kind;
	l->mask = SLOTS_FIRST - 1;
	l->slots = xcalloc(SLOTS_FIRST, sizeof(*l->slots));
	l->read_ev = event_new(d->base, -1, 0, on_connect, l);
	l->write_ev = event_new(d->base, -1, 0, on_write, l);
	l->timer = evtimer_new(d->base, on_timer, l);
	event_active(l->timer, EV_TIMEOUT, 0);
}

void link_fini(struct link *l)
{
	pipe_abandon(l);
	drop_connection(l);
	link_set(l, LINK_DOWN);
	event_free(l->read_ev);
	event_free(l->write_ev);
	event_free(l->timer);
	free(l->slots);
}
