/* Encodes and decodes the messages of the hop. */
#include "rpc/frame.h"

#include "base/wire.h"

/* -- calls */

enum { BATCH_ITEM = 1, BATCH_CLIENT = 2, BATCH_SEQUENCE = 3 };
enum {
	CALL_ID = 1, CALL_RPC, CALL_DEADLINE, CALL_PRINCIPAL, CALL_REQUEST_ID, CALL_TRACEPARENT, CALL_DIALECT,
	CALL_IDEMPOTENCY_KEY, CALL_IDEMPOTENCY_HASH, CALL_CLIENT_IP, CALL_USER_AGENT, CALL_PAYLOAD = 15
};
enum { REPLY_ID = 1, REPLY_STATUS, REPLY_PAYLOAD, REPLY_REPLAYED, REPLY_REFUSED };
enum { STATUS_CODE = 1, STATUS_MESSAGE, STATUS_VIOLATION, STATUS_RETRY_AFTER };
enum { HEALTH_LEAVING = 1, HEALTH_CONTRACT };
enum { VIOLATION_PATH = 1, VIOLATION_RULE, VIOLATION_MESSAGE, VIOLATION_PARAM };

static void put_some(struct buf *b, uint32_t number, struct str s)
{
	if (s.n)
		wire_put_bytes(b, number, s);
}

static void put_text(struct buf *b, uint32_t number, const char *z)
{
	if (z)
		wire_put_bytes(b, number, str_of(z));
}

void frame_put_origin(struct buf *b, struct frame_origin o)
{
	wire_put_fixed64(b, BATCH_CLIENT, o.client);
	wire_put_fixed64(b, BATCH_SEQUENCE, o.sequence);
}

void frame_put_call_body(struct buf *b, const struct rpc_request *r, int64_t deadline_us)
{
	buf_need(b, r->payload.n + r->principal.n + 256);
	wire_put_bytes(b, CALL_RPC, r->rpc);
	wire_put_fixed64(b, CALL_DEADLINE, (uint64_t)deadline_us);
	put_some(b, CALL_PRINCIPAL, r->principal);
	put_some(b, CALL_REQUEST_ID, r->request_id);
	put_some(b, CALL_TRACEPARENT, r->traceparent);
	put_some(b, CALL_DIALECT, r->dialect);
	put_some(b, CALL_IDEMPOTENCY_KEY, r->idempotency_key);
	put_some(b, CALL_IDEMPOTENCY_HASH, r->idempotency_hash);
	put_some(b, CALL_CLIENT_IP, r->client_ip);
	put_some(b, CALL_USER_AGENT, r->user_agent);
	put_some(b, CALL_PAYLOAD, r->payload);
}

static size_t varint_length(uint64_t v)
{
	size_t n = 1;

	for (; v >= 0x80; v >>= 7)
		n++;
	return n;
}

void frame_put_call(struct buf *b, uint32_t id, struct str body)
{
	wire_tag(b, BATCH_ITEM, WIRE_BYTES);
	wire_varint(b, 1 + varint_length(id) + body.n);
	wire_put_varint(b, CALL_ID, id);
	buf_str(b, body);
}

bool frame_read_calls(struct str batch, struct frame_origin *o, struct str calls[RPC_MAX_CALLS], size_t *n)
{
	struct wire_reader r = wire_read(batch);
	struct wire_field f;

	*n = 0;
	*o = (struct frame_origin){ 0 };
	while (wire_next(&r, &f)) {
		if (f.number == BATCH_CLIENT && f.type == WIRE_FIXED64) {
			o->client = f.value;
		} else if (f.number == BATCH_SEQUENCE && f.type == WIRE_FIXED64) {
			o->sequence = f.value;
		} else if (f.number == BATCH_ITEM && f.type == WIRE_BYTES) {
			if (*n == RPC_MAX_CALLS)
				return false;
			calls[(*n)++] = f.bytes;
		}
	}
	return !r.bad;
}

static void principal_number(struct rpc_principal *p, uint32_t number, uint64_t value)
{
	switch (number) {
	case 2: p->tenant_seq = (int64_t)value; break;
	case 4: p->user_seq = (int64_t)value; break;
	case 6: p->permissions[0] = value; break;
	case 7: p->permissions[1] = value; break;
	case 11: p->token_expires_us = (int64_t)value; break;
	default: break;
	}
}

static void principal_text(struct rpc_principal *p, uint32_t number, struct str s)
{
	switch (number) {
	case 1: p->tenant_id = s; break;
	case 3: p->user_id = s; break;
	case 5: p->role = s; break;
	case 8: p->session_id = s; break;
	case 9: p->token_id = s; break;
	case 10: p->api_key_id = s; break;
	case 12: p->scope = s; break;
	default: break;
	}
}

static bool read_principal(struct str bytes, struct rpc_principal *p)
{
	struct wire_reader r = wire_read(bytes);
	struct wire_field f;

	*p = (struct rpc_principal){ 0 };
	while (wire_next(&r, &f)) {
		if (f.type == WIRE_BYTES)
			principal_text(p, f.number, f.bytes);
		else
			principal_number(p, f.number, f.value);
	}
	return !r.bad;
}

static struct str *call_text(struct rpc_call *c, uint32_t number)
{
	switch (number) {
	case CALL_RPC: return &c->rpc;
	case CALL_REQUEST_ID: return &c->request_id;
	case CALL_TRACEPARENT: return &c->traceparent;
	case CALL_DIALECT: return &c->dialect;
	case CALL_IDEMPOTENCY_KEY: return &c->idempotency_key;
	case CALL_IDEMPOTENCY_HASH: return &c->idempotency_hash;
	case CALL_CLIENT_IP: return &c->client_ip;
	case CALL_USER_AGENT: return &c->user_agent;
	case CALL_PAYLOAD: return &c->payload;
	default: return NULL;
	}
}

