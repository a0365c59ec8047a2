/* Steps: who is asking (token or API key), and as a member of which tenant. */
#include "base/clock.h"
#include "base/log.h"
#include "base/wire.h"
#include "gateway/request.h"
#include "gateway/token.h"

#define API_KEY_MAX 256
#define RESOLVED_US 30000000 /* how long an answer of svc-auth is believed */
#define REFUSED_US 2000000   /* … and a refusal, so that a new key or membership works soon */

static enum step_result refuse_credential(struct request *r, const char *why, struct str token)
{
	suspect_token(r, why, token);
	log_context(r->traceparent, r->request_id, (struct str){ 0 });
	log_debug("TOKEN-REFUSED", "%s", why);
	log_context_clear();
	if (limit_bad_credential(r))
		return STEP_ANSWERED;
	return reply_error(r, STATUS_INVALID_TOKEN, NULL);
}

/* -- cached principals */

/* Brings a cached entry up to date with revocations and keys. NULL: it has to be made again. */
static struct principal_entry *refresh(struct worker *w, struct principal_entry *e, enum verdict *verdict)
{
	uint64_t generation = revocations_generation(w->g->revocations);
	struct principal_entry *newer;
	struct principal who;

	*verdict = VERDICT_LIVE;
	if (*e->kid && e->keys != w->keys_generation) {
		if (!w->keys || !keyset_find(w->keys, str_of(e->kid))) {
			principals_drop(w->principals, e);
			return NULL;
		}
		e->keys = w->keys_generation;
	}
	if (e->checked == generation || e->refused)
		return e;
	who = e->who;
	*verdict = revocations_check(w->g->revocations, &who, e->checked);
	if (*verdict == VERDICT_LIVE) {
		e->checked = generation;
	} else if (*verdict == VERDICT_STALE) {
		principals_drop(w->principals, e);
		return NULL;
	} else if (*verdict == VERDICT_CHANGED) {
		principals_hold(e);
		newer = principals_put(w->principals, e->key, &who, e->until_us);
		memcpy(newer->kid, e->kid, sizeof(newer->kid));
		newer->keys = e->keys;
		newer->checked = generation;
		principals_rele(e);
		e = newer;
		*verdict = VERDICT_LIVE;
	}
	return e;
}

static void become(struct request *r, struct principal_entry *e)
{
	principals_hold(e);
	principals_rele(r->who);
	r->who = e;
	r->caller = (struct caller){ str_of(e->who.tenant_id), str_of(e->who.user_id), e->who.tenant_seq, e->who.user_seq };
}

/* The entry of a request that waits, as it is now. False: it is not good any more. */
static bool follow(struct request *r, struct principal_entry **slot, int64_t now)
{
	struct principal_entry *e = *slot, *newer;
	enum verdict verdict;

	if (e->who.expires_us && e->who.expires_us <= now)
		return false;
	newer = refresh(r->w, e, &verdict);
	if (!newer || verdict == VERDICT_DEAD || newer->refused)
		return false;
	if (newer != e) {
		principals_hold(newer);
		*slot = newer;
		principals_rele(e);
	}
	return true;
}

bool auth_still_good(struct request *r)
{
	int64_t now = clock_us();

	if (!follow(r, &r->token, now) || !follow(r, &r->who, now))
		return false;
	become(r, r->who);
	return principal_may(&r->who->who, r->route->rpc->permission);
}

/* -- asking svc-auth */

/* What the answer is worth; held. NULL: none (r->resolving.status says why). */
static struct principal_entry *entry_from(struct request *r, const struct rpc_result *result, enum principal_kind kind)
{
	const struct principal *token = r->token ? &r->token->who : NULL;
	int64_t now = clock_us(), until = now + RESOLVED_US;
	struct principal_entry *e;
	struct principal who;

