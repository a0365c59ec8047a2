/* Jobs: made in a call's transaction, taken and done by a worker. */
#include "jobs/jobs.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/codec.h"
#include "base/log.h"
#include "resource/engine.h"
#include "resource/handler.h"
#include "telemetry/metrics.h"

#define LOOK_MS 500
#define MEASURE_US (10LL * 1000000)
#define MAX_KINDS 32
/* The columns that events and answers know. */
#define JOB_JSON "to_jsonb(j) - '{payload,caller,position,attempts,lease_by,lease_until,blob,place}'::text[]"

static struct {
	struct { const char *name; jobs_step step; void *arg; } kinds[MAX_KINDS];
	size_t n_kinds;
	struct db *db;
	struct event *timer;
	const char *schema;
	char me[UUID_TEXT + 1];
	atomic_bool busy, stopping;
} jobs;

static struct metric queued = { .name = "crm_jobs_queued", .help = "Jobs that wait for a worker, of all tenants", .type = METRIC_GAUGE };
static struct metric running = { .name = "crm_jobs_running", .help = "Jobs that have been begun and are not over", .type = METRIC_GAUGE };
static struct metric oldest = { .name = "crm_jobs_oldest_seconds", .help = "Age of the oldest job that is not over; 0: there is none", .type = METRIC_GAUGE };
static struct metric steps = { .name = "crm_jobs_steps_total", .help = "Steps of jobs: done, again (they will be tried again) or failed with their job", .type = METRIC_COUNTER,
	.labels = { "outcome" } };

static void count_step(const char *outcome, int64_t n)
{
	metric_add(metric_series(&steps, str_of(outcome)), n);
}

void jobs_kind(const char *kind, jobs_step step, void *arg)
{
	if (jobs.n_kinds == MAX_KINDS)
		log_die("JOBS-KINDS", "more than %d kinds of jobs", MAX_KINDS);
	jobs.kinds[jobs.n_kinds].name = kind;
	jobs.kinds[jobs.n_kinds].step = step;
	jobs.kinds[jobs.n_kinds++].arg = arg;
}

void jobs_forget(void)
{
	jobs.n_kinds = 0;
}

/* -- making one */

static const char *event_type(struct rpc_call *call, const char *what)
{
	return arena_printf(&call->arena, "%s.job.%s", jobs.schema ? jobs.schema : "jobs", what);
}

static enum status job_event(struct rpc_call *call, struct db_conn *db, const char *what, const char *id, const PGresult *res)
{
	return handler_event(call, db, &(struct entity_event){ .type = event_type(call, what), .entity = "job", .entity_id = id,
		.entity_seq = col_i64(res, 0, 0), .version = (uint64_t)col_i64(res, 0, 1), .after = col_text(call, res, 0, 2) });
}

static const char *bytea_param(struct rpc_call *call, struct str s)
{
	char *hex = arena_alloc(&call->arena, s.n * 2 + 3);

	memcpy(hex, "\\x", 3);
	if (s.n)
		hex_encode(s.p, s.n, hex + 2);
	return hex;
}

static enum status items_create(struct db_conn *db, const char *job, const char *ids)
{
	const char *const items[] = { job, ids };

	return db_exec(db, NULL,
	    "INSERT INTO job_item (tenant_id, job_id, position, entity_id) SELECT current_setting('app.tenant_id')::uuid, $1::uuid, x.n - 1, x.id"
	    " FROM unnest($2::uuid[]) WITH ORDINALITY AS x(id, n)", 2, items);
}

enum status jobs_create(struct db_conn *db, struct rpc_call *call, const struct job_new *j, struct job_made *made)
{
	char id[UUID_TEXT + 1], user[UUID_TEXT + 1];
	PGresult *res = NULL;
	enum status s = resource_seq(db, call, "job", &made->seq);

	if (s != STATUS_OK)
		return s;
	uuid7(id);
	made->id = arena_strdup(&call->arena, str_of(id));
	const char *const job[] = { made->id, param_i64(call, made->seq), uuid_parse(call->who.user_id, user) ? user : NULL, j->kind, param_i64(call, (int64_t)j->total),
		bytea_param(call, j->payload), param_str(call, call->who.api_key_id), param_str(call, call->request_id), param_str(call, call->dialect),
		param_str(call, call->client_ip), param_str(call, call->user_agent), param_str(call, call->who.scope), j->blob, j->blob ? (j->dry_run ? "true" : "false") : NULL, j->reverts };

