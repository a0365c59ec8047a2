/* HMAC-SHA256 over messages, under whichever keys the process has now. */
#include "rpc/mac.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/log.h"

struct rpc_mac {
	EVP_MAC *algorithm;
	EVP_MAC_CTX *ctx; /* keyed once; init without a key starts the next message */
	uint8_t key[RPC_KEY_BYTES];
	unsigned holders;
};

struct rpc_macs {
	struct rpc_keys *keys;
	unsigned generation; /* of keys, that at is made of */
	size_t n;
	struct rpc_mac *at[RPC_KEYS_MAX];
};

struct rpc_mac *rpc_mac_new(const uint8_t key[RPC_KEY_BYTES])
{
	struct rpc_mac *m = xcalloc(1, sizeof(*m));
	char digest[] = "SHA256";
	OSSL_PARAM params[] = { OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0), OSSL_PARAM_construct_end() };

	m->algorithm = EVP_MAC_fetch(NULL, "HMAC", NULL);
	m->ctx = m->algorithm ? EVP_MAC_CTX_new(m->algorithm) : NULL;
	if (!m->ctx || EVP_MAC_init(m->ctx, key, RPC_KEY_BYTES, params) != 1)
		log_die("RPC-MAC", "this OpenSSL has no HMAC-SHA256");
	memcpy(m->key, key, RPC_KEY_BYTES);
	m->holders = 1;
	return m;
}

struct rpc_mac *rpc_mac_hold(struct rpc_mac *m)
{
	m->holders++;
	return m;
}

void rpc_mac_rele(struct rpc_mac *m)
{
	if (!m || --m->holders)
		return;
	EVP_MAC_CTX_free(m->ctx);
	EVP_MAC_free(m->algorithm);
	explicit_bzero(m->key, sizeof(m->key));
	free(m);
}

/* The first byte keeps requests and replies apart: without it, an answer to a forged request could be a valid request. */
static void mac_of(struct rpc_mac *m, char kind, struct str a, struct str b, uint8_t out[RPC_MAC_BYTES])
{
	size_t n = 0;
	bool ok = EVP_MAC_init(m->ctx, NULL, 0, NULL) == 1;

	ok = ok && EVP_MAC_update(m->ctx, (const uint8_t *)&kind, 1) == 1;
	ok = ok && (a.n == 0 || EVP_MAC_update(m->ctx, (const uint8_t *)a.p, a.n) == 1);
	ok = ok && (b.n == 0 || EVP_MAC_update(m->ctx, (const uint8_t *)b.p, b.n) == 1);
	ok = ok && EVP_MAC_final(m->ctx, out, &n, RPC_MAC_BYTES) == 1;
	if (!ok || n != RPC_MAC_BYTES)
		log_die("RPC-MAC", "HMAC-SHA256 failed");
}

void rpc_mac_request(struct rpc_mac *m, struct str batch, uint8_t out[RPC_MAC_BYTES])
{
	mac_of(m, 'Q', batch, (struct str){ 0 }, out);
}

void rpc_mac_reply(struct rpc_mac *m, const uint8_t request_mac[RPC_MAC_BYTES], struct str batch, uint8_t out[RPC_MAC_BYTES])
{
	mac_of(m, 'R', (struct str){ (const char *)request_mac, RPC_MAC_BYTES }, batch, out);
}

/* -- the keys as one thread sees them */

static struct rpc_mac *mac_for(const struct rpc_macs *m, const uint8_t key[RPC_KEY_BYTES])
{
	for (size_t i = 0; i < m->n; i++)
		if (memcmp(m->at[i]->key, key, RPC_KEY_BYTES) == 0)
			return rpc_mac_hold(m->at[i]);
	return rpc_mac_new(key);
}

static void macs_follow(struct rpc_macs *m)
{
	unsigned generation = rpc_keys_generation(m->keys);
	struct rpc_key_set set;
	struct rpc_macs now = { .keys = m->keys, .generation = generation };

	if (generation == m->generation)
		return;
	set = rpc_keys_get(m->keys);
	for (; now.n < set.n; now.n++)
		now.at[now.n] = mac_for(m, set.key[now.n]);
	for (size_t i = 0; i < m->n; i++)
		rpc_mac_rele(m->at[i]);
	*m = now;
	explicit_bzero(&set, sizeof(set));
}

struct rpc_macs *rpc_macs_new(struct rpc_keys *keys)
{
	struct rpc_macs *m = xcalloc(1, sizeof(*m));

	m->keys = keys;
	m->generation = rpc_keys_generation(keys) - 1;
	macs_follow(m);
	return m;
}

void rpc_macs_free(struct rpc_macs *m)
{
	for (size_t i = 0; m && i < m->n; i++)
		rpc_mac_rele(m->at[i]);
	free(m);
}

struct rpc_mac *rpc_macs_first(struct rpc_macs *m)
{
	macs_follow(m);
	return m->at[0];
}

static bool mac_same(const uint8_t a[RPC_MAC_BYTES], const uint8_t b[RPC_MAC_BYTES])
{
	return str_eq_secret((struct str){ (const char *)a, RPC_MAC_BYTES }, (struct str){ (const char *)b, RPC_MAC_BYTES });
}

struct rpc_mac *rpc_macs_of_request(struct rpc_macs *m, const uint8_t mac[RPC_MAC_BYTES], struct str batch)
{
	uint8_t right[RPC_MAC_BYTES];

	macs_follow(m);
	for (size_t i = 0; i < m->n; i++) {
		rpc_mac_request(m->at[i], batch, right);
		if (!mac_same(mac, right))
			continue;
		if (i)
			rpc_keys_fell_back(m->keys);
		return m->at[i];
	}
	return NULL;
}

bool rpc_macs_reply_is(struct rpc_macs *m, struct rpc_mac *key, const uint8_t request_mac[RPC_MAC_BYTES], const uint8_t mac[RPC_MAC_BYTES], struct str batch)
{
	uint8_t right[RPC_MAC_BYTES];

	rpc_mac_reply(key, request_mac, batch, right);
	if (!mac_same(mac, right))
		return false;
	if (key != rpc_macs_first(m))
		rpc_keys_fell_back(m->keys);
	return true;
}
