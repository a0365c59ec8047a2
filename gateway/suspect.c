/* Which refusals are security observations (watch.h). */
#include "gateway/request.h"
#include "gateway/token.h"

/* Problems of a token that no client of ours has by accident, unlike one that is stale or cut off. */
static bool is_forged(const char *why)
{
	static const char *const words[] = { "alg", "typ", "crit", "kid", "signature", "iss", "aud" };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(why, words[i]) == 0)
			return true;
	}
	return false;
}

static struct watch_hit hit(const struct request *r, enum watch_kind kind, const char *reason)
{
	return (struct watch_hit){
		.kind = kind,
		.ip = r->origin.client_ip,
		.user_agent = r->user_agent,
		.request_id = r->request_id,
		.dialect = r->sel.face ? str_of(r->sel.face->dialect->name) : (struct str){ 0 },
		.method = r->x->req.method,
		.path = r->route ? str_of(r->route->template) : (struct str){ 0 },
		.reason = str_of(reason),
		.now_us = r->now_us,
	};
}

void suspect_token(struct request *r, const char *why, struct str token)
{
	struct watch_hit h = hit(r, WATCH_TOKEN, why);
	char tenant[UUID_TEXT + 1];

	if (!is_forged(why))
		return;
	arena_reset(&r->w->scratch);
	if (token_claimed_tenant(token, &r->w->scratch, tenant))
		h.tenant_id = str_of(tenant);
	watch_note(r->w->g->watch, &h);
}

void suspect(struct request *r, enum status s)
{
	const struct principal *who = r->who ? &r->who->who : r->token ? &r->token->who : NULL;
	struct watch_hit h;

	if (s != STATUS_RATE_LIMIT_EXCEEDED && (s != STATUS_PERMISSION_DENIED || !who))
		return;
	h = hit(r, s == STATUS_RATE_LIMIT_EXCEEDED ? WATCH_RATE : r->foreign_tenant ? WATCH_TENANT : WATCH_PERMISSION,
	    s == STATUS_RATE_LIMIT_EXCEEDED ? r->rate.policy : "");
	if (r->foreign_tenant)
		h.reason = request_header(r, "X-Tenant-ID");
	else if (s == STATUS_PERMISSION_DENIED && r->route)
		h.reason = str_of(r->route->rpc->name);
	if (who) {
		h.tenant_id = str_of(who->tenant_id);
		h.user_id = str_of(who->user_id);
		h.api_key_id = str_of(who->api_key_id);
	}
	watch_note(r->w->g->watch, &h);
}
