/* The two ways bytes move between a connection and its socket: plain and TLS. */
#include <errno.h>
#include <openssl/err.h>
#include <sys/socket.h>

#include "http/conn.h"

#define TLS_RECORD 16384

static ssize_t plain_result(ssize_t n)
{
	if (n >= 0)
		return n;
	return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? IO_AGAIN : IO_ERROR;
}

static ssize_t plain_read(struct http_conn *c, void *p, size_t n)
{
	return plain_result(recv(c->fd, p, n, 0));
}

static ssize_t plain_writev(struct http_conn *c, const struct iovec *v, int n)
{
	struct msghdr m = { .msg_iov = (struct iovec *)v, .msg_iovlen = (size_t)n };

	if (n == 1)
		return plain_result(send(c->fd, v->iov_base, v->iov_len, MSG_NOSIGNAL));
	return plain_result(sendmsg(c->fd, &m, MSG_NOSIGNAL));
}

static bool plain_pending(struct http_conn *c)
{
	return false;
}

static void plain_shut(struct http_conn *c)
{
	shutdown(c->fd, SHUT_WR);
}

static void plain_fini(struct http_conn *c)
{
}

const struct http_io http_io_plain = { plain_read, plain_writev, plain_pending, plain_shut, plain_fini };

static ssize_t tls_result(struct http_conn *c, int r)
{
	if (r > 0)
		return r;
	switch (SSL_get_error(c->ssl, r)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return IO_AGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return IO_EOF;
	default:
		/* after a fatal error SSL_shutdown must not be called */
		SSL_set_quiet_shutdown(c->ssl, 1);
		return IO_ERROR;
	}
}

static ssize_t tls_read(struct http_conn *c, void *p, size_t n)
{
	ERR_clear_error();
	return tls_result(c, SSL_read(c->ssl, p, n > INT32_MAX ? INT32_MAX : (int)n));
}

static ssize_t tls_write(struct http_conn *c, const void *p, size_t n)
{
	ssize_t r;

	if (n == 0)
		return 0;
	ERR_clear_error();
	r = tls_result(c, SSL_write(c->ssl, p, n > INT32_MAX ? INT32_MAX : (int)n));
	return r == IO_EOF ? IO_ERROR : r;
}

/* Pieces that fit one record together go out as one. */
static ssize_t tls_writev(struct http_conn *c, const struct iovec *v, int n)
{
	char record[TLS_RECORD];
	size_t total = 0, sent = 0;

	for (int i = 0; i < n; i++)
		total += v[i].iov_len;
	if (n > 1 && total <= sizeof(record)) {
		size_t at = 0;

		for (int i = 0; i < n; at += v[i].iov_len, i++)
			memcpy(record + at, v[i].iov_base, v[i].iov_len);
		return tls_write(c, record, total);
	}
	for (int i = 0; i < n; i++) {
		size_t done = 0;

		while (done < v[i].iov_len) {
			ssize_t r = tls_write(c, (const char *)v[i].iov_base + done, v[i].iov_len - done);

			if (r < 0)
				return sent > 0 && r == IO_AGAIN ? (ssize_t)sent : r;
			done += (size_t)r;
			sent += (size_t)r;
		}
	}
	return (ssize_t)sent;
}

static bool tls_pending(struct http_conn *c)
{
	return SSL_pending(c->ssl) > 0;
}

/* One-way close_notify. What the client still sends must stay readable: data left unread would reset the connection. */
static void tls_shut(struct http_conn *c)
{
	ERR_clear_error();
	if (SSL_is_init_finished(c->ssl))
		SSL_shutdown(c->ssl);
	ERR_clear_error();
	shutdown(c->fd, SHUT_WR);
}

static void tls_fini(struct http_conn *c)
{
	if (!c->ssl)
		return;
	if (c->state != CONN_LINGER && SSL_is_init_finished(c->ssl)) {
		ERR_clear_error();
		SSL_set_shutdown(c->ssl, SSL_get_shutdown(c->ssl) | SSL_RECEIVED_SHUTDOWN);
		SSL_shutdown(c->ssl);
	}
	SSL_free(c->ssl);
	ERR_clear_error();
	c->ssl = NULL;
}

const struct http_io http_io_tls = { tls_read, tls_writev, tls_pending, tls_shut, tls_fini };