bool frame_read_call(struct str body, uint32_t *id, struct rpc_call *c)
{
	struct wire_reader r = wire_read(body);
	struct wire_field f;

	*id = 0;
	while (wire_next(&r, &f)) {
		if (f.number == CALL_ID && f.type == WIRE_VARINT) {
			*id = (uint32_t)f.value;
		} else if (f.number == CALL_DEADLINE && f.type == WIRE_FIXED64) {
			c->deadline_us = (int64_t)f.value;
		} else if (f.number == CALL_PRINCIPAL && f.type == WIRE_BYTES) {
			if (!read_principal(f.bytes, &c->who))
				return false;
		} else if (f.type == WIRE_BYTES) {
			struct str *text = call_text(c, f.number);

			if (text)
				*text = f.bytes;
		}
	}
	return !r.bad && c->rpc.n > 0;
}

/* -- replies */

static void put_violation(struct buf *b, const struct rpc_violation *v)
{
	size_t at = wire_open(b, STATUS_VIOLATION);

	put_text(b, VIOLATION_PATH, v->path);
	put_text(b, VIOLATION_RULE, v->rule);
	put_text(b, VIOLATION_MESSAGE, v->message);
	put_text(b, VIOLATION_PARAM, v->param);
	wire_close(b, at);
}

static void put_status(struct buf *b, const struct frame_reply *r)
{
	size_t at = wire_open(b, REPLY_STATUS);

	wire_put_varint(b, STATUS_CODE, (uint64_t)r->status);
	put_text(b, STATUS_MESSAGE, r->text ? r->text : status_text(r->status));
	for (size_t i = 0; i < r->n_violations; i++)
		put_violation(b, &r->violations[i]);
	if (r->retry_after_ms)
		wire_put_varint(b, STATUS_RETRY_AFTER, r->retry_after_ms);
	wire_close(b, at);
}

static void put_refusal(struct buf *b, const struct frame_reply *r)
{
	size_t at = wire_open(b, BATCH_ITEM);

	wire_put_varint(b, REPLY_ID, r->id);
	put_status(b, r);
	if (r->refused)
		wire_put_varint(b, REPLY_REFUSED, 1);
	wire_close(b, at);
}

void frame_put_reply(struct buf *b, const struct frame_reply *r)
{
	size_t n;

	if (r->status != STATUS_OK) {
		put_refusal(b, r);
		return;
	}
	/* the length is computed, so that a long payload is not moved to make room for it */
	n = 1 + varint_length(r->id) + (r->replayed ? 2 : 0);
	if (r->payload.n)
		n += 1 + varint_length(r->payload.n) + r->payload.n;
	buf_need(b, n + 16);
	wire_tag(b, BATCH_ITEM, WIRE_BYTES);
	wire_varint(b, n);
	wire_put_varint(b, REPLY_ID, r->id);
	if (r->replayed)
		wire_put_varint(b, REPLY_REPLAYED, 1);
	put_some(b, REPLY_PAYLOAD, r->payload);
}

static bool read_status(struct str bytes, struct rpc_result *out)
{
	struct wire_reader r = wire_read(bytes);
	struct wire_field f;

	out->status_bytes = bytes;
	out->status = STATUS_INTERNAL;
	while (wire_next(&r, &f)) {
		if (f.number == STATUS_CODE && f.type == WIRE_VARINT)
			out->status = f.value < STATUS_COUNT ? (enum status)f.value : STATUS_INTERNAL;
		else if (f.number == STATUS_MESSAGE && f.type == WIRE_BYTES)
			out->text = f.bytes;
		else if (f.number == STATUS_RETRY_AFTER && f.type == WIRE_VARINT)
			out->retry_after_ms = f.value > UINT32_MAX ? UINT32_MAX : (uint32_t)f.value;
	}
	return !r.bad;
}

bool frame_read_reply(struct str body, uint32_t *id, struct rpc_result *out)
{
	struct wire_reader r = wire_read(body);
	struct wire_field f;

	*id = UINT32_MAX;
	*out = (struct rpc_result){ .status = STATUS_OK };
	while (wire_next(&r, &f)) {
		if (f.number == REPLY_ID && f.type == WIRE_VARINT)
			*id = f.value > UINT32_MAX ? UINT32_MAX : (uint32_t)f.value;
		else if (f.number == REPLY_STATUS && f.type == WIRE_BYTES && !read_status(f.bytes, out))
			return false;
		else if (f.number == REPLY_PAYLOAD && f.type == WIRE_BYTES)
			out->payload = f.bytes;
		else if (f.number == REPLY_REPLAYED && f.type == WIRE_VARINT)
			out->replayed = f.value != 0;
		else if (f.number == REPLY_REFUSED && f.type == WIRE_VARINT)
			out->refused = f.value != 0;
	}
	return !r.bad && *id != UINT32_MAX;
}

/* -- health */

void frame_put_health(struct buf *b, struct frame_health h)
{
	if (h.leaving)
		wire_put_varint(b, HEALTH_LEAVING, 1);
	if (h.contract)
		wire_put_fixed64(b, HEALTH_CONTRACT, h.contract);
}

struct frame_health frame_read_health(struct str payload)
{
	struct wire_reader r = wire_read(payload);
	struct frame_health h = { 0 };
	struct wire_field f;

	while (wire_next(&r, &f)) {
		if (f.number == HEALTH_LEAVING && f.type == WIRE_VARINT)
			h.leaving = f.value != 0;
		else if (f.number == HEALTH_CONTRACT && f.type == WIRE_FIXED64)
			h.contract = f.value;
	}
	return h;
}
