/* Signatures over places in a chain (Ed25519 through OpenSSL). */
#include "svc-audit/sign.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/codec.h"
#include "base/log.h"

struct signer {
	EVP_PKEY *key;
};

struct signer *signer_new(const uint8_t seed[32])
{
	struct signer *s = xcalloc(1, sizeof *s);

	s->key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, 32);
	if (!s->key)
		log_die("AUDIT-SIGNING-KEY", "the signing key cannot be used");
	return s;
}

static bool seed_read(const char *path, uint8_t seed[32])
{
	char line[80] = "";
	FILE *f = fopen(path, "re");
	bool good = f && fgets(line, sizeof line, f) && strspn(line, "0123456789abcdefABCDEF") == 64 && hex_decode((struct str){ line, 64 }, seed, 32);

	if (f)
		fclose(f);
	OPENSSL_cleanse(line, sizeof line);
	return good;
}

struct signer *signer_load(const char *path)
{
	uint8_t seed[32];
	struct signer *s;

	if (!seed_read(path, seed))
		log_die("AUDIT-SIGNING-KEY", "%s must hold 64 hex digits", path);
	s = signer_new(seed);
	OPENSSL_cleanse(seed, sizeof seed);
	return s;
}

void signer_free(struct signer *s)
{
	if (!s)
		return;
	EVP_PKEY_free(s->key);
	free(s);
}

void signer_public(const struct signer *s, char hex[SIGN_KEY_HEX + 1])
{
	uint8_t raw[32];
	size_t n = sizeof raw;

	if (EVP_PKEY_get_raw_public_key(s->key, raw, &n) != 1 || n != sizeof raw)
		log_die("AUDIT-SIGNING-KEY", "the signing key has no public half");
	hex_encode(raw, sizeof raw, hex);
}

static void put_be(struct buf *b, int64_t v)
{
	for (int i = 0; i < 8; i++)
		buf_c(b, (char)((uint64_t)v >> (56 - 8 * i)));
}

static void message(struct buf *b, enum sign_kind kind, const struct sign_place *p)
{
	const char *word = kind == SIGN_CHECKPOINT ? "crm-audit-checkpoint-v1" : "crm-audit-cut-v1";

	buf_put(b, word, strlen(word) + 1);
	buf_put(b, p->tenant, sizeof p->tenant);
	put_be(b, p->seq);
	buf_put(b, p->hash, sizeof p->hash);
	put_be(b, p->signed_us);
}

void sign_place(const struct signer *s, enum sign_kind kind, const struct sign_place *p, char hex[SIGN_HEX + 1])
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	struct buf b = { 0 };
	uint8_t raw[64];
	size_t n = sizeof raw;

	message(&b, kind, p);
	/* both fail for lack of memory only, and then this process is to end like at any other allocation */
	if (!ctx || EVP_DigestSignInit(ctx, NULL, NULL, NULL, s->key) != 1 || EVP_DigestSign(ctx, raw, &n, (const uint8_t *)b.p, b.n) != 1 || n != sizeof raw)
		abort();
	hex_encode(raw, sizeof raw, hex);
	EVP_MD_CTX_free(ctx);
	buf_fini(&b);
}

bool sign_check(const char *public_hex, enum sign_kind kind, const struct sign_place *p, const char *signature_hex)
{
	uint8_t raw[32], signature[64];
	struct buf b = { 0 };
	EVP_MD_CTX *ctx;
	EVP_PKEY *key;
	bool good;

	if (!hex_decode(str_of(public_hex), raw, sizeof raw) || !hex_decode(str_of(signature_hex), signature, sizeof signature))
		return false;
	key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, raw, sizeof raw);
	ctx = EVP_MD_CTX_new();
	message(&b, kind, p);
	good = key && ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) == 1 &&
	    EVP_DigestVerify(ctx, signature, sizeof signature, (const uint8_t *)b.p, b.n) == 1;
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(key);
	buf_fini(&b);
	return good;
}
