/*
 * Threads for what blocks: the blob store, files. A job runs on one of them and comes back to the loop that submitted it.
 * At most a few jobs per upload, download or export are under way, so their number needs no limit of its own.
 */
#ifndef CRM_GATEWAY_JOBS_H
#define CRM_GATEWAY_JOBS_H

#include "rpc/handoff.h"

/* First member of what a job works on. It is the job's alone between jobs_submit and done. */
struct job {
	struct handoff_node node; /* first */
	struct job *next;
	struct handoff *back;
	void (*run)(struct job *j);  /* on a job thread */
	void (*done)(struct job *j); /* on the submitter's loop */
};

/* Starts the threads; exits with a sentence when it cannot. Once per process. */
void jobs_start(unsigned threads);
/* back: of the worker that submits, initialised with jobs_done. */
void jobs_submit(struct job *j, struct handoff *back, void (*run)(struct job *j), void (*done)(struct job *j));
/* Jobs that wait for a thread, and those that are on one. Any thread. */
struct jobs_stats {
	unsigned waiting, running;
};
struct jobs_stats jobs_stats(void);
/* handoff's wake function; arg is the handoff. */
void jobs_done(void *arg);

#endif
