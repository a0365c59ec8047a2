/*
 * Work in the background. A job is a row of the table `job` (svc-customers/schema/170_jobs.sql) with the call that asked for it and a
 * row of `job_item` per thing to do. One worker of one process does it in small transactions; each also says how far it got, so a
 * process that ends in between leaves nothing half done: when its lease is over another goes on behind the last commit.
 *
 * Threading: jobs_kind before jobs_start; jobs_start and jobs_stop on the loop thread; jobs_create and jobs_poke on a worker.
 */
#ifndef CRM_JOBS_JOBS_H
#define CRM_JOBS_JOBS_H

#include <event2/event.h>

#include "db/db.h"
#include "rpc/rpc.h"

#define JOBS_STEP 500       /* things of one transaction at most */
#define JOBS_LEASE_S 10     /* without a commit for so long a job is taken over */
#define JOBS_MAX_ATTEMPTS 5 /* without a commit in between; then it failed */

/* A job in its transaction. call: as the one that asked for it, with the payload that was kept. */
struct job {
	struct rpc_call *call;
	const char *id;
	int64_t position, total, done, failed; /* the step moves them forward; position == total: done */
	/* of an import: what done is made of, the rows' blob, where in it the next step begins */
	int64_t created, updated, skipped, place;
	const char *blob;
	bool dry_run;
};

/* One step: at most JOBS_STEP things in the open transaction. Not OK: it is rolled back; the job failed, unless it may be tried again. */
typedef enum status (*jobs_step)(void *arg, struct db_conn *db, struct job *job);

/* Who does jobs of this kind: the name of the RPC that makes them. At most 32 kinds. */
void jobs_kind(const char *kind, jobs_step step, void *arg);
void jobs_forget(void);

struct job_new {
	const char *kind;
	struct str payload;
	size_t total;
	const char *ids;     /* an item for each entity: "{…}", uuid[] with NULL for what there is not; NULL: the items are made by the steps, or by the caller */
	const char *blob;    /* of an import; deleted when the job ends */
	bool dry_run;
	const char *reverts; /* the job that it takes back */
};
struct job_made {
	const char *id;
	int64_t seq;
};
/* In the open transaction of call. Arena: the call's. */
enum status jobs_create(struct db_conn *db, struct rpc_call *call, const struct job_new *j, struct job_made *made) MUST_CHECK;

/* schema_name: the first word of the events ("customers"). */
void jobs_start(struct event_base *base, struct db *db, const char *schema_name);
void jobs_stop(void);
/* After a commit that made a job: does not wait for the next look. */
void jobs_poke(void);

#endif
