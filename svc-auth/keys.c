/* Signing keys: made, encrypted, promoted and retired in the database; the current one cached for signing. */
#include "keys.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <pthread.h>

#include "base/buf.h"
#include "base/codec.h"
#include "base/log.h"

#define KEY_BITS 2048
#define NONCE 12
#define TAG 16
#define DER_MAX 4096
#define MODULUS_TEXT 400
#define DEAD "state = 'old' AND retired_at < now() - interval '86700 seconds'" /* KEYS_KEEP_OLD_S */
#define LOCK_SQL "SELECT pg_advisory_xact_lock(hashtextextended('svc-auth.signing_key', 0))"

struct key_row {
	char kid[KEYS_KID_MAX], modulus[MODULUS_TEXT], exponent[16];
	uint8_t sealed[NONCE + DER_MAX + TAG];
	size_t n_sealed;
};

static uint8_t kek[32];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static EVP_PKEY *current;
static char current_kid[KEYS_KID_MAX];
static char *jwks;

void keys_init(const uint8_t key[32])
{
	memcpy(kek, key, sizeof(kek));
}

static void derive(const char *purpose, uint8_t out[32])
{
	unsigned n = 32;

	HMAC(EVP_sha256(), kek, sizeof(kek), (const uint8_t *)purpose, strlen(purpose), out, &n);
}

void keys_mac(const char *purpose, struct str data, uint8_t out[32])
{
	uint8_t key[32];
	unsigned n = 32;

	derive(purpose, key);
	HMAC(EVP_sha256(), key, sizeof(key), (const uint8_t *)data.p, data.n, out, &n);
	OPENSSL_cleanse(key, sizeof(key));
}

void keys_id(char out[KEYS_ID_TEXT])
{
	uint8_t mac[32];

	keys_mac("key-id", STR("1"), mac);
	hex_encode(mac, (KEYS_ID_TEXT - 1) / 2, out);
}

void keys_thumbprint(const char *modulus, const char *exponent, char kid[KEYS_KID_MAX])
{
	struct buf b = { 0 };
	uint8_t digest[32];

	buf_printf(&b, "{\"e\":\"%s\",\"kty\":\"RSA\",\"n\":\"%s\"}", exponent, modulus);
	sha256(b.p, b.n, digest);
	b64url_encode(digest, sizeof(digest), kid);
	buf_fini(&b);
}

/* -- sealing */

static bool gcm(bool seal, const char *kid, const uint8_t nonce[NONCE], const uint8_t *in, size_t n, uint8_t *out, uint8_t tag[TAG])
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	uint8_t key[32];
	int len = 0, rest = 0;
	bool ok;

	derive("signing-key-sealing", key);
	ok = ctx && EVP_CipherInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, nonce, seal) == 1 &&
	    EVP_CipherUpdate(ctx, NULL, &len, (const uint8_t *)kid, (int)strlen(kid)) == 1 && EVP_CipherUpdate(ctx, out, &len, in, (int)n) == 1;
	if (ok && !seal)
		ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TAG, tag) == 1;
	ok = ok && EVP_CipherFinal_ex(ctx, out + len, &rest) == 1;
	if (ok && seal)
		ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG, tag) == 1;
	EVP_CIPHER_CTX_free(ctx);
	OPENSSL_cleanse(key, sizeof(key));
	return ok;
}

static bool seal(EVP_PKEY *key, struct key_row *row)
{
	uint8_t *der = NULL;
	int n = i2d_PrivateKey(key, &der);
	bool ok = n > 0 && n <= DER_MAX;

	if (ok) {
		random_bytes(row->sealed, NONCE);
		ok = gcm(true, row->kid, row->sealed, der, (size_t)n, row->sealed + NONCE, row->sealed + NONCE + n);
		row->n_sealed = NONCE + (size_t)n + TAG;
	}
	if (der)
		OPENSSL_clear_free(der, n > 0 ? (size_t)n : 0);
	return ok;
}

static EVP_PKEY *unseal(const char *kid, const uint8_t *sealed, size_t n_sealed)
{
	uint8_t der[DER_MAX], tag[TAG];
	const uint8_t *at = der;
	EVP_PKEY *key = NULL;
	size_t n;

	if (n_sealed <= NONCE + TAG || n_sealed > NONCE + DER_MAX + TAG)
		return NULL;
	n = n_sealed - NONCE - TAG;
	memcpy(tag, sealed + NONCE + n, TAG);
	if (gcm(false, kid, sealed, sealed + NONCE, n, der, tag))
		key = d2i_PrivateKey(EVP_PKEY_RSA, NULL, &at, (long)n);
	OPENSSL_cleanse(der, sizeof(der));
	return key;
}