	s = db_exec(db, &res,
	    "INSERT INTO job AS j (tenant_id, id, seq, created_by, updated_by, kind, total, payload, caller, blob, dry_run, reverts_id)"
	    " VALUES (current_setting('app.tenant_id')::uuid, $1::uuid, $2::bigint, $3::uuid, $3::uuid, $4, $5::bigint, $6::bytea,"
	    " jsonb_build_object('api_key', $7::text, 'request_id', $8::text, 'dialect', $9::text, 'client_ip', $10::text, 'user_agent', $11::text, 'scope', $12::text),"
	    " $13, $14::boolean, $15::uuid) RETURNING j.seq, j.version, " JOB_JSON, 15, job);
	if (s == STATUS_OK)
		s = job_event(call, db, "created", made->id, res);
	PQclear(res);
	return s == STATUS_OK && j->ids ? items_create(db, made->id, j->ids) : s;
}

/* -- doing one */

struct claim {
	char tenant[UUID_TEXT + 1], id[UUID_TEXT + 1];
	struct arena arena;
	struct str scope; /* of rows: that of who asked for it */
};

static bool claim_next(struct db_conn *db, struct claim *c)
{
	char lease[12];
	const char *const params[] = { jobs.me, lease };
	PGresult *res = NULL;
	enum status s;
	bool some = false;

	*c = (struct claim){ 0 };
	db_limit(db, (struct str){ 0 });
	s = db_begin(db, (struct str){ 0 });

	snprintf(lease, sizeof(lease), "%d", JOBS_LEASE_S);
	if (s == STATUS_OK)
		s = db_exec(db, &res, "SELECT c.tenant, c.job, c.scope FROM job_claim($1::uuid, $2::int) c", 2, params);
	if (s == STATUS_OK && PQntuples(res) == 1) {
		snprintf(c->tenant, sizeof(c->tenant), "%s", PQgetvalue(res, 0, 0));
		snprintf(c->id, sizeof(c->id), "%s", PQgetvalue(res, 0, 1));
		c->scope = arena_str(&c->arena, str_of(PQgetvalue(res, 0, 2)));
		some = true;
	}
	PQclear(res);
	if (s == STATUS_OK)
		s = db_commit(db);
	else
		db_rollback(db);
	return some && s == STATUS_OK;
}

static struct str col_str(struct rpc_call *call, const PGresult *res, int col)
{
	return col_is_null(res, 0, col) ? (struct str){ "", 0 } : str_of(col_text(call, res, 0, col));
}

static bool payload_read(struct rpc_call *call, const char *hex)
{
	size_t n = strlen(hex);
	uint8_t *bytes = arena_alloc(&call->arena, n + 1);

	call->payload = (struct str){ (char *)bytes, (n - 2) / 2 };
	return n >= 2 && hex_decode((struct str){ hex + 2, n - 2 }, bytes, (n - 2) / 2);
}

/*
 * Locks the job, as sql_update does, and not its row: the transaction has no number before it has waited for the rows that it changes.
 * NOT_FOUND when it is ours no more (cancelled, or another's).
 */
static enum status job_lock(struct db_conn *db, const struct claim *c, struct job *j, const char **kind, int64_t *attempts)
{
	const char *const params[] = { c->id, jobs.me };
	struct rpc_call *call = j->call;
	PGresult *res = NULL;
	enum status s = db_exec(db, NULL, "SELECT pg_advisory_xact_lock(uuid_hash_extended($1::uuid, 0))", 1, params);

