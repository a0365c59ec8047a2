/* A queue, the threads that empty it, and the way back. */
#include "gateway/jobs.h"

#include <pthread.h>

#include "base/log.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t some = PTHREAD_COND_INITIALIZER;
static struct job *first, **last = &first;
static struct jobs_stats stats;

static void *loop(void *unused)
{
	for (;;) {
		struct job *j;

		pthread_mutex_lock(&lock);
		while (!first)
			pthread_cond_wait(&some, &lock);
		j = first;
		first = j->next;
		if (!first)
			last = &first;
		stats.waiting--;
		stats.running++;
		pthread_mutex_unlock(&lock);
		j->run(j);
		pthread_mutex_lock(&lock);
		stats.running--;
		pthread_mutex_unlock(&lock);
		handoff_push(j->back, &j->node);
	}
	return NULL;
}

void jobs_start(unsigned threads)
{
	pthread_t t;

	for (unsigned i = 0; i < threads; i++) {
		if (pthread_create(&t, NULL, loop, NULL) != 0 || pthread_detach(t) != 0)
			log_die("JOBS-START", "no thread for jobs");
	}
}

struct jobs_stats jobs_stats(void)
{
	struct jobs_stats s;

	pthread_mutex_lock(&lock);
	s = stats;
	pthread_mutex_unlock(&lock);
	return s;
}

void jobs_submit(struct job *j, struct handoff *back, void (*run)(struct job *j), void (*done)(struct job *j))
{
	j->back = back;
	j->run = run;
	j->done = done;
	j->next = NULL;
	pthread_mutex_lock(&lock);
	*last = j;
	last = &j->next;
	stats.waiting++;
	pthread_cond_signal(&some);
	pthread_mutex_unlock(&lock);
}

void jobs_done(void *arg)
{
	struct handoff_node *at = handoff_take(arg), *next;

	for (; at; at = next) {
		struct job *j = (struct job *)at;

		next = at->next;
		j->done(j);
	}
}
