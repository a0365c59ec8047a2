/* One SSL_CTX for the servers, and the newest certificate behind it. */
#include "gateway/tls.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/arena.h"
#include "http/tls.h"

/* Which files were there: the certificate's and the key's. */
struct stamp {
	uint64_t inode[2], size[2], mtime_ns[2];
};

struct tls {
	const char *cert_file, *key_file;
	struct stamp tried, seen;
	SSL_CTX *outer; /* what the servers know */
	pthread_mutex_t lock;
	SSL_CTX *now;   /* whose certificate is used */
};

static struct stamp stamp_of(const struct tls *t)
{
	const char *files[] = { t->cert_file, t->key_file };
	struct stamp s;
	struct stat st;

	memset(&s, 0, sizeof(s));
	for (int i = 0; i < 2; i++) {
		if (stat(files[i], &st) != 0)
			continue;
		s.inode[i] = st.st_ino;
		s.size[i] = (uint64_t)st.st_size;
		s.mtime_ns[i] = (uint64_t)st.st_mtim.tv_sec * 1000000000 + (uint64_t)st.st_mtim.tv_nsec;
	}
	return s;
}

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
	struct tls *t = xcalloc(1, sizeof(*t));

	t->cert_file = cert_file;
	t->key_file = key_file;
	t->tried = t->seen = stamp_of(t);
	t->outer = http_tls_new(cert_file, key_file, why);
	t->now = t->outer ? http_tls_new(cert_file, key_file, why) : NULL;
	if (!t->now) {
		SSL_CTX_free(t->outer);
		free(t);
		return NULL;
	}
	pthread_mutex_init(&t->lock, NULL);
	SSL_CTX_set_cert_cb(t->outer, choose_certificate, t);
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

bool tls_has_news(struct tls *t)
{
	struct stamp before = t->seen;

	t->seen = stamp_of(t);
	return memcmp(&t->seen, &before, sizeof(before)) == 0 && memcmp(&t->seen, &t->tried, sizeof(before)) != 0;
}

bool tls_reload(struct tls *t, const char **why)
{
	SSL_CTX *fresh, *old;

	t->tried = stamp_of(t);
	fresh = http_tls_new(t->cert_file, t->key_file, why);
	if (!fresh)
		return false;
	pthread_mutex_lock(&t->lock);
	old = t->now;
	t->now = fresh;
	pthread_mutex_unlock(&t->lock);
	SSL_CTX_free(old);
	return true;
}
