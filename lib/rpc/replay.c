/* Sliding windows over the sequence numbers of the callers. */
#include "rpc/replay.h"

#include "base/arena.h"

/* After so long every call that a client sent has passed its deadline, so a copy of it is refused for that reason. */
#define FORGET_AFTER_US ((int64_t)(RPC_MAX_TIMEOUT_MS + 60000) * 1000)

static struct replay_client *client_start(struct replay *r, uint64_t id, int64_t now_us)
{
	struct replay_client *c = NULL;

	for (size_t i = 0; !c && i < r->n; i++)
		if (now_us - r->clients[i]->seen_us > FORGET_AFTER_US)
			c = r->clients[r->last = i];
	if (!c) {
		if (r->n == REPLAY_CLIENTS)
			return NULL;
		r->last = r->n++;
		c = r->clients[r->last] = xmalloc(sizeof(*c));
	}
	*c = (struct replay_client){ .id = id };
	return c;
}

static struct replay_client *client_find(struct replay *r, uint64_t id, int64_t now_us)
{
	if (r->n && r->clients[r->last]->id == id)
		return r->clients[r->last];
	for (size_t i = 0; i < r->n; i++)
		if (r->clients[i]->id == id)
			return r->clients[r->last = i];
	return client_start(r, id, now_us);
}

static void window_advance(struct replay_client *c, uint64_t to)
{
	uint64_t from = to - c->top > REPLAY_WINDOW ? to - REPLAY_WINDOW : c->top;

	for (uint64_t s = from + 1; s <= to; s++)
		c->window[s % REPLAY_WINDOW / 64] &= ~(1ULL << (s % 64));
	c->top = to;
}

bool replay_accept(struct replay *r, struct frame_origin o, int64_t now_us)
{
	struct replay_client *c;
	uint64_t *word, bit = 1ULL << (o.sequence % 64);

	if (!o.client || !o.sequence || o.sequence == UINT64_MAX)
		return false;
	c = client_find(r, o.client, now_us);
	if (!c)
		return false;
	c->seen_us = now_us;
	if (o.sequence > c->top)
		window_advance(c, o.sequence);
	else if (c->top - o.sequence >= REPLAY_WINDOW)
		return false;
	word = &c->window[o.sequence % REPLAY_WINDOW / 64];
	if (*word & bit)
		return false;
	*word |= bit;
	return true;
}
