/* `<program> health`: one GET to an admin port, and its answer as an exit status. */
#include "telemetry/health.h"

#include <errno.h>
#include <jansson.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"

#define MAX_ANSWER 65536

struct target {
	char host[256], port[8];
	const char *path;
	bool live;
	int64_t until_us; /* monotonic */
};

/* Why the last step failed; the process asks once and ends. */
static char why[300];

__attribute__((format(printf, 1, 2))) static bool fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	return false;
}

static bool starts(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* "host", "host:port", "[v6]:port", all up to n. */
static bool split_authority(struct target *t, const char *at, size_t n, const char *port)
{
	const char *end = at + n, *host = at, *colon;

	if (n && *at == '[') {
		host = at + 1;
		at = memchr(host, ']', n - 1);
		if (!at)
			return fail("%.*s is not an address", (int)n, host - 1);
		colon = at + 1 < end ? at + 1 : NULL;
	} else {
		colon = memchr(at, ':', n);
		at = colon ? colon : end;
	}
	if (at == host || (size_t)(at - host) >= sizeof(t->host) || (colon && (*colon != ':' || end - colon < 2 || (size_t)(end - colon) > sizeof(t->port))))
		return fail("an address is host:port");
	snprintf(t->host, sizeof(t->host), "%.*s", (int)(at - host), host);
	snprintf(t->port, sizeof(t->port), "%.*s", colon ? (int)(end - colon - 1) : 8, colon ? colon + 1 : port);
	return true;
}

static bool read_url(struct target *t, const char *url)
{
	size_t n;

	if (!starts(url, "http://"))
		return fail("%s is not of the form http://host:port", url);
	url += strlen("http://");
	n = strcspn(url, "/");
	if (url[n] && url[n + 1])
		t->path = url + n;
	return split_authority(t, url, n, "80");
}

/* Where everybody is listened to, oneself is found on loopback. */
static bool read_listen(struct target *t, const char *admin_listen)
{
	if (!admin_listen || !*admin_listen)
		return fail("ADMIN_LISTEN is not given; name a url");
	if (!split_authority(t, admin_listen, strlen(admin_listen), "80"))
		return false;
	if (strcmp(t->host, "0.0.0.0") == 0)
		snprintf(t->host, sizeof(t->host), "127.0.0.1");
	else if (strcmp(t->host, "::") == 0)
		snprintf(t->host, sizeof(t->host), "::1");
	return true;
}

static bool wait_for(const struct target *t, int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };
	int64_t left_us = t->until_us - clock_mono_us();
	int n = left_us > 0 ? poll(&p, 1, (int)(left_us / 1000) + 1) : 0;

	return n == 1 ? true : fail("no answer within %d ms", HEALTH_TIMEOUT_MS);
}

static bool connect_to(const struct target *t, int fd, const struct addrinfo *a)
{
	int error = 0;
	socklen_t n = sizeof(error);

	if (connect(fd, a->ai_addr, a->ai_addrlen) == 0)
		return true;
	if (errno != EINPROGRESS)
		return fail("%s", strerror(errno));
	if (!wait_for(t, fd, POLLOUT))
		return false;
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n);
	return error ? fail("%s", strerror(error)) : true;
}

/* -1: why says it. */
static int dial(const struct target *t)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *all, *a;
	int rc = getaddrinfo(t->host, t->port, &hints, &all), fd = -1;

	if (rc != 0) {
		fail("%s", gai_strerror(rc));
		return -1;
	}
	for (a = all; a && fd < 0; a = a->ai_next) {
		fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (fd >= 0 && !connect_to(t, fd, a)) {
			close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(all);
	return fd;
}

static bool ask(const struct target *t, int fd, struct buf *answer)
{
	struct buf request = { 0 };
	char part[4096];
	ssize_t n;

	buf_printf(&request, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", t->path, t->host);
	n = send(fd, request.p, request.n, MSG_NOSIGNAL); /* a fresh socket takes so little at once */
	if (n < 0 || (size_t)n != request.n) {
		buf_fini(&request);
		return fail("the connection broke");
	}
	buf_fini(&request);
	for (n = 1; n != 0 && answer->n < MAX_ANSWER;) {
		if (!wait_for(t, fd, POLLIN))
			return false;
		n = recv(fd, part, sizeof(part), 0);
		if (n < 0 && errno != EAGAIN)
			return fail("%s", strerror(errno));
		if (n > 0)
			buf_put(answer, part, (size_t)n);
	}
	return true;
}

/* checks.reason of /readyz, else the body as it is. */
static void say_reason(int status, const char *body)
{
	json_t *root = json_loads(body, 0, NULL);
	const char *reason = json_string_value(json_object_get(json_object_get(root, "checks"), "reason"));

	fail("%d: %.200s", status, reason ? reason : body);
	why[strcspn(why, "\r\n")] = 0;
	json_decref(root);
}

static bool judge(const char *answer)
{
	const char *body = strstr(answer, "\r\n\r\n");
	int status = 0;

	if (sscanf(answer, "HTTP/1.%*1d %3d", &status) != 1 || !body)
		return fail("what answers is not an admin port");
	if (status == 200)
		return true;
	say_reason(status, body + 4);
	return false;
}

static bool is_well(struct target *t)
{
	struct buf answer = { 0 };
	bool good;
	int fd;

	t->until_us = clock_mono_us() + HEALTH_TIMEOUT_MS * 1000;
	fd = dial(t);
	good = fd >= 0 && ask(t, fd, &answer) && judge(buf_cstr(&answer));
	if (fd >= 0)
		close(fd);
	buf_fini(&answer);
	return good;
}

int health_main(const char *program, const char *admin_listen, int argc, char **argv)
{
	struct target t = { .path = NULL };
	const char *url = NULL;

	for (int i = 2; i < argc; i++) {
		if (strcmp(argv[i], "--live") == 0) {
			t.live = true;
		} else if (!url && argv[i][0] != '-') {
			url = argv[i];
		} else {
			fprintf(stderr, "usage: %s health [--live] [http://host:port]\n", program);
			return 2;
		}
	}
	t.path = t.live ? "/livez" : "/readyz";
	if (!(url ? read_url(&t, url) : read_listen(&t, admin_listen))) {
		fprintf(stderr, "%s health: %s\n", program, why);
		return 2;
	}
	if (is_well(&t))
		return 0;
	fprintf(stderr, "%s: %s:%s%s: %s\n", t.live ? "not alive" : "not ready", t.host, t.port, t.path, why);
	return 1;
}
