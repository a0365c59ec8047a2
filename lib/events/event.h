/*
 * An event in memory and its two forms on the bus: the value is crm.v1.Event (proto/events.proto), and the headers are
 * CloudEvents 1.0 in binary mode, so that consumers of any kind can route without reading the value.
 */
#ifndef CRM_EVENTS_EVENT_H
#define CRM_EVENTS_EVENT_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/str.h"
#include "events/bus.h"

#define EVENT_MAX_CHANGED 256

/* All slices belong to whoever filled it (a bus message, a result row, an arena). Empty means absent. */
struct event {
	struct str id, type, source, tenant_id, entity, entity_id;
	int64_t time_us, entity_seq, stream_seq;
	uint64_t version;
	struct str changed[EVENT_MAX_CHANGED];
	size_t n_changed;
	struct str data, before, after;
	struct str user_id, api_key_id, request_id, traceparent, dialect, client_ip, user_agent;
};

/* Appends the wire bytes. */
void event_encode(struct buf *b, const struct event *e);
/* False when the bytes are malformed, or id, tenant, type are missing or not what they should be. Slices into value. */
bool event_decode(struct str value, struct event *e);
/* The record of an event whose encoded value is given; strings into the arena. */
void event_record(struct arena *a, const struct event *e, const char *topic, struct str value, struct bus_record *out);

#endif