	if (s == STATUS_OK)
		s = db_exec(db, &res,
		    "SELECT j.position, j.total, j.done, j.failed, j.attempts, j.kind, j.payload, j.created_by, j.caller->>'api_key', j.caller->>'request_id', j.caller->>'dialect',"
		    " j.caller->>'client_ip', j.caller->>'user_agent',"
		    " j.created, j.updated, j.skipped, coalesce(j.place, 0), j.blob, coalesce(j.dry_run, false) FROM job j WHERE j.id = $1::uuid AND j.state = 'running' AND j.lease_by = $2::uuid", 2, params);
	if (s == STATUS_OK && PQntuples(res) == 0)
		s = STATUS_NOT_FOUND;
	if (s == STATUS_OK) {
		j->position = col_i64(res, 0, 0);
		j->total = col_i64(res, 0, 1);
		j->done = col_i64(res, 0, 2);
		j->failed = col_i64(res, 0, 3);
		j->created = col_i64(res, 0, 13);
		j->updated = col_i64(res, 0, 14);
		j->skipped = col_i64(res, 0, 15);
		j->place = col_i64(res, 0, 16);
		j->blob = col_text(call, res, 0, 17);
		j->dry_run = *PQgetvalue(res, 0, 18) == 't';
		*attempts = col_i64(res, 0, 4);
		*kind = col_text(call, res, 0, 5);
		call->who = (struct rpc_principal){ .tenant_id = str_of(c->tenant), .user_id = col_str(call, res, 7), .api_key_id = col_str(call, res, 8), .scope = c->scope };
		call->request_id = col_str(call, res, 9);
		call->dialect = col_str(call, res, 10);
		call->client_ip = col_str(call, res, 11);
		call->user_agent = col_str(call, res, 12);
		call->rpc = str_of(*kind);
		if (!payload_read(call, PQgetvalue(res, 0, 6)))
			s = STATUS_INTERNAL;
	}
	PQclear(res);
	return s;
}

static enum status job_run_step(struct db_conn *db, struct job *j, const char *kind)
{
	for (size_t i = 0; i < jobs.n_kinds; i++)
		if (strcmp(jobs.kinds[i].name, kind) == 0)
			return jobs.kinds[i].step(jobs.kinds[i].arg, db, j);
	return STATUS_NOT_IMPLEMENTED;
}

/* How far it got, in the step's own transaction; the lease begins anew. */
static enum status job_progress(struct db_conn *db, const struct job *j)
{
	struct rpc_call *call = j->call;
	bool end = j->position >= j->total;
	char lease[12];
	const char *const params[] = { j->id, param_i64(call, j->position), param_i64(call, j->done), param_i64(call, j->failed), end ? "done" : "running", lease, jobs.me,
		param_i64(call, j->created), param_i64(call, j->updated), param_i64(call, j->skipped), param_i64(call, j->place) };
	PGresult *res = NULL;
	enum status s;

	snprintf(lease, sizeof(lease), "%d", JOBS_LEASE_S);
	s = db_exec(db, &res,
	    "UPDATE job j SET position = $2::bigint, done = $3::bigint, failed = $4::bigint, created = $8::bigint, updated = $9::bigint, skipped = $10::bigint, place = $11::bigint, state = $5, attempts = 0, version = j.version + 1, updated_at = now(),"
	    " rate = (($3::bigint + $4::bigint) / greatest(extract(epoch FROM clock_timestamp() - j.started_at), 0.001))::bigint,"
	    " finished_at = CASE WHEN $5 = 'done' THEN clock_timestamp() END, payload = CASE WHEN $5 <> 'done' THEN j.payload END, caller = CASE WHEN $5 <> 'done' THEN j.caller END, lease_until = clock_timestamp() + $6::int * interval '1 second'"
	    " WHERE j.id = $1::uuid AND j.state = 'running' AND j.lease_by = $7::uuid RETURNING j.seq, j.version, " JOB_JSON, 11, params);
	if (s == STATUS_OK && PQntuples(res) == 0) /* taken over meanwhile: what this step did is given up */
		s = STATUS_UNAVAILABLE;
	if (s == STATUS_OK && end)
		s = job_event(call, db, "finished", j->id, res);
	PQclear(res);
	return s;
}

static bool may_try_again(enum status s)
{
	return s == STATUS_UNAVAILABLE || s == STATUS_DEADLINE_EXCEEDED;
}