	if (result->status == STATUS_OK && principal_decode(result->payload, &who)) {
		who.kind = kind;
		who.issued_us = r->resolving.asked_us;
		if (token) { /* the session and its end stay those of the token */
			memcpy(who.session_id, token->session_id, sizeof(who.session_id));
			memcpy(who.token_id, token->token_id, sizeof(who.token_id));
			who.expires_us = token->expires_us;
		}
		if (who.expires_us && who.expires_us < until)
			until = who.expires_us;
		e = principals_put(r->w->principals, r->resolving.key, &who, until);
	} else if (result->status == STATUS_UNAVAILABLE || result->status == STATUS_DEADLINE_EXCEEDED || result->status == STATUS_INTERNAL) {
		return NULL;
	} else {
		e = principals_put(r->w->principals, r->resolving.key, NULL, now + REFUSED_US);
		e->needs_mfa = result->status == STATUS_CONFLICT;
	}
	e->checked = r->resolving.generation;
	principals_hold(e);
	return e;
}

static void on_resolved(void *arg, const struct rpc_result *result)
{
	struct request *r = arg;

	r->resolving.answered = true;
	r->resolving.status = result->status;
	r->resolving.entry = entry_from(r, result, r->token ? PRINCIPAL_MEMBER : PRINCIPAL_API_KEY);
	request_run(r);
}

static void ask(struct request *r, struct str payload)
{
	struct rpc_request q = request_call(r);

	r->resolving.asked = true;
	r->resolving.asked_us = clock_us();
	r->resolving.generation = revocations_generation(r->w->g->revocations);
	q.service = rpc_client_find(r->w->rpc, STR("auth"));
	q.lane = RPC_READ;
	q.rpc = STR("Auth.ResolvePrincipal");
	q.principal = (struct str){ 0 };
	q.may_retry = true;
	q.payload = payload;
	q.done = on_resolved;
	rpc_client_call(r->w->rpc, &q);
}

/* From the cache or from svc-auth. NEXT: *out, which may be a refusal and is good for this turn. */
static enum step_result resolve(struct request *r, const uint8_t key[32], struct str payload, struct principal_entry **out)
{
	enum verdict verdict;
	struct principal_entry *e;

	if (r->resolving.answered) {
		e = r->resolving.entry;
		if (!e)
			return reply_error(r, r->resolving.status == STATUS_DEADLINE_EXCEEDED ? STATUS_DEADLINE_EXCEEDED : STATUS_UNAVAILABLE, NULL);
		*out = e; /* still held; the reply gives it back */
		return STEP_NEXT;
	}
	e = principals_get(r->w->principals, key, r->now_us);
	if (e)
		e = refresh(r->w, e, &verdict);
	if (e) {
		*out = e;
		return STEP_NEXT;
	}
	if (rpc_client_find(r->w->rpc, STR("auth")) < 0)
		return reply_error(r, STATUS_UNAVAILABLE, NULL);
	memcpy(r->resolving.key, key, 32);
	ask(r, payload);
	return STEP_WAIT;
}

/* The step is done with what it resolved. */
static void resolved(struct request *r)
{
	principals_rele(r->resolving.entry);
	memset(&r->resolving, 0, sizeof(r->resolving));
}

/* -- API keys */

