/*
 * Fault points: places where a test lets the process die, as if somebody had killed it just there. In programs that are
 * not test builds (CRM_TEST_BUILD: VARIANT=asan, and the fuzzers) they are nothing at all.
 *
 *   CRASH_AT=name[:n]   the process is killed (SIGKILL) at the n-th passage of that point; n is 1 when it is left out
 *
 *   after_commit     a write is committed, its answer not yet sent
 *   before_publish   the relay has read a batch, the bus has not
 *   after_publish    the bus has confirmed, the relay's position has not moved
 *   before_inbox     a consumer has a batch in hand, its transaction has not begun
 *   after_inbox      inbox and effect are committed, the bus does not know
 */
#ifndef CRM_BASE_FAULT_H
#define CRM_BASE_FAULT_H

#include <stdbool.h>

#ifdef CRM_TEST_BUILD
/* Any thread. Reads CRASH_AT at its first use; a name that is none of the above ends the program. */
void fault_point(const char *name);
/* For tests: arms what CRASH_AT would say from now on; NULL disarms. */
void fault_arm(const char *crash_at);
/* Whether this build has fault points. */
#define FAULTS_BUILT true
#else
#define FAULTS_BUILT false
static inline void fault_point(const char *name)
{
}
static inline void fault_arm(const char *crash_at)
{
}
#endif

#endif
