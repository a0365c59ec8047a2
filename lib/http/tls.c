/* Makes the SSL_CTX that the edge uses. */
#include "http/tls.h"

#include <openssl/err.h>
#include <stdbool.h>
#include <stdio.h>

static const char *last_error(const char *where)
{
	static _Thread_local char text[1024];
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());

	snprintf(text, sizeof(text), "%s: %s", where, reason ? reason : "cannot be used");
	ERR_clear_error();
	return text;
}

/* HTTP/1.1 is the only protocol spoken: clients that offer ALPN without it are told so. */
static int pick_alpn(SSL *ssl, const unsigned char **out, unsigned char *n, const unsigned char *in, unsigned in_n, void *arg)
{
	static const unsigned char ours[] = "\x08http/1.1";
	unsigned char *picked;

	if (SSL_select_next_proto(&picked, n, ours, sizeof(ours) - 1, in, in_n) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = picked;
	return SSL_TLSEXT_ERR_OK;
}

/* NULL, or what did not do. */
static const char *configure(SSL_CTX *ctx, const char *cert_file, const char *key_file)
{
	SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_CIPHER_SERVER_PREFERENCE |
	    SSL_OP_NO_COMPRESSION);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_alpn_select_cb(ctx, pick_alpn, NULL);
	if (SSL_CTX_set_cipher_list(ctx, "ECDHE+AESGCM:ECDHE+CHACHA20") != 1)
		return "OpenSSL";
	if (SSL_CTX_use_certificate_chain_file(ctx, cert_file) != 1)
		return cert_file;
	if (SSL_CTX_use_PrivateKey_file(ctx, key_file, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(ctx) != 1)
		return key_file;
	return NULL;
}

SSL_CTX *http_tls_new(const char *cert_file, const char *key_file, const char **why)
{
	const char *bad;
	SSL_CTX *ctx;

	ERR_clear_error();
	ctx = SSL_CTX_new(TLS_server_method());
	bad = ctx ? configure(ctx, cert_file, key_file) : "OpenSSL";
	if (bad) {
		*why = last_error(bad);
		SSL_CTX_free(ctx);
		return NULL;
	}
	return ctx;
}
