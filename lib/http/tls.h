/* The TLS side of an HTTP server: TLS 1.2 and 1.3, no renegotiation, no client certificates. */
#ifndef CRM_HTTP_TLS_H
#define CRM_HTTP_TLS_H

#include <openssl/ssl.h>

/* From PEM files. NULL: *why says what is wrong (static or valid until the next call of this thread). SSL_CTX_free it. */
SSL_CTX *http_tls_new(const char *cert_file, const char *key_file, const char **why);

#endif
