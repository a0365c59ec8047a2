/*
 * The hash chain of a tenant: h_n = SHA-256(0x00, "crm-audit-v1", tenant, n, h_(n-1), canonical bytes of entry n).
 *
 * tenant is 16 bytes, n 8 bytes big endian, h_0 32 zero bytes. Canonical bytes are protobuf fields in the order of
 * enum canonical_field, each with its length; absent fields are left out; before and after are the JSON text as it came.
 */
#ifndef CRM_SVC_AUDIT_CHAIN_H
#define CRM_SVC_AUDIT_CHAIN_H

#include <libpq-fe.h>

#include "base/buf.h"
#include "base/status.h"
#include "events/event.h"

enum canonical_field { CANON_ID = 1, CANON_TIME, CANON_TYPE, CANON_ACTION, CANON_RESOURCE, CANON_RESOURCE_ID, CANON_RESOURCE_SEQ,
	CANON_RESOURCE_VERSION, CANON_USER, CANON_API_KEY, CANON_IP, CANON_USER_AGENT, CANON_REQUEST, CANON_DIALECT, CANON_CHANGED, CANON_BEFORE, CANON_AFTER };

/* One entry as it is hashed; slices are somebody else's. Empty means absent. */
struct chain_entry {
	struct str id, user_id; /* UUID text, or the 16 bytes of one */
	int64_t created_us, resource_seq, resource_version;
	struct str type, action, resource, resource_id, api_key_id, ip, user_agent, request_id, dialect, before, after;
	const struct str *changed;
	size_t n_changed;
};

/* What an event says in the audit log. changed points into e. */
void chain_entry_of(const struct event *e, struct chain_entry *out);
/* Appends. */
void chain_canonical(struct buf *b, const struct chain_entry *e);
void chain_hash(const uint8_t tenant[16], int64_t n, const uint8_t previous[32], struct str canonical, uint8_t out[32]);

/* Appends the events of one tenant to its chain, in the caller's transaction with app.tenant_id set. */
enum status chain_append(PGconn *c, const struct event *const *events, size_t n) MUST_CHECK;

struct chain_report {
	bool valid;
	int64_t entries;       /* that were checked and are good */
	int64_t first_bad_seq; /* 0 when valid */
	const char *problem;   /* static; "" when valid */
	char head_hash[65];
	int64_t first_seq;     /* of the first entry that is there; 1, or behind what retention removed */
	char cut_hash[65];     /* of the last entry that retention removed; "" when nothing was */
};

/*
 * Recomputes the whole chain of a tenant in a snapshot of its own, as a stream. Finds what was changed, removed,
 * added or moved, and columns that say something else than what was hashed. A chain that retention has cut begins behind the
 * cut; public_key (may be NULL: not checked) is whose signature the cut must have. It cannot find that the end was cut together
 * with the chain's head, or that everything was written anew: that needs a hash kept elsewhere (head_hash is for that).
 */
enum status chain_verify(PGconn *c, struct str tenant, const char *public_key, int64_t deadline_us, struct chain_report *out) MUST_CHECK;

#endif
