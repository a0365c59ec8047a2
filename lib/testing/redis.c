/* A redis-server of the test's own: a child that dies with it. */
#include "testing/redis.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int at_port(int port, int (*use)(int, const struct sockaddr *, socklen_t), int *got)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t n = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), rc = fd < 0 ? -1 : use(fd, (struct sockaddr *)&a, n);

	if (rc == 0 && got && getsockname(fd, (struct sockaddr *)&a, &n) == 0)
		*got = ntohs(a.sin_port);
	if (fd >= 0)
		close(fd);
	return rc;
}

static void become_redis(const struct test_redis *r)
{
	char port[16];

	snprintf(port, sizeof(port), "%d", r->port);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (!freopen("/dev/null", "w", stdout))
		_exit(126);
	execlp("redis-server", "redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", "/tmp",
	    r->password ? "--requirepass" : "--daemonize", r->password ? r->password : "no", (char *)NULL);
	_exit(127);
}

_Bool test_redis_start(struct test_redis *r)
{
	if (!r->port && at_port(0, bind, &r->port) != 0)
		return 0;
	r->pid = fork();
	if (r->pid == 0)
		become_redis(r);
	for (int i = 0; i < 500 && r->pid > 0; i++) {
		if (at_port(r->port, connect, NULL) == 0)
			return 1;
		if (waitpid(r->pid, NULL, WNOHANG) == r->pid)
			r->pid = 0;
		usleep(10000);
	}
	return 0;
}

void test_redis_kill(struct test_redis *r)
{
	if (r->pid <= 0)
		return;
	kill(r->pid, SIGKILL);
	waitpid(r->pid, NULL, 0);
	r->pid = 0;
}
