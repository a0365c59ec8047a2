/* One SSL_CTX for the servers, and the newest certificate behind it. */
#include "gateway/tls.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/arena.h"
#include "http/tls.h"

struct tls {
	const char *cert_file, *key_file;
	SSL_CTX *outer; /* what the servers know */
	pthread_mutex_t lock;
	SSL_CTX *now;   /* whose certificate is used */
};

/* Runs in each handshake, on its thread. */
static int choose_certificate(SSL *ssl, void *arg)
{
	struct tls *t = arg;
	SSL_CTX *now;

	pthread_mutex_lock(&t->lock);
	now = t->now;
	SSL_CTX_up_ref(now);
	pthread_mutex_unlock(&t->lock);
	SSL_set_SSL_CTX(ssl, now);
	SSL_CTX_free(now);
	return 1;
}

struct tls *tls_new(const char *cert_file, const char *key_file, const char **why)
{
	SSL_CTX *outer = http_tls_new(cert_file, key_file, why), *now = outer ? http_tls_new(cert_file, key_file, why) : NULL;
	struct tls *t;

	if (!now) {
		SSL_CTX_free(outer);
		return NULL;
	}
	t = xcalloc(1, sizeof(*t));
	t->cert_file = cert_file;
	t->key_file = key_file;
	t->outer = outer;
	t->now = now;
	pthread_mutex_init(&t->lock, NULL);
	SSL_CTX_set_cert_cb(outer, choose_certificate, t);
	return t;
}

SSL_CTX *tls_context(struct tls *t)
{
	return t->outer;
}

int64_t tls_expires(struct tls *t)
{
	const X509 *cert;
	struct tm end;
	int64_t seconds = 0;

	pthread_mutex_lock(&t->lock);
	cert = SSL_CTX_get0_certificate(t->now);
	if (cert && ASN1_TIME_to_tm(X509_get0_notAfter(cert), &end) == 1)
		seconds = (int64_t)timegm(&end);
	pthread_mutex_unlock(&t->lock);
	return seconds;
}

bool tls_reload(struct tls *t, const char **why)
{
	SSL_CTX *fresh = http_tls_new(t->cert_file, t->key_file, why), *old;

	if (!fresh)
		return false;
	pthread_mutex_lock(&t->lock);
	old = t->now;
	t->now = fresh;
	pthread_mutex_unlock(&t->lock);
	SSL_CTX_free(old);
	return true;
}
