/* Steps: rate limits, by address before the token is looked at, by user or tenant after. */
#include "base/clock.h"
#include "gateway/request.h"
#include "gateway/telemetry.h"

static const struct rate_policy *policy_of(const struct dialect *d, const char *match)
{
	for (size_t i = 0; i < d->n_rates; i++) {
		if (strcmp(d->rates[i].match, match) == 0)
			return &d->rates[i];
	}
	return NULL;
}

/* A route names its policy by name or by what it matches. */
static const struct rate_policy *policy_of_route(const struct request *r)
{
	const struct dialect *d = r->sel.face->dialect;

	if (!r->route->rate)
		return NULL;
	for (size_t i = 0; i < d->n_rates; i++) {
		if (strcmp(d->rates[i].name, r->route->rate) == 0)
			return &d->rates[i];
	}
	return policy_of(d, r->route->rate);
}

/* Who is counted. Without a token only the address is known. */
static struct str subject_of(struct request *r, enum rate_key key)
{
	const struct principal *who = r->who ? &r->who->who : NULL;

	if (!who || key == RATE_IP)
		return r->origin.client_ip;
	if (key == RATE_TENANT)
		return str_of(who->tenant_id);
	return str_of(arena_printf(&r->x->arena, "%s/%s", who->tenant_id, who->user_id));
}

static enum step_result judge(struct request *r, const struct rate_verdict *v)
{
	rates_merge(&r->rate, v);
	if (v->delay_us > r->limit.delay_us)
		r->limit.delay_us = v->delay_us;
	if (!v->refused)
		return STEP_NEXT;
	telemetry_limited(r->sel.face->dialect->name, v->policy);
	r->retry_after_s = (uint32_t)((v->retry_us + 999999) / 1000000);
	return reply_error(r, STATUS_RATE_LIMIT_EXCEEDED, NULL);
}

/* -- asking the counters that all gateways share: the answer comes on their thread and is handed to the worker's */

static void on_counted(void *arg, const struct counter_answer *answer)
{
	struct request *r = arg;

	r->limit.answer = *answer;
	handoff_push(&r->w->counted, &r->limit.node);
}

void limit_counted(void *arg)
{
	struct worker *w = arg;
	struct handoff_node *next;

	for (struct handoff_node *at = handoff_take(&w->counted); at; at = next) {
		struct request *r = (struct request *)((char *)at - offsetof(struct request, limit.node));

		next = at->next;
		r->limit.state = LIMIT_ANSWERED;
		request_run(r);
	}
}

/* One policy. NEXT: go on, after r->limit.delay_us. WAIT: this step again, once the answer is there. */
static enum step_result take(struct request *r, const struct rate_policy *p)
{
	struct rate_verdict v;

	if (r->limit.state == LIMIT_ANSWERED) {
		r->limit.state = LIMIT_IDLE;
		v = rates_verdict(p, &r->limit.row, &r->limit.answer, clock_us());
		return judge(r, &v);
	}
	if (rates_try(r->w->g->rates, r->sel.face->dialect->name, p, subject_of(r, p->key), clock_us(), &v, &r->limit.row))
		return judge(r, &v);
	r->limit.state = LIMIT_ASKED;
	counters_ask(r->w->g->counters, &r->limit.row, 1, on_counted, r);
	return STEP_WAIT;
}

static void on_delay(evutil_socket_t fd, short what, void *arg)
{
	struct request *r = arg;

	r->timer_set = false;
	r->step++;
	request_run(r);
}

static enum step_result wait_out(struct request *r)
{
	int64_t delay_us = r->limit.delay_us;
	struct timeval tv = { delay_us / 1000000, delay_us % 1000000 };

	r->limit.delay_us = 0;
	r->limit.done = 0;
	if (!delay_us)
		return STEP_NEXT;
	evtimer_assign(&r->timer, r->w->base, on_delay, r);
	evtimer_add(&r->timer, &tv);
	r->timer_set = true;
	return STEP_WAIT;
}

/* All of them in order; policies that are NULL limit nothing. r->limit.done remembers, over the waits, how far it is. */
static enum step_result take_all(struct request *r, const struct rate_policy *const *policies, unsigned n)
{
	enum step_result result;

	for (; r->limit.done < n; r->limit.done++) {
		if (!policies[r->limit.done])
			continue;
		result = take(r, policies[r->limit.done]);
		if (result != STEP_NEXT)
			return result;
	}
	return wait_out(r);
}

static const struct rate_policy *anonymous_policy(const struct request *r)
{
	const struct rate_policy *p = policy_of(r->sel.face->dialect, "anonymous");

	return p ? p : policy_of(r->sel.face->dialect, "default");
}

enum step_result step_rate_address(struct request *r)
{
	const struct rate_policy *route, *policies[2];
	bool known_later = r->route->rpc->permission != 0 && request_header(r, "Authorization").n; /* counted by who it is */

	if (!r->w->g->rates)
		return STEP_NEXT;
	route = policy_of_route(r);
	policies[0] = route && route->key == RATE_IP ? route : NULL;
	policies[1] = known_later ? NULL : anonymous_policy(r);
	return take_all(r, policies, 2);
}

enum step_result step_rate(struct request *r)
{
	const struct rate_policy *route, *policies[2] = { NULL, NULL };

	if (!r->w->g->rates || !r->who)
		return STEP_NEXT;
	if (strcmp(r->who->who.role, "admin") == 0)
		policies[0] = policy_of(r->sel.face->dialect, "admin");
	if (!policies[0])
		policies[0] = policy_of(r->sel.face->dialect, "default");
	route = policy_of_route(r);
	policies[1] = route && route->key != RATE_IP ? route : NULL;
	return take_all(r, policies, 2);
}

bool limit_bad_credential(struct request *r)
{
	const struct rate_policy *p = anonymous_policy(r);
	struct rate_verdict v;

	if (!r->w->g->rates || !p)
		return false;
	v = rates_take(r->w->g->rates, r->sel.face->dialect->name, p, subject_of(r, p->key), clock_us());
	return judge(r, &v) != STEP_NEXT;
}
