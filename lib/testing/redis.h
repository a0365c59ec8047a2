/* A redis-server of the test's own, on loopback. */
#ifndef CRM_TESTING_REDIS_H
#define CRM_TESTING_REDIS_H

#include <sys/types.h>

struct test_redis {
	pid_t pid; /* 0: not running */
	int port;
	const char *password; /* NULL: none */
};

/* Starts it, at r->port if that is set, and waits until it listens. False: Debian's redis-server is missing or does not start. */
_Bool test_redis_start(struct test_redis *r);
/* Ends it at once, as a crash would. Nothing it knew survives. */
void test_redis_kill(struct test_redis *r);

#endif