static bool number_text(EVP_PKEY *key, const char *name, char *out, size_t cap)
{
	uint8_t raw[KEY_BITS / 8];
	BIGNUM *v = NULL;
	int n;
	bool ok = EVP_PKEY_get_bn_param(key, name, &v) == 1;

	n = ok ? BN_num_bytes(v) : 0;
	ok = ok && n > 0 && (size_t)n <= sizeof(raw) && (size_t)n * 4 / 3 + 4 < cap;
	if (ok) {
		BN_bn2bin(v, raw);
		b64url_encode(raw, (size_t)n, out);
	}
	BN_free(v);
	return ok;
}

static bool generate(struct key_row *row)
{
	EVP_PKEY *key = EVP_RSA_gen(KEY_BITS);
	bool ok = key && number_text(key, OSSL_PKEY_PARAM_RSA_N, row->modulus, sizeof(row->modulus)) &&
	    number_text(key, OSSL_PKEY_PARAM_RSA_E, row->exponent, sizeof(row->exponent));

	if (ok) {
		keys_thumbprint(row->modulus, row->exponent, row->kid);
		ok = seal(key, row);
	}
	EVP_PKEY_free(key);
	if (!ok)
		log_error("AUTH-KEY-MAKE", "cannot make a signing key");
	return ok;
}

/* -- database */

static bool sql(PGconn *db, const char *text, int n, const char *const *values, const int *lengths, const int *formats, PGresult **keep)
{
	PGresult *res = PQexecParams(db, text, n, NULL, values, lengths, formats, 1);
	ExecStatusType s = PQresultStatus(res);
	bool ok = s == PGRES_TUPLES_OK || s == PGRES_COMMAND_OK;

	if (!ok) {
		const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);

		log_error("AUTH-KEY-SQL", "signing keys: SQLSTATE %s", state ? state : "none (connection)");
	}
	if (ok && keep)
		*keep = res;
	else
		PQclear(res);
	return ok;
}

static bool run(PGconn *db, const char *text)
{
	return sql(db, text, 0, NULL, NULL, NULL, NULL);
}

static bool exists(PGconn *db, const char *text, bool *yes)
{
	PGresult *res = NULL;
	bool ok = sql(db, text, 0, NULL, NULL, NULL, &res);

	*yes = ok && PQntuples(res) > 0;
	PQclear(res);
	return ok;
}

static bool announce(PGconn *db)
{
	return run(db, "INSERT INTO change (kind, id) VALUES ('keys', 'jwks')"
		       " ON CONFLICT (kind, id) DO UPDATE SET xid = pg_current_xact_id(), at = now()");
}

/* One event for each signing key that `which` finds. Keys belong to the installation, so its chain is that of the tenant of zeros. */
static bool tell(PGconn *db, const char *type, const char *which)
{
	struct buf b = { 0 };
	bool ok;

	buf_printf(&b,
	    "INSERT INTO outbox (event_id, tenant_id, type, entity, entity_seq, version, after)"
	    " SELECT gen_random_uuid(), current_setting('app.tenant_id')::uuid, '%s', 'signing_key', 0, 0, jsonb_build_object('kid', kid, 'state', state)"
	    " FROM signing_key WHERE %s",
	    type, which);
	ok = run(db, "SELECT set_config('app.tenant_id', '" KEYS_TENANT "', true)") && run(db, buf_cstr(&b));
	buf_fini(&b);
	return ok;
}

static bool insert_new(PGconn *db, const char *state, char kid[KEYS_KID_MAX])
{
	struct key_row *row = xcalloc(1, sizeof(*row));
	bool ok = generate(row);

	if (ok) {
		const char *values[] = { row->kid, state, row->modulus, row->exponent, (const char *)row->sealed };
		int lengths[] = { 0, 0, 0, 0, (int)row->n_sealed }, formats[] = { 0, 0, 0, 0, 1 };

		ok = sql(db, "INSERT INTO signing_key (kid, state, modulus, exponent, private_key) VALUES ($1, $2, $3, $4, $5)", 5, values, lengths,
			 formats, NULL) &&
		    announce(db);
	}
	if (ok && kid)
		memcpy(kid, row->kid, KEYS_KID_MAX);
	if (ok)
		log_info("AUTH-KEY-MADE", "signing key %s is %s", row->kid, state);
	free(row);
	return ok;
}

static bool promote(PGconn *db)
{
	bool due;

	if (!exists(db, "SELECT FROM signing_key WHERE state = 'next' AND created_at <= now() - interval '120 seconds'", &due))
		return false;
	if (!due)
		return true;
	log_info("AUTH-KEY-PROMOTE", "the next signing key signs from now on");
	return run(db, "UPDATE signing_key SET state = 'old', retired_at = now() WHERE state = 'current'") &&
	    run(db, "UPDATE signing_key SET state = 'current' WHERE state = 'next'") && tell(db, "auth.key.rotated", "state = 'current'") && announce(db);
}

