/* A small pool of threads with a short queue, so that hashing neither blocks the database workers nor piles up. */
#include "pool.h"

#include <pthread.h>

#include "base/log.h"
#include "telemetry/context.h"

struct job {
	void (*run)(void *arg);
	void *arg;
	struct context context; /* of who put it there */
};

static struct job queue[POOL_QUEUE];
static unsigned head, waiting;
static bool running;
static pthread_t threads[POOL_THREADS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;

static bool take(struct job *j)
{
	bool got;

	pthread_mutex_lock(&lock);
	while (running && !waiting)
		pthread_cond_wait(&more, &lock);
	got = waiting > 0;
	if (got) {
		*j = queue[head];
		head = (head + 1) % POOL_QUEUE;
		waiting--;
	}
	pthread_mutex_unlock(&lock);
	return got;
}

static void *work(void *unused)
{
	struct job j;

	while (take(&j)) {
		context_enter(&j.context);
		j.run(j.arg);
		context_leave();
	}
	return NULL;
}

void pool_start(void)
{
	running = true;
	for (int i = 0; i < POOL_THREADS; i++) {
		if (pthread_create(&threads[i], NULL, work, NULL))
			log_die("AUTH-POOL", "cannot start the hashing threads");
	}
}

bool pool_submit(void (*run)(void *arg), void *arg)
{
	bool room;

	pthread_mutex_lock(&lock);
	room = running && waiting < POOL_QUEUE;
	if (room) {
		struct job *j = &queue[(head + waiting) % POOL_QUEUE];

		j->run = run;
		j->arg = arg;
		context_take(&j->context);
		waiting++;
		pthread_cond_signal(&more);
	}
	pthread_mutex_unlock(&lock);
	return room;
}

void pool_stop(void)
{
	pthread_mutex_lock(&lock);
	if (!running) {
		pthread_mutex_unlock(&lock);
		return;
	}
	running = false;
	pthread_cond_broadcast(&more);
	pthread_mutex_unlock(&lock);
	for (int i = 0; i < POOL_THREADS; i++)
		pthread_join(threads[i], NULL);
}
