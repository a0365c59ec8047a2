/* Time: microseconds since 1970 for what is stored, a monotonic clock for deadlines. */
#ifndef CRM_BASE_CLOCK_H
#define CRM_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t clock_us(void) /* wall clock */
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static inline int64_t clock_mono_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

#endif