static bool api_key_is_clean(struct str key)
{
	for (size_t i = 0; i < key.n; i++) {
		char c = key.p[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-'))
			return false;
	}
	return key.n <= API_KEY_MAX;
}

static enum step_result by_api_key(struct request *r, struct str presented)
{
	struct principal_entry *e = NULL;
	struct buf payload = { 0 };
	enum step_result result;
	uint8_t key[32];
	bool refused;

	if (!api_key_is_clean(presented))
		return refuse_credential(r, "api key form", STR(""));
	sha256(presented.p, presented.n, key);
	wire_put_bytes(&payload, 3, presented);
	result = resolve(r, key, buf_view(&payload), &e);
	buf_fini(&payload);
	if (result != STEP_NEXT)
		return result;
	refused = e->refused;
	if (!refused)
		become(r, e);
	resolved(r);
	return refused ? refuse_credential(r, "api key", STR("")) : STEP_NEXT;
}

/* -- tokens */

static void forget_waiter(struct request *r)
{
	for (struct request **at = &r->w->key_waiters; *at; at = &(*at)->next_waiter) {
		if (*at == r) {
			*at = r->next_waiter;
			return;
		}
	}
}

static void on_key_timeout(evutil_socket_t fd, short what, void *arg)
{
	struct request *r = arg;

	r->timer_set = false;
	forget_waiter(r);
	request_run(r);
}

static enum step_result wait_for_keys(struct request *r)
{
	struct timeval tv = { KEY_WAIT_US / 1000000, KEY_WAIT_US % 1000000 };

	r->key_waited = true;
	r->next_waiter = r->w->key_waiters;
	r->w->key_waiters = r;
	evtimer_assign(&r->timer, r->w->base, on_key_timeout, r);
	evtimer_add(&r->timer, &tv);
	r->timer_set = true;
	return STEP_WAIT;
}

void auth_keys_arrived(struct worker *w)
{
	struct request *waiting = w->key_waiters, *next;

	w->key_waiters = NULL;
	for (; waiting; waiting = next) {
		next = waiting->next_waiter;
		evtimer_del(&waiting->timer);
		waiting->timer_set = false;
		request_run(waiting);
	}
}

/* A token seen for the first time by this thread. */
static enum step_result verify(struct request *r, struct str token, const uint8_t key[32])
{
	struct worker *w = r->w;
	struct token_rules rules = { str_of(w->g->settings.issuer), str_of(w->g->settings.audience), r->now_us / 1000000 };
	struct principal_entry *e;
	struct principal who;
	char kid[KID_MAX + 1];
	const char *why;
	uint64_t generation;

	arena_reset(&w->scratch);
	switch (token_verify(w->keys, &rules, token, &w->scratch, &who, kid, &why)) {
	case TOKEN_UNKNOWN_KEY:
		if (!r->key_waited && control_want_keys(w->g))
			return wait_for_keys(r);
		return refuse_credential(r, "kid", token);
	case TOKEN_BAD:
		return refuse_credential(r, why, token);
	case TOKEN_GOOD:
		break;
	}
	generation = revocations_generation(w->g->revocations);
	if (revocations_check(w->g->revocations, &who, UINT64_MAX) == VERDICT_DEAD)
		return refuse_credential(r, "revoked", token);
	e = principals_put(w->principals, key, &who, who.expires_us);
	memcpy(e->kid, kid, sizeof(kid));
	e->keys = w->keys_generation;
	e->checked = generation;
	become(r, e);
	return STEP_NEXT;
}

static enum step_result by_token(struct request *r, struct str token)
{
	enum verdict verdict = VERDICT_LIVE;
	struct principal_entry *e;
	uint8_t key[32];

	if (!token.n || token.n > TOKEN_MAX)
		return refuse_credential(r, "length", STR(""));
	if (!worker_keys(r->w))
		return reply_error(r, STATUS_UNAVAILABLE, NULL);
	sha256(token.p, token.n, key);
	e = principals_get(r->w->principals, key, r->now_us);
	if (e)
		e = refresh(r->w, e, &verdict);
	if (verdict == VERDICT_DEAD)
		return refuse_credential(r, "revoked", token);
	if (!e)
		return verify(r, token, key);
	become(r, e);
	return STEP_NEXT;
}

/* The one credential of the request. More than one Authorization header is none. */
static bool bearer(const struct request *r, struct str *out)
{
	const struct http_request *req = &r->x->req;
	struct str value = { 0 };
	size_t n = 0;

	for (size_t i = 0; i < req->n_headers; i++) {
		if (!str_ieq(req->headers[i].name, STR("Authorization")))
			continue;
		value = req->headers[i].value;
		n++;
	}
	if (n != 1 || value.n < 8 || strncasecmp(value.p, "Bearer ", 7) != 0)
		return false;
	*out = (struct str){ value.p + 7, value.n - 7 };
	while (out->n && *out->p == ' ')
		out->p++, out->n--;
	return out->n > 0;
}

enum step_result step_token(struct request *r)
{
	struct str credential;
	enum step_result result;

	if (r->route->rpc->permission == 0)
		return STEP_NEXT; /* PUBLIC: a stale token in the header must not keep anyone from logging in */
	if (!bearer(r, &credential))
		return reply_error(r, STATUS_UNAUTHENTICATED, NULL);
	if (!revocations_generation(r->w->g->revocations))
		return reply_error(r, STATUS_UNAVAILABLE, NULL); /* not known yet which tokens are dead */
	result = str_starts(credential, STR("crm_")) ? by_api_key(r, credential) : by_token(r, credential);
	if (result == STEP_NEXT) {
		r->token = r->who;
		principals_hold(r->token);
	}
	return result;
}

/* -- another tenant of the same user, and of which rows of their own tenant a limited member may see */

/* "0190…", "12", "tenant_12" */
static bool tenant_key(struct str text, char id[UUID_TEXT + 1], int64_t *seq)
{
	id[0] = 0;
	*seq = 0;
	if (uuid_parse(text, id))
		return true;
	if (str_starts(text, STR("tenant_")))
		text = (struct str){ text.p + 7, text.n - 7 };
	return str_to_i64(text, seq) && *seq > 0;
}

static void put_request(struct buf *out, const struct principal *who, const char *id, int64_t seq)
{
	size_t at;

	wire_put_bytes(out, 1, str_of(who->user_id));
	at = wire_open(out, 2);
	if (*id)
		wire_put_bytes(out, 1, str_of(id));
	else
		wire_put_varint(out, 2, (uint64_t)seq);
	wire_close(out, at);
}

static enum step_result refuse_tenant(struct request *r, const char *text)
{
	r->foreign_tenant = true;
	return reply_error(r, STATUS_PERMISSION_DENIED, text);
}

static enum step_result as_member(struct request *r, const char *id, int64_t seq)
{
	const struct principal *who = &r->token->who;
	struct principal_entry *e = NULL;
	struct buf payload = { 0 };
	enum step_result result;
	uint8_t key[32];
	char *text = arena_printf(&r->x->arena, "member %s %s %s %lld", who->user_id, who->session_id, id, (long long)seq);
	bool refused, needs_mfa;

	sha256(text, strlen(text), key);
	put_request(&payload, who, id, seq);
	result = resolve(r, key, buf_view(&payload), &e);
	buf_fini(&payload);
	if (result != STEP_NEXT)
		return result;
	refused = e->refused || strcmp(e->who.user_id, who->user_id) != 0;
	needs_mfa = e->needs_mfa;
	if (!refused)
		become(r, e);
	resolved(r);
	if (!refused)
		return STEP_NEXT;
	if (needs_mfa)
		return reply_error(r, STATUS_PERMISSION_DENIED, "This company requires a second factor: set one up with POST /v1/auth/mfa/enrol");
	return refuse_tenant(r, "You are not a member of this tenant");
}

enum step_result step_tenant(struct request *r)
{
	struct str wanted = request_header(r, "X-Tenant-ID");
	const struct principal *who = r->token ? &r->token->who : NULL;
	char id[UUID_TEXT + 1];
	int64_t seq;

	if (!who)
		return STEP_NEXT;
	if (!wanted.n)
		return who->limited ? as_member(r, who->tenant_id, who->tenant_seq) : STEP_NEXT;
	if (!tenant_key(wanted, id, &seq))
		return refuse_tenant(r, "You are not a member of this tenant");
	if (strcmp(id, who->tenant_id) == 0 || (seq && seq == who->tenant_seq))
		return who->limited ? as_member(r, who->tenant_id, who->tenant_seq) : STEP_NEXT;
	if (who->kind == PRINCIPAL_API_KEY)
		return refuse_tenant(r, "An API key belongs to one tenant");
	return as_member(r, id, seq);
}
