/* The two connections: greeting, password, script, pauses; and what operators hear of it. */
#include "link.h"

#include <hiredis/adapters/libevent.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "telemetry/metrics.h"

#define GREETING_MS 1000
#define PAUSE_MAX_MS 2000
#define WARN_EVERY_US 60000000

static struct metric up = { .name = "crm_counters_shared", .help = "1: limits are counted in Redis; 0: by this process alone", .type = METRIC_GAUGE };
static struct metric lost = { .name = "crm_counters_lost_total", .help = "Connections to Redis that were lost, refused or too slow", .type = METRIC_COUNTER };

void link_register_metrics(void)
{
	metric_register(&up);
	metric_set(metric_series(&up), 0);
	metric_register(&lost);
}

static void warn(struct link *l, const char *why)
{
	int64_t now = clock_mono_us();

	metric_add(metric_series(&lost), 1);
	if (l->stopping || (l->warned_us && now - l->warned_us < WARN_EVERY_US))
		return;
	l->warned_us = now;
	l->told = false;
	log_warn("COUNTERS-AWAY", "Redis at %s:%d cannot be used (%s): limits are counted by this process alone", l->host, l->port, why);
}

void link_become_slow(struct link *l)
{
	l->slow = true;
	atomic_store(&l->epoch, 0);
	metric_set(metric_series(&up), 0);
	warn(l, "it does not answer in time");
}

/* Under a new epoch, so that it hears of what was decided without it. */
void link_become_ready(struct link *l)
{
	if (++l->last_epoch == 0)
		l->last_epoch = 1;
	l->slow = false;
	atomic_store(&l->epoch, l->last_epoch);
	metric_set(metric_series(&up), 1);
	if (!l->told)
		log_info("COUNTERS-SHARED", "limits are shared through Redis at %s:%d", l->host, l->port);
	l->told = true;
}

/* Commands are gone, for whatever reason. */
static void gone(struct link *l, const char *why)
{
	bool was = atomic_exchange(&l->epoch, 0) != 0 || l->slow;

	l->commands = NULL;
	l->slow = false;
	metric_set(metric_series(&up), 0);
	warn(l, why);
	if (was)
		l->pause_ms = PAUSE_MIN_MS;
	if (!l->stopping)
		link_after(l->again, l->pause_ms);
	l->pause_ms = l->pause_ms * 2 < PAUSE_MAX_MS ? l->pause_ms * 2 : PAUSE_MAX_MS;
}

void link_drop(struct link *l, const char *why)
{
	redisAsyncContext *ac = l->commands;

	if (!ac)
		return;
	snprintf(l->why, sizeof(l->why), "%s", why);
	gone(l, l->why);
	redisAsyncFree(ac);
}

static void on_disconnect(const redisAsyncContext *ac, int status)
{
	struct link *l = ac->data;

	if (ac == l->commands)
		gone(l, status == REDIS_OK ? "it closed the connection" : ac->errstr);
	if (ac == l->bell)
		l->bell = NULL;
	if (!l->bell && l->config.on_ring && !l->stopping && !event_pending(l->again, EV_TIMEOUT, NULL))
		link_after(l->again, PAUSE_MIN_MS);
}

static void on_connect(const redisAsyncContext *ac, int status)
{
	if (status != REDIS_OK)
		on_disconnect(ac, status); /* hiredis frees it without a word */
}

static redisAsyncContext *connect_one(struct link *l, const char **why)
{
	redisAsyncContext *ac = redisAsyncConnect(l->host, l->port);

	*why = "no memory";
	if (!ac)
		return NULL;
	if (ac->err) {
		snprintf(l->why, sizeof(l->why), "%s", ac->errstr);
		*why = l->why;
		redisAsyncFree(ac);
		return NULL;
	}
	ac->data = l;
	redisLibeventAttach(ac, l->base);
	redisAsyncSetConnectCallback(ac, on_connect);
	redisAsyncSetDisconnectCallback(ac, on_disconnect);
	if (l->user && *l->user)
		redisAsyncCommand(ac, NULL, NULL, "AUTH %s %s", l->user, l->password ? l->password : "");
	else if (l->password)
		redisAsyncCommand(ac, NULL, NULL, "AUTH %s", l->password);
	if (l->db)
		redisAsyncCommand(ac, NULL, NULL, "SELECT %s", l->db);
	return ac;
}

static void on_ring(redisAsyncContext *ac, void *reply, void *arg)
{
	struct link *l = ac->data;

	(void)arg;
	if (reply && !l->stopping)
		l->config.on_ring(l->config.arg); /* also at the subscription itself: something may have been missed */
}

void link_listen(struct link *l)
{
	const char *why;

	if (!l->config.on_ring || l->bell)
		return;
	l->bell = connect_one(l, &why);
	if (l->bell)
		redisAsyncCommand(l->bell, on_ring, NULL, "SUBSCRIBE %s:ring", l->name);
}

static void on_greeted(redisAsyncContext *ac, void *reply, void *arg)
{
	struct link *l = ac->data;
	const redisReply *r = reply;

	if (!r || ac != l->commands)
		return;
	if (r->type != REDIS_REPLY_STRING || r->len >= (int)sizeof(l->sha)) {
		link_drop(l, r->type == REDIS_REPLY_ERROR ? r->str : "it does not load scripts");
		return;
	}
	memcpy(l->sha, r->str, (size_t)r->len + 1);
	event_del(l->again);
	link_become_ready(l);
	link_listen(l);
	link_kick(l);
}

void link_connect(struct link *l)
{
	const char *why;

	l->commands = connect_one(l, &why);
	if (!l->commands) {
		gone(l, why);
		return;
	}
	redisAsyncCommand(l->commands, on_greeted, NULL, "SCRIPT LOAD %s", counters_script);
	link_after(l->again, GREETING_MS);
}

/* A pause is over, or a greeting has taken too long. */
void link_on_again(evutil_socket_t fd, short what, void *arg)
{
	struct link *l = arg;

	if (l->commands && !atomic_load(&l->epoch) && !l->slow)
		link_drop(l, "it does not answer");
	else if (!l->commands)
		link_connect(l);
	else
		link_listen(l);
}