/* Nothing that a key of this age has signed is alive. */
static bool retire(PGconn *db)
{
	bool due;

	if (!exists(db, "SELECT FROM signing_key WHERE " DEAD, &due))
		return false;
	return !due || (tell(db, "auth.key.retired", DEAD) && run(db, "DELETE FROM signing_key WHERE " DEAD) && announce(db));
}

static bool step(PGconn *db)
{
	bool some;

	if (!run(db, LOCK_SQL) || !exists(db, "SELECT FROM signing_key WHERE state = 'current'", &some))
		return false;
	if (!some && !insert_new(db, "current", NULL))
		return false;
	return promote(db) && retire(db);
}

static void publish(EVP_PKEY *key, const char *kid, struct buf *doc)
{
	pthread_mutex_lock(&lock);
	if (key) {
		EVP_PKEY_free(current);
		current = key;
		snprintf(current_kid, sizeof(current_kid), "%s", kid);
	}
	free(jwks);
	jwks = xstrdup(buf_cstr(doc));
	pthread_mutex_unlock(&lock);
}

static bool loaded(const char *kid)
{
	bool same;

	pthread_mutex_lock(&lock);
	same = current && strcmp(kid, current_kid) == 0;
	pthread_mutex_unlock(&lock);
	return same;
}

static bool load(PGconn *db)
{
	PGresult *res = NULL;
	struct buf doc = { 0 };
	EVP_PKEY *key = NULL;
	const char *kid = "";
	bool ok = true;

	if (!sql(db, "SELECT kid, state, modulus, exponent, private_key FROM signing_key ORDER BY created_at DESC", 0, NULL, NULL, NULL, &res))
		return false;
	buf_z(&doc, "{\"keys\":[");
	for (int i = 0; i < PQntuples(res); i++) {
		const char *k = PQgetvalue(res, i, 0);

		buf_printf(&doc, "%s{\"kty\":\"RSA\",\"use\":\"sig\",\"alg\":\"RS256\",\"kid\":\"%s\",\"n\":\"%s\",\"e\":\"%s\"}", i ? "," : "", k,
			   PQgetvalue(res, i, 2), PQgetvalue(res, i, 3));
		if (strcmp(PQgetvalue(res, i, 1), "current") != 0 || loaded(k))
			continue;
		kid = k;
		key = unseal(k, (const uint8_t *)PQgetvalue(res, i, 4), (size_t)PQgetlength(res, i, 4));
		ok = key != NULL;
	}
	buf_z(&doc, "]}");
	if (ok)
		publish(key, kid, &doc);
	else
		log_error("AUTH-KEY-UNSEAL", "signing key %s cannot be decrypted: is KEY_ENCRYPTION_KEY_FILE the one it was made with?", kid);
	buf_fini(&doc);
	PQclear(res);
	return ok;
}

static bool in_transaction(PGconn *db, bool (*body)(PGconn *db))
{
	if (!run(db, "BEGIN"))
		return false;
	if (body(db))
		return run(db, "COMMIT");
	PQclear(PQexec(db, "ROLLBACK"));
	return false;
}

bool keys_refresh(PGconn *db)
{
	return in_transaction(db, step) && load(db);
}

/* An event of every tenant: all their tokens are concerned. */
static bool noted(PGconn *db, const char *kid)
{
	PGresult *res = PQexecParams(db, "SELECT signing_key_rotated($1)", 1, NULL, &kid, NULL, NULL, 0);
	bool ok = PQresultStatus(res) == PGRES_TUPLES_OK;

	PQclear(res);
	return ok;
}

static bool rotate_locked(PGconn *db, char kid[KEYS_KID_MAX], const char **why)
{
	bool there;

	*why = "the database failed";
	if (!run(db, LOCK_SQL) || !exists(db, "SELECT FROM signing_key WHERE state = 'next'", &there))
		return false;
	if (there) {
		*why = "a next key is already published; it signs two minutes after it was made";
		return false;
	}
	return insert_new(db, "next", kid) && tell(db, "auth.key.published", "state = 'next'") && noted(db, kid);
}

bool keys_rotate(PGconn *db, char kid[KEYS_KID_MAX], const char **why)
{
	*why = "the database failed";
	if (!run(db, "BEGIN"))
		return false;
	if (rotate_locked(db, kid, why))
		return run(db, "COMMIT");
	PQclear(PQexec(db, "ROLLBACK"));
	return false;
}

EVP_PKEY *keys_current(char kid[KEYS_KID_MAX])
{
	EVP_PKEY *key;

	pthread_mutex_lock(&lock);
	key = current;
	if (key) {
		EVP_PKEY_up_ref(key);
		memcpy(kid, current_kid, KEYS_KID_MAX);
	}
	pthread_mutex_unlock(&lock);
	return key;
}

char *keys_jwks(struct arena *a)
{
	char *copy;

	pthread_mutex_lock(&lock);
	copy = arena_strdup(a, jwks ? str_of(jwks) : STR("{\"keys\":[]}"));
	pthread_mutex_unlock(&lock);
	return copy;
}
