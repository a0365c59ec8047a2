/* The poller of svc-auth's changes and signing keys. */
#include "gateway/changes.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/wire.h"

#define POLL_TIMEOUT_MS 1000
#define KEYS_TIMEOUT_MS 1400
#define RETRY_MS 500 /* until the first keys are there */

struct changes {
	struct gateway *g;
	struct rpc_client *rpc;
	struct event *poll, *keys;
	int64_t cursor;
	bool polling, again, fetching, away;
	struct arena scratch;
};

/* -- reading the reply */

static const struct {
	const char *word;
	enum change_kind kind;
} kinds[] = {
	{ "token", CHANGE_TOKEN }, { "session", CHANGE_SESSION }, { "user", CHANGE_USER }, { "tenant", CHANGE_TENANT },
	{ "member", CHANGE_MEMBER }, { "api_key", CHANGE_API_KEY },
};

/* One crm.v1.Change; *word is its kind. */
static bool parse_change(struct str wire, struct change *c, struct str *word)
{
	struct wire_reader in = wire_read(wire);
	struct wire_field f;

	*c = (struct change){ 0 };
	*word = (struct str){ 0 };
	while (wire_next(&in, &f)) {
		if (f.number == 1 && f.type == WIRE_BYTES)
			*word = f.bytes;
		else if (f.number == 2 && f.type == WIRE_BYTES)
			c->id = f.bytes;
		else if (f.number == 3 && f.type == WIRE_VARINT)
			c->epoch_us = (int64_t)f.value;
		else if ((f.number == 4 || f.number == 5) && f.type == WIRE_FIXED64)
			c->permissions[f.number - 4] = f.value;
		else if (f.number == 6 && f.type == WIRE_BYTES)
			c->role = f.bytes;
		else if (f.number == 7 && f.type == WIRE_VARINT)
			c->revoked = f.value != 0;
		else if (f.number == 8 && f.type == WIRE_VARINT)
			c->limited = f.value != 0;
	}
	return !in.bad;
}

static void take(struct changes_reply *out, size_t *room, struct change *c, struct str word)
{
	size_t i = 0;

	out->keys = out->keys || str_eq(word, STR("keys"));
	out->refs = out->refs || str_eq(word, STR("ref"));
	while (i < sizeof(kinds) / sizeof(kinds[0]) && !str_eq(word, str_of(kinds[i].word)))
		i++;
	if (i == sizeof(kinds) / sizeof(kinds[0]))
		return; /* a kind of tomorrow */
	c->kind = kinds[i].kind;
	if (out->n == *room) {
		*room = *room ? *room * 2 : 64;
		out->rows = xrealloc(out->rows, *room * sizeof(*out->rows));
	}
	out->rows[out->n++] = *c;
}

bool changes_parse(struct str wire, struct changes_reply *out)
{
	struct wire_reader in = wire_read(wire);
	struct wire_field f;
	struct change c;
	struct str word;
	size_t room = 0;

	memset(out, 0, sizeof(*out));
	while (wire_next(&in, &f)) {
		if (f.number == 1 && f.type == WIRE_VARINT)
			out->cursor = (int64_t)f.value;
		if (f.number == 3 && f.type == WIRE_VARINT)
			out->more = f.value != 0;
		if (f.number != 2 || f.type != WIRE_BYTES)
			continue;
		if (!parse_change(f.bytes, &c, &word))
			return false;
		take(out, &room, &c, word);
	}
	return !in.bad;
}

/* -- asking */

static void again_in(struct event *e, int64_t ms)
{
	struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

	event_add(e, &tv);
}

static bool call(struct changes *c, const char *rpc, uint32_t timeout_ms, struct str payload, rpc_done done)
{
	struct rpc_request q = {
		.service = rpc_client_find(c->rpc, STR("auth")), .lane = RPC_READ, .rpc = str_of(rpc), .timeout_ms = timeout_ms, .may_retry = true,
		.payload = payload, .done = done, .arg = c,
	};

	if (q.service < 0)
		return false;
	rpc_client_call(c->rpc, &q);
	return true;
}

