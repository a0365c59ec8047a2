/*
 * The bytes of the hop: after the MAC (mac.h), a CallBatch or ReplyBatch (proto/common.proto), encoded and decoded by hand.
 * Decoded slices point into the message.
 */
#ifndef CRM_RPC_FRAME_H
#define CRM_RPC_FRAME_H

#include "rpc/client.h"
#include "rpc/rpc.h"

enum {
	RPC_MAX_CALLS = 64,                 /* in one message */
	RPC_BATCH_BYTES = 256 * 1024,       /* a batch is closed when it has reached this */
	RPC_MAX_MESSAGE = 8 * 1024 * 1024,  /* NNG_OPT_RECVMAXSZ */
	RPC_MAX_PAYLOAD = RPC_MAX_MESSAGE - 64 * 1024,
	RPC_MAX_TIMEOUT_MS = 120 * 1000,
};

/* Who sent a CallBatch and which one of his it is; what makes a copy recognisable. */
struct frame_origin {
	uint64_t client, sequence;
};

void frame_put_origin(struct buf *b, struct frame_origin o);
/* A Call without its id, for frame_put_call to wrap. */
void frame_put_call_body(struct buf *b, const struct rpc_request *r, int64_t deadline_us);
void frame_put_call(struct buf *b, uint32_t id, struct str body);
/* Calls of a batch one by one; false: malformed or more than RPC_MAX_CALLS. */
bool frame_read_calls(struct str batch, struct frame_origin *o, struct str calls[RPC_MAX_CALLS], size_t *n);
/* Fills the fields of c that travel; the rest is left alone. */
bool frame_read_call(struct str body, uint32_t *id, struct rpc_call *c);

struct frame_reply {
	uint32_t id;
	enum status status;
	const char *text; /* NULL: the status's own */
	const struct rpc_violation *violations;
	size_t n_violations;
	uint32_t retry_after_ms;
	bool replayed;
	bool refused; /* with a status that is not OK */
	struct str payload;
};

void frame_put_reply(struct buf *b, const struct frame_reply *r);
/* The payload of an answer to Health.Check: crm.v1.Health. */
struct frame_health {
	bool leaving;
	uint64_t contract; /* 0: it does not say */
};

void frame_put_health(struct buf *b, struct frame_health h);
struct frame_health frame_read_health(struct str payload); /* what cannot be read is not there */

/* One Reply: its id and what the caller is told. */
bool frame_read_reply(struct str body, uint32_t *id, struct rpc_result *r);

#endif
