/*
 * Signed ends of chains: every 1,000 entries of a tenant or 60 s, whatever comes first, as a row of checkpoint and as a line of a
 * file outside the database (JSON: tenant, seq, hash, signed_us, key, signature), synced before the row is committed.
 * One thread with a connection of its own; it looks every 2 s, and does not ask the database at all when nothing was appended.
 */
#ifndef CRM_SVC_AUDIT_CHECKPOINT_H
#define CRM_SVC_AUDIT_CHECKPOINT_H

#include <libpq-fe.h>

#include "base/status.h"
#include "svc-audit/sign.h"

/* path: the file, "" for none. Exits when it cannot be opened for appending. */
void checkpoint_start(const char *database_url, const struct signer *signer, const char *path);
/* Entries were appended. Any thread. */
void checkpoint_hint(void);
void checkpoint_stop(void);

/* One round: signs what is due (everything: whatever has moved). fd: the file, -1 for none. *n: how many. */
enum status checkpoint_round(PGconn *c, const struct signer *signer, int fd, bool everything, size_t *n) MUST_CHECK;

struct checkpoint_stats {
	uint64_t signed_ends, failures;
	double unsigned_seconds; /* since when there have been entries that no signature covers; 0: there are none */
};
struct checkpoint_stats checkpoint_stats(void);

#endif
