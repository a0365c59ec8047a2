/* Fault points of test builds: kills the process where CRASH_AT says. */
#include "base/fault.h"

#ifdef CRM_TEST_BUILD

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"

static const char *const names[] = { "after_commit", "before_publish", "after_publish", "before_inbox", "after_inbox" };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const char *armed; /* atomic; one of names, or NULL */
static int64_t left;      /* atomic: passages until the end */

void fault_arm(const char *crash_at)
{
	const char *colon = crash_at ? strchr(crash_at, ':') : NULL;
	size_t n = colon ? (size_t)(colon - crash_at) : crash_at ? strlen(crash_at) : 0;
	const char *found = NULL;
	int64_t count = 1;

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		if (n && strlen(names[i]) == n && !memcmp(names[i], crash_at, n))
			found = names[i];
	}
	if ((n && !found) || (colon && (!str_to_i64(str_of(colon + 1), &count) || count < 1)))
		log_die("FAULT-POINT", "CRASH_AT=%s: no such point; base/fault.h names them", crash_at);
	__atomic_store_n(&left, count, __ATOMIC_RELEASE);
	__atomic_store_n(&armed, found, __ATOMIC_RELEASE);
}

static void arm_from_environment(void)
{
	if (getenv("CRASH_AT"))
		fault_arm(getenv("CRASH_AT"));
}

void fault_point(const char *name)
{
	const char *at;

	pthread_once(&once, arm_from_environment);
	at = __atomic_load_n(&armed, __ATOMIC_ACQUIRE);
	if (!at || strcmp(at, name) || __atomic_sub_fetch(&left, 1, __ATOMIC_ACQ_REL))
		return;
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

#endif
