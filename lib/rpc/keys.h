/*
 * The envelope keys of a process: one to four. The first signs, all are accepted; they may change while the process runs
 * (docs/operations.md, "Rotating the envelope key").
 *
 * struct rpc_keys is shared by all threads. A struct rpc_macs belongs to one thread and follows it: per message that is one load of a
 * number that does not change.
 */
#ifndef CRM_RPC_KEYS_H
#define CRM_RPC_KEYS_H

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RPC_KEYS_MAX = 4, RPC_KEY_BYTES = 32 };

struct rpc_keys;

struct rpc_key_set {
	size_t n;
	uint8_t key[RPC_KEYS_MAX][RPC_KEY_BYTES];
};

struct rpc_keys_stats {
	unsigned accepted;  /* keys */
	uint64_t fallbacks; /* messages whose key was not the first */
};

/* One to four lines of 64 hex digits. Exits with a sentence when it cannot; path is kept. */
struct rpc_keys *rpc_keys_open(const char *path);
/* Keys that are no file's, n from 1 to RPC_KEYS_MAX. */
struct rpc_keys *rpc_keys_of(const uint8_t (*keys)[RPC_KEY_BYTES], size_t n);
void rpc_keys_free(struct rpc_keys *k); /* nobody may use it any more */
void rpc_keys_set(struct rpc_keys *k, const struct rpc_key_set *set); /* any thread */

/*
 * Looks at the file every half second on base's thread and takes it over once it has had the same content twice in a row, so that one that
 * is just being written is not taken for the whole. A file that holds no keys changes nothing and is logged as an error, once.
 * changed(arg) after each change, on that thread; NULL: nobody wants to know.
 */
void rpc_keys_watch(struct rpc_keys *k, struct event_base *base, void (*changed)(void *arg), void *arg);
struct rpc_key_set rpc_keys_get(struct rpc_keys *k);              /* any thread */
struct rpc_keys_stats rpc_keys_stats(struct rpc_keys *k);  /* any thread */

/* crm_envelope_keys and crm_rpc_key_fallback_total. */
struct buf;
void rpc_keys_metrics(struct rpc_keys *k, struct buf *out);

/* For frame.c. */
unsigned rpc_keys_generation(const struct rpc_keys *k);
void rpc_keys_fell_back(struct rpc_keys *k);

/* A key of one line, for other purposes: 64 hex digits; exits with a sentence when it cannot. */
void rpc_key_load(const char *path, uint8_t key[RPC_KEY_BYTES]);

#endif
