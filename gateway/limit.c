/* Steps: rate limits, by address before the token is looked at, by user or tenant after. */
#include "base/clock.h"
#include "gateway/request.h"

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

/* NEXT: go on, after *delay_us. */
static enum step_result take(struct request *r, const struct rate_policy *p, int64_t *delay_us)
{
	struct rate_verdict v;

	if (!p)
		return STEP_NEXT;
	v = rates_take(r->w->g->rates, r->sel.face->dialect->name, p, subject_of(r, p->key), clock_us());
	rates_merge(&r->rate, &v);
	if (v.delay_us > *delay_us)
		*delay_us = v.delay_us;
	if (!v.refused)
		return STEP_NEXT;
	r->retry_after_s = (uint32_t)((v.retry_us + 999999) / 1000000);
	return reply_error(r, STATUS_RATE_LIMIT_EXCEEDED, NULL);
}

static void on_delay(evutil_socket_t fd, short what, void *arg)
{
	struct request *r = arg;

	r->timer_set = false;
	r->step++;
	request_run(r);
}

static enum step_result wait_for(struct request *r, int64_t delay_us)
{
	struct timeval tv = { delay_us / 1000000, delay_us % 1000000 };

	if (!delay_us)
		return STEP_NEXT;
	evtimer_assign(&r->timer, r->w->base, on_delay, r);
	evtimer_add(&r->timer, &tv);
	r->timer_set = true;
	return STEP_WAIT;
}

enum step_result step_rate_address(struct request *r)
{
	const struct rate_policy *p;
	int64_t delay_us = 0;

	if (!r->w->g->rates)
		return STEP_NEXT;
	p = policy_of_route(r);
	if (p && p->key == RATE_IP && take(r, p, &delay_us) != STEP_NEXT)
		return STEP_ANSWERED;
	if (r->route->rpc->permission != 0 && request_header(r, "Authorization").n)
		return wait_for(r, delay_us); /* counted by who it is */
	p = policy_of(r->sel.face->dialect, "anonymous");
	if (!p)
		p = policy_of(r->sel.face->dialect, "default");
	if (take(r, p, &delay_us) != STEP_NEXT)
		return STEP_ANSWERED;
	return wait_for(r, delay_us);
}

enum step_result step_rate(struct request *r)
{
	const struct rate_policy *p = NULL;
	int64_t delay_us = 0;

	if (!r->w->g->rates || !r->who)
		return STEP_NEXT;
	if (strcmp(r->who->who.role, "admin") == 0)
		p = policy_of(r->sel.face->dialect, "admin");
	if (!p)
		p = policy_of(r->sel.face->dialect, "default");
	if (take(r, p, &delay_us) != STEP_NEXT)
		return STEP_ANSWERED;
	p = policy_of_route(r);
	if (p && p->key != RATE_IP && take(r, p, &delay_us) != STEP_NEXT)
		return STEP_ANSWERED;
	return wait_for(r, delay_us);
}

bool limit_bad_credential(struct request *r)
{
	const struct rate_policy *p = policy_of(r->sel.face->dialect, "anonymous");
	int64_t delay_us = 0;

	if (!r->w->g->rates)
		return false;
	if (!p)
		p = policy_of(r->sel.face->dialect, "default");
	return take(r, p, &delay_us) != STEP_NEXT;
}