static void job_fail(struct db_conn *db, const struct claim *c, struct rpc_call *call, const char *why)
{
	const char *const params[] = { c->id, jobs.me, why };
	PGresult *res = NULL;
	enum status s = db_begin(db, str_of(c->tenant));

	if (s == STATUS_OK)
		s = db_exec(db, &res,
		    "UPDATE job j SET state = 'failed', error = $3, finished_at = now(), payload = NULL, caller = NULL, version = j.version + 1, updated_at = now()"
		    " WHERE j.id = $1::uuid AND j.state = 'running' AND j.lease_by = $2::uuid RETURNING j.seq, j.version, " JOB_JSON, 3, params);
	if (s == STATUS_OK && PQntuples(res) == 1)
		s = job_event(call, db, "failed", c->id, res);
	PQclear(res);
	if (s == STATUS_OK)
		s = resource_commit(db, call);
	else
		db_rollback(db);
	if (s != STATUS_OK)
		log_warn("JOBS-FAIL", "job %s failed and could not be marked so: %s", c->id, status_name(s));
}

/* One transaction. True: there is more to do. */
static bool step(struct db_conn *db, const struct claim *c)
{
	struct rpc_call call = { 0 };
	struct job j = { .call = &call, .id = c->id };
	const char *kind = "";
	int64_t attempts = 0;
	bool more = false, ours = false;
	enum status s = db_begin(db, str_of(c->tenant));

	if (s == STATUS_OK)
		s = job_lock(db, c, &j, &kind, &attempts);
	ours = s == STATUS_OK;
	if (ours)
		s = attempts > JOBS_MAX_ATTEMPTS ? STATUS_INTERNAL : job_run_step(db, &j, kind);
	if (s == STATUS_OK)
		s = job_progress(db, &j);
	if (s == STATUS_OK)
		s = resource_commit(db, &call);
	else
		db_rollback(db);
	if (s == STATUS_OK) {
		more = j.position < j.total;
		count_step("done", 1);
	} else if (ours && !may_try_again(s)) {
		log_warn("JOBS-STEP", "job %s (%s) failed: %s", c->id, kind, status_name(s));
		job_fail(db, c, &call, attempts > JOBS_MAX_ATTEMPTS ? "It was begun several times and never got on" : status_text(s));
		count_step("failed", 1);
	} else if (ours) {
		count_step("again", 1);
	}
	arena_fini(&call.arena);
	return more;
}

/* On a worker that is at it anyway, now and then. */
static void measure(struct db_conn *db)
{
	static int64_t next; /* one at a time: jobs.busy */
	PGresult *res = NULL;

	if (clock_mono_us() < next)
		return;
	next = clock_mono_us() + MEASURE_US;
	if (db_begin(db, (struct str){ 0 }) == STATUS_OK && db_exec(db, &res, "SELECT q.queued, q.running, q.oldest_seconds FROM job_queue() q", 0, NULL) == STATUS_OK) {
		metric_set(metric_series(&queued), col_i64(res, 0, 0));
		metric_set(metric_series(&running), col_i64(res, 0, 1));
		metric_set(metric_series(&oldest), col_i64(res, 0, 2));
	}
	PQclear(res);
	db_rollback(db);
}

static void run_all(struct db_conn *db, void *arg)
{
	struct claim c;

	measure(db);
	while (!atomic_load(&jobs.stopping) && claim_next(db, &c)) {
		db_limit(db, c.scope);
		while (!atomic_load(&jobs.stopping) && step(db, &c))
			;
		db_limit(db, (struct str){ 0 });
		arena_fini(&c.arena);
	}
	atomic_store(&jobs.busy, false);
}

void jobs_poke(void)
{
	if (!jobs.db || atomic_load(&jobs.stopping) || !resource_ready() || atomic_exchange(&jobs.busy, true))
		return;
	if (!db_work(jobs.db, run_all, NULL))
		atomic_store(&jobs.busy, false);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	jobs_poke();
}

void jobs_start(struct event_base *base, struct db *db, const char *schema_name)
{
	const struct timeval every = { .tv_usec = LOOK_MS * 1000 };

	metric_register(&queued);
	metric_register(&running);
	metric_register(&oldest);
	count_step("done", 0);
	count_step("again", 0);
	count_step("failed", 0);
	uuid7(jobs.me);
	jobs.schema = schema_name;
	jobs.db = db;
	atomic_store(&jobs.stopping, false);
	jobs.timer = event_new(base, -1, EV_PERSIST, on_timer, NULL);
	event_add(jobs.timer, &every);
}

/* The step that runs is finished by its worker; what is left is taken over when the lease is over. */
void jobs_stop(void)
{
	atomic_store(&jobs.stopping, true);
	if (jobs.timer)
		event_free(jobs.timer);
	jobs.timer = NULL;
}
