/* Waits for the migrations this program needs. */
#include "service/ready.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "db/migrate.h"
#include "db/row.h"
#include "telemetry/metrics.h"

static struct metric version = { .name = "crm_schema_version", .help = "Number of the newest migration that the database has; 0: not looked at yet", .type = METRIC_GAUGE };
static struct metric known = { .name = "crm_schema_version_known", .help = "Number of the newest migration that this program knows", .type = METRIC_GAUGE };

struct ready {
	struct event *timer;
	struct db *db;
	struct arena arena;
	const char *const *names[2];
	int n[2];
	void (*complete)(void *arg);
	void *arg;
	bool done, told;
	char why[160];
};

static void ask_later(struct ready *r, long seconds)
{
	struct timeval t = { seconds, 0 };

	evtimer_add(r->timer, &t);
}

static bool is_applied(const PGresult *rows, const char *name)
{
	for (int i = 0; i < PQntuples(rows); i++) {
		if (str_eq(row_text(rows, i, 0), str_of(name)))
			return true;
	}
	return false;
}

/* 141 of 141_partitions.sql. */
static int64_t number_of(struct str name)
{
	const char *end = memchr(name.p, '_', name.n);
	int64_t n;

	return end && str_to_i64((struct str){ name.p, (size_t)(end - name.p) }, &n) ? n : 0;
}

static void note_version(const PGresult *rows)
{
	int64_t newest = 0;

	for (int i = 0; i < PQntuples(rows); i++) {
		int64_t n = number_of(row_text(rows, i, 0));

		newest = n > newest ? n : newest;
	}
	metric_set(metric_series(&version), newest);
}

static void note_known(const struct ready *r)
{
	int64_t newest = 0;

	for (int d = 0; d < 2; d++) {
		for (int i = 0; i < r->n[d]; i++) {
			int64_t n = number_of(str_of(r->names[d][i]));

			newest = n > newest ? n : newest;
		}
	}
	metric_set(metric_series(&known), newest);
	metric_set(metric_series(&version), 0);
}

static const char *first_missing(const struct ready *r, const PGresult *rows)
{
	for (int d = 0; d < 2; d++) {
		for (int i = 0; i < r->n[d]; i++) {
			if (!is_applied(rows, r->names[d][i]))
				return r->names[d][i];
		}
	}
	return NULL;
}

static void not_yet(struct ready *r, const char *missing)
{
	snprintf(r->why, sizeof(r->why), "migration missing: %.100s", missing);
	if (!r->told)
		log_warn("SERVICE-SCHEMA", "%s; run `migrate`", r->why);
	r->told = true;
}

static void on_names(void *arg, const struct db_result *res)
{
	struct ready *r = arg;
	const char *missing;

	if (res->status != STATUS_OK) {
		ask_later(r, 1);
		return;
	}
	note_version(res->res[0]);
	missing = first_missing(r, res->res[0]);
	if (missing) {
		not_yet(r, missing);
		ask_later(r, 1);
		return;
	}
	r->done = true;
	log_info("SERVICE-SCHEMA", "migrations are complete");
	r->complete(r->arg);
}

static void ask(struct ready *r, struct str sql, db_done done)
{
	struct db_stmt s = { .sql = sql };

	db_submit(r->db, DB_READ, STR(""), &s, 1, clock_us() + 5000000, done, r);
}

/* An empty database has no such table: not worth an error in the log each second. */
static void on_table(void *arg, const struct db_result *res)
{
	struct ready *r = arg;

	if (res->status == STATUS_OK && row_bool(res->res[0], 0, 0)) {
		ask(r, STR("SELECT name FROM migration"), on_names);
		return;
	}
	if (res->status == STATUS_OK)
		not_yet(r, "all");
	ask_later(r, 1);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct ready *r = arg;

	if (db_healthy(r->db))
		ask(r, STR("SELECT to_regclass('migration') IS NOT NULL"), on_table);
	else
		ask_later(r, 1);
}

struct ready *ready_new(struct event_base *base, struct db *db, const char *common_dir, const char *dir, void (*complete)(void *arg), void *arg)
{
	struct ready *r = xcalloc(1, sizeof(*r));
	struct timeval soon = { 0, 100000 };

	r->db = db;
	r->complete = complete;
	r->arg = arg;
	r->n[0] = migrate_files(&r->arena, common_dir, &r->names[0]);
	r->n[1] = migrate_files(&r->arena, dir, &r->names[1]);
	if (r->n[0] < 0 || r->n[1] < 0)
		log_die("SERVICE-SCHEMA", "cannot read %s", r->n[0] < 0 ? common_dir : dir);
	note_known(r);
	snprintf(r->why, sizeof(r->why), "migrations not checked yet");
	r->timer = evtimer_new(base, on_timer, r);
	evtimer_add(r->timer, &soon);
	return r;
}

/* After db_free: no answer is outstanding then. */
void ready_free(struct ready *r)
{
	event_free(r->timer);
	arena_fini(&r->arena);
	free(r);
}

const char *ready_why_not(const struct ready *r)
{
	return r->done ? NULL : r->why;
}
