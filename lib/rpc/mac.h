/*
 * MACs of the hop. A struct rpc_mac is one key, ready to use; a struct rpc_macs is the process's keys as one thread sees them.
 * Threading: all of it belongs to one thread, the count of holders too.
 */
#ifndef CRM_RPC_MAC_H
#define CRM_RPC_MAC_H

#include "base/str.h"
#include "rpc/keys.h"

enum { RPC_MAC_BYTES = 32 };

struct rpc_mac;
struct rpc_macs;

struct rpc_mac *rpc_mac_new(const uint8_t key[RPC_KEY_BYTES]);
/* A message under way keeps its key, even if that is not accepted any more when the answer comes. */
struct rpc_mac *rpc_mac_hold(struct rpc_mac *m);
void rpc_mac_rele(struct rpc_mac *m); /* NULL: nothing */

/* What a request's first 32 bytes are, and a reply's. The two cannot stand for each other. */
void rpc_mac_request(struct rpc_mac *m, struct str batch, uint8_t out[RPC_MAC_BYTES]);
void rpc_mac_reply(struct rpc_mac *m, const uint8_t request_mac[RPC_MAC_BYTES], struct str batch, uint8_t out[RPC_MAC_BYTES]);

struct rpc_macs *rpc_macs_new(struct rpc_keys *keys); /* keys is borrowed */
void rpc_macs_free(struct rpc_macs *m);
/* The key that signs now. Held by m until the keys change. */
struct rpc_mac *rpc_macs_first(struct rpc_macs *m);
/* The key that this request was signed with, as rpc_macs_first; NULL: none of ours. */
struct rpc_mac *rpc_macs_of_request(struct rpc_macs *m, const uint8_t mac[RPC_MAC_BYTES], struct str batch);
/* Is this the reply to a request that was signed with key and had request_mac? */
bool rpc_macs_reply_is(struct rpc_macs *m, struct rpc_mac *key, const uint8_t request_mac[RPC_MAC_BYTES], const uint8_t mac[RPC_MAC_BYTES], struct str batch);

#endif
