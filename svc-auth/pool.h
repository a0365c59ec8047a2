/*
 * Threads for work that only burns CPU (password hashing), apart from the database workers: 2 threads, 32 waiting at most.
 * Threading: pool_submit from any thread; jobs run on a pool thread.
 */
#ifndef CRM_AUTH_POOL_H
#define CRM_AUTH_POOL_H

#include <stdbool.h>

#define POOL_THREADS 2
#define POOL_QUEUE 32

void pool_start(void);
/* False: the queue is full or the pool is stopping; the caller answers UNAVAILABLE. */
bool pool_submit(void (*job)(void *arg), void *arg);
/* Finishes what waits, then ends the threads. */
void pool_stop(void);

#endif
