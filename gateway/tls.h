/* The listeners' certificate, exchangeable while connections are open. Any thread. */
#ifndef CRM_GATEWAY_TLS_H
#define CRM_GATEWAY_TLS_H

#include <openssl/ssl.h>

#include "base/str.h"

struct tls;

/* NULL: *why says it. */
struct tls *tls_new(const char *cert_file, const char *key_file, const char **why);
SSL_CTX *tls_context(struct tls *t); /* for http_server_new; lives as long as t */
/* When the certificate ends, seconds since 1970; 0: not known. Any thread. */
int64_t tls_expires(struct tls *t);
/* Reads the files again; handshakes from now on use them. False: *why, and nothing has changed. */
bool tls_reload(struct tls *t, const char **why);
/* Are the files others than those read last, and the same as at the last look? Each change is told until tls_reload has tried it.
   For a look every few seconds on the thread that reloads; stat follows the links that a kubelet swaps when a Secret changes. */
bool tls_has_news(struct tls *t);

#endif
