/* Events on the bus: crm.v1.Event as the value, CloudEvents 1.0 as headers. */
#include "events/event.h"

#include "base/codec.h"
#include "base/wire.h"

enum { F_ID = 1, F_TYPE, F_SOURCE, F_TIME, F_TENANT, F_ENTITY, F_ENTITY_ID, F_ENTITY_SEQ, F_VERSION, F_STREAM_SEQ, F_CHANGED, F_DATA, F_BEFORE,
	F_AFTER, F_USER, F_API_KEY, F_REQUEST, F_TRACEPARENT, F_DIALECT, F_CLIENT_IP, F_USER_AGENT };

static void put(struct buf *b, uint32_t number, struct str s)
{
	if (s.n)
		wire_put_bytes(b, number, s);
}

static void put_number(struct buf *b, uint32_t number, uint64_t v)
{
	if (v)
		wire_put_varint(b, number, v);
}

void event_encode(struct buf *b, const struct event *e)
{
	put(b, F_ID, e->id);
	put(b, F_TYPE, e->type);
	put(b, F_SOURCE, e->source);
	put_number(b, F_TIME, (uint64_t)e->time_us);
	put(b, F_TENANT, e->tenant_id);
	put(b, F_ENTITY, e->entity);
	put(b, F_ENTITY_ID, e->entity_id);
	put_number(b, F_ENTITY_SEQ, (uint64_t)e->entity_seq);
	put_number(b, F_VERSION, e->version);
	put_number(b, F_STREAM_SEQ, (uint64_t)e->stream_seq);
	for (size_t i = 0; i < e->n_changed; i++)
		put(b, F_CHANGED, e->changed[i]);
	put(b, F_DATA, e->data);
	put(b, F_BEFORE, e->before);
	put(b, F_AFTER, e->after);
	put(b, F_USER, e->user_id);
	put(b, F_API_KEY, e->api_key_id);
	put(b, F_REQUEST, e->request_id);
	put(b, F_TRACEPARENT, e->traceparent);
	put(b, F_DIALECT, e->dialect);
	put(b, F_CLIENT_IP, e->client_ip);
	put(b, F_USER_AGENT, e->user_agent);
}

static struct str *text_slot(struct event *e, uint32_t number)
{
	switch (number) {
	case F_ID: return &e->id;
	case F_TYPE: return &e->type;
	case F_SOURCE: return &e->source;
	case F_TENANT: return &e->tenant_id;
	case F_ENTITY: return &e->entity;
	case F_ENTITY_ID: return &e->entity_id;
	case F_DATA: return &e->data;
	case F_BEFORE: return &e->before;
	case F_AFTER: return &e->after;
	case F_USER: return &e->user_id;
	case F_API_KEY: return &e->api_key_id;
	case F_REQUEST: return &e->request_id;
	case F_TRACEPARENT: return &e->traceparent;
	case F_DIALECT: return &e->dialect;
	case F_CLIENT_IP: return &e->client_ip;
	case F_USER_AGENT: return &e->user_agent;
	case F_CHANGED: return e->n_changed < EVENT_MAX_CHANGED ? &e->changed[e->n_changed++] : NULL;
	default: return NULL;
	}
}

static void take_number(struct event *e, const struct wire_field *f)
{
	switch (f->number) {
	case F_TIME: e->time_us = (int64_t)f->value; break;
	case F_ENTITY_SEQ: e->entity_seq = (int64_t)f->value; break;
	case F_VERSION: e->version = f->value; break;
	case F_STREAM_SEQ: e->stream_seq = (int64_t)f->value; break;
	default: break;
	}
}

/* What text columns of a consumer can hold: UTF-8 without NUL. */
static bool is_text(struct str s)
{
	return str_is_utf8(s) && !(s.n && memchr(s.p, '\0', s.n));
}

bool event_decode(struct str value, struct event *e)
{
	struct wire_reader r = wire_read(value);
	struct wire_field f;
	struct str *slot;

	memset(e, 0, sizeof *e);
	while (wire_next(&r, &f)) {
		if (f.type == WIRE_VARINT)
			take_number(e, &f);
		slot = f.type == WIRE_BYTES ? text_slot(e, f.number) : NULL;
		if (!slot)
			continue;
		if (f.number != F_DATA && !is_text(f.bytes))
			return false;
		*slot = f.bytes;
	}
	return !r.bad && uuid_parse(e->id, NULL) && uuid_parse(e->tenant_id, NULL) && e->type.n && (!e->entity_id.n || uuid_parse(e->entity_id, NULL)) &&
	    (!e->user_id.n || uuid_parse(e->user_id, NULL));
}

static void header_add(struct bus_record *r, struct bus_header *h, const char *name, struct str value)
{
	if (value.n)
		h[r->n_headers++] = (struct bus_header){ name, value };
}

void event_record(struct arena *a, const struct event *e, const char *topic, struct str value, struct bus_record *out)
{
	struct bus_header *h = arena_alloc(a, BUS_MAX_HEADERS * sizeof *h);
	struct buf time = { 0 };

	time_print(&time, e->time_us);
	*out = (struct bus_record){ .topic = topic, .key = e->entity_id.n ? e->entity_id : e->tenant_id, .event_id = e->id, .value = value, .headers = h };
	header_add(out, h, "ce_specversion", STR("1.0"));
	header_add(out, h, "ce_id", e->id);
	header_add(out, h, "ce_type", e->type);
	header_add(out, h, "ce_source", e->source);
	header_add(out, h, "ce_time", arena_str(a, buf_view(&time)));
	header_add(out, h, "ce_subject", e->entity_id);
	header_add(out, h, "content-type", STR("application/protobuf"));
	header_add(out, h, "tenant", e->tenant_id);
	header_add(out, h, "actor", e->user_id.n ? e->user_id : e->api_key_id);
	header_add(out, h, "traceparent", e->traceparent);
	buf_fini(&time);
}
