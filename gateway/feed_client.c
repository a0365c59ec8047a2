/* What clients of the feed are told: pages as JSON, events of a stream, signs of life. */
#include "gateway/feed_client.h"

#include "base/wire.h"

#define RETRY_MS 2000
enum { ITEM = 1, BEHIND = 2, CURSOR = 3, POSITION = 4 };
enum { EVENT_TYPE = 2, EVENT_CURSOR = 12 };

bool feed_page_read(struct str reply, struct feed_page *page)
{
	struct wire_reader r = wire_read(reply);
	struct wire_field w;

	page->reply = reply;
	while (wire_next(&r, &w)) {
		page->n += w.number == ITEM;
		if (w.number == BEHIND && w.type == WIRE_VARINT)
			page->behind = w.value;
		if (w.number == POSITION && w.type == WIRE_VARINT)
			page->position = (int64_t)w.value;
		if (w.number == CURSOR && w.type == WIRE_BYTES)
			page->cursor = w.bytes;
	}
	return !r.bad && page->cursor.n && page->cursor.n <= FEED_CURSOR_MAX;
}

static struct encode_input encode_input(const struct feed_client *c, const struct feed_page *page)
{
	return (struct encode_input){
		.match = &c->r->sel.match,
		.who = c->r->caller,
		.shown = c->shown,
		.path = c->r->x->req.path,
		.trace = c->r->trace_id,
		.request = c->r->request_id,
		.refs = refs_lookup(page->refs),
		.arena = page->arena,
	};
}

/* A line of a stream ends at a control character, and the next would be a field of its own. */
static void line_put(struct buf *out, const char *name, struct str value)
{
	buf_z(out, name);
	for (size_t i = 0; i < value.n; i++)
		buf_c(out, (unsigned char)value.p[i] < 0x20 ? ' ' : value.p[i]);
	buf_c(out, '\n');
}

static bool event_put(const struct feed_client *c, const struct encode_input *in, struct str event, struct buf *json, struct buf *out)
{
	struct wire_reader r = wire_read(event);
	struct str type = { 0 }, cursor = { 0 };
	struct wire_field w;

	while (wire_next(&r, &w)) {
		if (w.number == EVENT_TYPE && w.type == WIRE_BYTES)
			type = w.bytes;
		if (w.number == EVENT_CURSOR && w.type == WIRE_BYTES)
			cursor = w.bytes;
	}
	buf_clear(json);
	if (r.bad || !route_encode_item(in, event, json))
		return false;
	line_put(out, "id: ", cursor);
	line_put(out, "event: ", type);
	line_put(out, "data: ", buf_view(json));
	buf_c(out, '\n');
	return true;
}

static bool stream_print(const struct feed_client *c, const struct feed_page *page, struct buf *out)
{
	struct encode_input in = encode_input(c, page);
	struct wire_reader r = wire_read(page->reply);
	struct buf json = { 0 };
	struct wire_field w;
	bool good = true;

	while (good && wire_next(&r, &w)) {
		if (w.number == ITEM)
			good = w.type == WIRE_BYTES && event_put(c, &in, w.bytes, &json, out);
	}
	buf_fini(&json);
	return good && !r.bad;
}

bool feed_page_print(const struct feed_client *c, const struct feed_page *page, struct buf *out)
{
	struct encode_input in;
	struct encoded info;

	if (c->sse)
		return stream_print(c, page, out);
	in = encode_input(c, page);
	return route_encode(&in, page->reply, out, &info);
}

/* -- streams */

bool feed_stream_put(struct feed_client *c, struct str text)
{
	return http_reply_chunk(c->r->x, text);
}

bool feed_stream_begin(struct feed_client *c)
{
	char retry[32];
	int n = snprintf(retry, sizeof(retry), "retry: %d\n\n", RETRY_MS);

	c->begun = true;
	c->r->extra = STR("X-Accel-Buffering: no\r\n"); /* or a proxy would hold events back */
	reply_begin(c->r, 200, "text/event-stream");
	return feed_stream_put(c, (struct str){ retry, (size_t)n });
}

/* The cursor goes along: a client whose types are rare does not fall behind. An event without data is dispatched to nobody. */
bool feed_stream_beat(struct feed_client *c)
{
	char beat[FEED_CURSOR_MAX + 16];
	int n = *c->cursor ? snprintf(beat, sizeof(beat), "id: %s\n\n", c->cursor) : snprintf(beat, sizeof(beat), ":\n\n");

	return feed_stream_put(c, (struct str){ beat, (size_t)n });
}
