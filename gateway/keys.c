/* JWKS documents to cached EVP_PKEYs, published to all threads. */
#include "gateway/keys.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/codec.h"
#include "json/json.h"

#define RSA_MIN_BITS 2048
#define RSA_MAX_BITS 8192

struct key_store {
	pthread_mutex_t lock;
	struct keyset *now;
	atomic_uint generation;
};

static EVP_PKEY *pkey_from(const BIGNUM *n, const BIGNUM *e)
{
	OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
	OSSL_PARAM *params = NULL;
	EVP_PKEY *key = NULL;

	if (!bld || !ctx || !OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_N, n) || !OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_E, e))
		goto out;
	params = OSSL_PARAM_BLD_to_param(bld);
	if (!params || EVP_PKEY_fromdata_init(ctx) <= 0)
		goto out;
	if (EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) <= 0)
		key = NULL;
out:
	OSSL_PARAM_free(params);
	OSSL_PARAM_BLD_free(bld);
	EVP_PKEY_CTX_free(ctx);
	ERR_clear_error();
	return key;
}

static BIGNUM *bignum_from(struct str b64, struct arena *scratch)
{
	uint8_t *bytes;
	long n;

	if (!b64.n || b64.n > RSA_MAX_BITS / 6 + 8)
		return NULL;
	bytes = arena_alloc(scratch, b64.n);
	n = b64url_decode(b64, bytes);
	return n > 0 ? BN_bin2bn(bytes, (int)n, NULL) : NULL;
}

static EVP_PKEY *rsa_key(struct str n64, struct str e64, struct arena *scratch)
{
	BIGNUM *n = bignum_from(n64, scratch), *e = bignum_from(e64, scratch);
	EVP_PKEY *key = NULL;
	bool good = n && e && BN_num_bits(n) >= RSA_MIN_BITS && BN_num_bits(n) <= RSA_MAX_BITS && BN_is_odd(n) && BN_is_odd(e) && BN_num_bits(e) >= 2 &&
	    BN_num_bits(e) <= 64;

	if (good)
		key = pkey_from(n, e);
	BN_free(n);
	BN_free(e);
	return key;
}

static struct str text_of(const struct json *o, const char *name)
{
	const struct json *v = json_get(o, str_of(name), false);

	return v && v->type == JSON_STRING ? v->text : (struct str){ 0 };
}

static void add_key(struct keyset *ks, const struct json *jwk, struct arena *scratch)
{
	struct str kid = text_of(jwk, "kid"), alg = text_of(jwk, "alg"), use = text_of(jwk, "use");
	EVP_PKEY *key;

	if (jwk->type != JSON_OBJECT || !str_eq(text_of(jwk, "kty"), STR("RSA")) || !kid.n || kid.n > KID_MAX || ks->n == KEYS_MAX || keyset_find(ks, kid))
		return;
	if ((alg.n && !str_eq(alg, STR("RS256"))) || (use.n && !str_eq(use, STR("sig"))))
		return;
	key = rsa_key(text_of(jwk, "n"), text_of(jwk, "e"), scratch);
	if (!key)
		return;
	memcpy(ks->rows[ks->n].kid, kid.p, kid.n);
	ks->rows[ks->n].kid[kid.n] = 0;
	ks->rows[ks->n++].key = key;
}

struct keyset *keyset_parse(struct str jwks, struct arena *scratch, const char **why)
{
	struct json_error err;
	struct json *doc = json_parse(scratch, jwks, &err);
	const struct json *list = doc && doc->type == JSON_OBJECT ? json_get(doc, STR("keys"), false) : NULL;
	struct keyset *ks;

	if (!list || list->type != JSON_ARRAY) {
		*why = "not a JWKS document";
		return NULL;
	}
	ks = xcalloc(1, sizeof(*ks));
	atomic_init(&ks->refs, 1);
	for (const struct json *k = list->child; k; k = k->next)
		add_key(ks, k, scratch);
	if (ks->n)
		return ks;
	*why = "no usable RSA key";
	keyset_rele(ks);
	return NULL;
}

void keyset_hold(struct keyset *ks)
{
	atomic_fetch_add(&ks->refs, 1);
}

void keyset_rele(struct keyset *ks)
{
	if (!ks || atomic_fetch_sub(&ks->refs, 1) != 1)
		return;
	for (size_t i = 0; i < ks->n; i++)
		EVP_PKEY_free(ks->rows[i].key);
	free(ks);
}

EVP_PKEY *keyset_find(const struct keyset *ks, struct str kid)
{
	for (size_t i = 0; i < ks->n; i++) {
		if (str_eq(str_of(ks->rows[i].kid), kid))
			return ks->rows[i].key;
	}
	return NULL;
}

struct key_store *key_store_new(void)
{
	struct key_store *s = xcalloc(1, sizeof(*s));

	pthread_mutex_init(&s->lock, NULL);
	return s;
}

void key_store_publish(struct key_store *s, struct keyset *ks)
{
	struct keyset *old;

	pthread_mutex_lock(&s->lock);
	old = s->now;
	s->now = ks;
	atomic_fetch_add(&s->generation, 1);
	pthread_mutex_unlock(&s->lock);
	keyset_rele(old);
}

static bool same_keys(const struct keyset *a, const struct keyset *b)
{
	if (!a || a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++) {
		EVP_PKEY *other = keyset_find(b, str_of(a->rows[i].kid));

		if (!other || EVP_PKEY_eq(a->rows[i].key, other) != 1)
			return false;
	}
	return true;
}

void key_store_publish_changed(struct key_store *s, struct keyset *ks)
{
	struct keyset *now = key_store_hold(s);
	bool same = same_keys(now, ks);

	keyset_rele(now);
	if (same)
		keyset_rele(ks);
	else
		key_store_publish(s, ks);
}

unsigned key_store_generation(const struct key_store *s)
{
	return atomic_load(&s->generation);
}

struct keyset *key_store_hold(struct key_store *s)
{
	struct keyset *ks;

	pthread_mutex_lock(&s->lock);
	ks = s->now;
	if (ks)
		keyset_hold(ks);
	pthread_mutex_unlock(&s->lock);
	return ks;
}

void key_store_free(struct key_store *s)
{
	keyset_rele(s->now);
	pthread_mutex_destroy(&s->lock);
	free(s);
}