static void note_away(struct changes *c, enum status s)
{
	if (s != STATUS_OK && !c->away)
		log_warn("AUTH-AWAY", "svc-auth does not answer (%s): serving with what is known", status_name(s));
	if (s == STATUS_OK && c->away)
		log_info("AUTH-BACK", "svc-auth answers again");
	c->away = s != STATUS_OK;
}

static void on_changes(void *arg, const struct rpc_result *result)
{
	struct changes *c = arg;
	struct changes_reply reply = { 0 };
	bool more;

	c->polling = false;
	note_away(c, result->status);
	again_in(c->poll, c->again ? 0 : CHANGES_EVERY_MS);
	c->again = false;
	if (result->status != STATUS_OK)
		return;
	if (!changes_parse(result->payload, &reply)) {
		log_error("CHANGES-MALFORMED", "the reply of Auth.Changes could not be read");
	} else {
		more = reply.more && reply.cursor > c->cursor;
		if (more)
			again_in(c->poll, 0);
		revocations_apply(c->g->revocations, reply.rows, reply.n, more, clock_us());
		c->cursor = reply.cursor;
		if (reply.refs)
			atomic_fetch_add(&c->g->refs_generation, 1);
		if (reply.keys)
			changes_fetch_keys(c);
	}
	free(reply.rows);
}

static void on_poll(evutil_socket_t fd, short what, void *arg)
{
	struct changes *c = arg;
	struct buf payload = { 0 };

	if (c->polling)
		return;
	wire_put_varint(&payload, 1, (uint64_t)c->cursor);
	c->polling = call(c, "Auth.Changes", POLL_TIMEOUT_MS, buf_view(&payload), on_changes);
	buf_fini(&payload);
}

void changes_poll(struct changes *c)
{
	c->again = c->polling;
	if (!c->polling)
		again_in(c->poll, 0);
}

/* The first field of crm.v1.JwksReply. */
static struct str jwks_of(struct str wire)
{
	struct wire_reader in = wire_read(wire);
	struct wire_field f;

	while (wire_next(&in, &f)) {
		if (f.number == 1 && f.type == WIRE_BYTES)
			return f.bytes;
	}
	return (struct str){ 0 };
}

static void take_keys(struct changes *c, struct str jwks)
{
	const char *why = NULL;
	struct keyset *ks;

	arena_reset(&c->scratch);
	ks = keyset_parse(jwks, &c->scratch, &why);
	if (!ks) {
		log_error("KEYS-REFUSED", "%s: the old signing keys stay", why);
		return;
	}
	if (!key_store_generation(c->g->keys))
		log_info("KEYS-LOADED", "%zu signing keys", ks->n);
	key_store_publish_changed(c->g->keys, ks);
}

static void on_keys(void *arg, const struct rpc_result *result)
{
	struct changes *c = arg;

	c->fetching = false;
	if (result->status == STATUS_OK)
		take_keys(c, jwks_of(result->payload));
	again_in(c->keys, key_store_generation(c->g->keys) ? KEYS_EVERY_S * 1000 : RETRY_MS);
	atomic_store(&c->g->keys_asked_us, clock_mono_us());
	atomic_store(&c->g->keys_wanted, false);
	for (size_t i = 0; i < c->g->n_workers; i++)
		worker_wake(&c->g->workers[i]);
}

void changes_fetch_keys(struct changes *c)
{
	if (!c->fetching)
		c->fetching = call(c, "Auth.Jwks", KEYS_TIMEOUT_MS, (struct str){ 0 }, on_keys);
}

static void on_keys_timer(evutil_socket_t fd, short what, void *arg)
{
	changes_fetch_keys(arg);
}

struct changes *changes_start(struct gateway *g, struct event_base *base, struct rpc_client *rpc)
{
	struct changes *c = xcalloc(1, sizeof(*c));

	c->g = g;
	c->rpc = rpc;
	c->poll = event_new(base, -1, 0, on_poll, c);
	c->keys = event_new(base, -1, 0, on_keys_timer, c);
	again_in(c->poll, 0);
	again_in(c->keys, 0);
	if (rpc_client_find(c->rpc, STR("auth")) < 0)
		log_warn("AUTH-ABSENT", "SERVICES names no auth: only public routes can be served");
	return c;
}
