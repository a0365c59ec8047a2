/* Inside of gateway/feed*.c: one client, and what is said to it. */
#ifndef CRM_GATEWAY_FEED_CLIENT_H
#define CRM_GATEWAY_FEED_CLIENT_H

#include "base/clock.h"
#include "gateway/feed.h"

#define FEED_CURSOR_MAX 64 /* bytes of a cursor, as the contract says */

struct feed_client;

struct feed_tenant {
	char id[UUID_TEXT + 1];
	int64_t head;   /* newest position that was heard of */
	size_t clients; /* waiting or not */
	struct feed_client *waiting;
	UT_hash_handle hh;
};

/* In the arena of its request. */
struct feed_client {
	struct feed *feed;
	struct request *r;
	struct feed_tenant *tenant;
	struct feed_client *prev, *next; /* of tenant->waiting, of the asking or of a reading */
	struct str want;                 /* types and limit, as bytes of crm.v1.FeedRequest */
	char cursor[FEED_CURSOR_MAX + 1]; /* empty: from the oldest */
	int64_t position;
	int64_t asked_head;              /* head of the tenant when it last asked */
	int64_t until_us, beat_us;       /* monotonic: end of the wait or of the stream; next sign of life */
	const struct dialect *shown;
	int64_t again_us;                /* not 0: it is read for at this time, whatever moves; the last read failed, or the client lags */
	bool sse, begun, counted, waits;
};

/* What one read brought, for all clients that asked for it. */
struct feed_page {
	struct str reply;   /* crm.v1.FeedReply */
	size_t n;           /* events */
	uint64_t behind;    /* further events of the tenant, of any type */
	struct str cursor;
	int64_t position;
	struct arena *arena; /* of the reading */
	struct refs *refs;
};

/* False: the reply is malformed. */
bool feed_page_read(struct str reply, struct feed_page *page);
/* The page as this client is told it, appended: a JSON body or stream events. False: malformed. */
bool feed_page_print(const struct feed_client *c, const struct feed_page *page, struct buf *out);
/* Both print alike. */
static inline bool feed_alike(const struct feed_client *a, const struct feed_client *b)
{
	return a->sse == b->sse && a->shown == b->shown && a->r->route == b->r->route;
}

/* Streams. False: the client is gone. */
bool feed_stream_begin(struct feed_client *c);
bool feed_stream_put(struct feed_client *c, struct str text);
bool feed_stream_beat(struct feed_client *c);

#endif
