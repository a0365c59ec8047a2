/* Waits for the migrations that this program needs, and watches that none comes which it cannot live with. */
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

#define ASK_S 1
#define ASK_AGAIN_S 5 /* a newer program may have contracted the schema */
enum { COMMON, OWN, KINDS };

struct ready {
	struct event *timer;
	struct db *db;
	struct arena arena;
	const char *const *names[KINDS];
	int n[KINDS];
	void (*complete)(void *arg);
	void *arg;
	bool done;
	const char *state;
	char have[64], why[200];
	int floor[KINDS]; /* oldest program that the schema still fits */
};

static void ask_later(struct ready *r)
{
	struct timeval t = { r->done ? ASK_AGAIN_S : ASK_S, 0 };

	evtimer_add(r->timer, &t);
}

/* -- what the table of migrations says */

static bool is_applied(const PGresult *rows, const char *name)
{
	for (int i = 0; i < PQntuples(rows); i++) {
		if (str_eq(row_text(rows, i, 0), str_of(name)))
			return true;
	}
	return false;
}

static const char *first_missing(const struct ready *r, const PGresult *rows)
{
	for (int d = 0; d < KINDS; d++) {
		for (int i = 0; i < r->n[d]; i++) {
			if (!is_applied(rows, r->names[d][i]))
				return r->names[d][i];
		}
	}
	return NULL;
}

static int known_to(const struct ready *r, int kind)
{
	return r->n[kind] ? migrate_number(r->names[kind][r->n[kind] - 1]) : 0;
}

/* Rows are in the order of names: the last one of a kind is the newest. */
static void read_rows(struct ready *r, const PGresult *rows)
{
	r->have[0] = 0;
	r->floor[COMMON] = r->floor[OWN] = 0;
	for (int i = 0; i < PQntuples(rows); i++) {
		struct str name = row_text(rows, i, 0);
		int64_t floor = row_i64(rows, i, 1);
		int kind = name.n > 3 && migrate_number(name.p) >= MIGRATE_COMMON_END ? OWN : COMMON;

		snprintf(r->have, sizeof(r->have), "%.*s", (int)name.n, name.p);
		if (floor > r->floor[kind])
			r->floor[kind] = (int)floor;
	}
	metric_set(metric_series(&version), *r->have ? migrate_number(r->have) : 0);
}

static const char *judge(struct ready *r, const PGresult *rows, char *why, size_t size)
{
	const char *missing = first_missing(r, rows);

	why[0] = 0;
	if (missing) {
		snprintf(why, size, "migration missing: %.100s", missing);
		return "behind";
	}
	for (int kind = 0; kind < KINDS; kind++) {
		if (r->floor[kind] <= known_to(r, kind))
			continue;
		snprintf(why, size, "the schema is too new: it takes a program that knows migration %03d or later, this one knows %03d", r->floor[kind], known_to(r, kind));
		return "too new";
	}
	return known_to(r, OWN) < migrate_number(r->have[0] ? r->have : "000") ? "ahead" : "current";
}

/* Said once each time that it changes. */
static void set_state(struct ready *r, const char *state, const char *why)
{
	bool news = strcmp(r->why, why) != 0;

	r->state = state;
	snprintf(r->why, sizeof(r->why), "%s", why);
	if (news && *why)
		log_warn("SERVICE-SCHEMA", "%s%s", why, strcmp(state, "behind") == 0 ? "; run `migrate`" : "");
	else if (news)
		log_info("SERVICE-SCHEMA", "migrations are complete");
}

static void on_names(void *arg, const struct db_result *res)
{
	struct ready *r = arg;
	const char *state;
	char why[200];

	if (res->status == STATUS_OK) {
		read_rows(r, res->res[0]);
		state = judge(r, res->res[0], why, sizeof(why));
		set_state(r, state, why);
		if (!*why && !r->done) {
			r->done = true;
			r->complete(r->arg);
		}
	}
	ask_later(r);
}

/* -- asking */

static void ask(struct ready *r, struct str sql, db_done done)
{
	struct db_stmt s = { .sql = sql };

	db_submit(r->db, DB_READ, STR(""), &s, 1, clock_us() + 5000000, done, r);
}

/* The column is there from the first `migrate` of a program that knows it. */
static void ask_names(struct ready *r)
{
	ask(r, STR("SELECT name, coalesce((to_jsonb(m)->>'oldest_program')::bigint, 0) FROM migration m ORDER BY name"), on_names);
}

/* An empty database has no such table: not worth an error in the log each second. */
static void on_table(void *arg, const struct db_result *res)
{
	struct ready *r = arg;

	if (res->status == STATUS_OK && row_bool(res->res[0], 0, 0)) {
		ask_names(r);
		return;
	}
	if (res->status == STATUS_OK)
		set_state(r, "behind", "migration missing: all");
	ask_later(r);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct ready *r = arg;

	if (!db_healthy(r->db))
		ask_later(r);
	else if (r->done)
		ask_names(r);
	else
		ask(r, STR("SELECT to_regclass('migration') IS NOT NULL"), on_table);
}

struct ready *ready_new(struct event_base *base, struct db *db, const char *common_dir, const char *dir, void (*complete)(void *arg), void *arg)
{
	struct ready *r = xcalloc(1, sizeof(*r));
	struct timeval soon = { 0, 100000 };

	r->db = db;
	r->complete = complete;
	r->arg = arg;
	r->n[COMMON] = migrate_files(&r->arena, common_dir, &r->names[COMMON]);
	r->n[OWN] = migrate_files(&r->arena, dir, &r->names[OWN]);
	if (r->n[COMMON] < 0 || r->n[OWN] < 0)
		log_die("SERVICE-SCHEMA", "cannot read %s", r->n[COMMON] < 0 ? common_dir : dir);
	r->state = "unknown";
	metric_set(metric_series(&known), known_to(r, r->n[OWN] ? OWN : COMMON));
	metric_set(metric_series(&version), 0);
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
	return *r->why ? r->why : NULL;
}

static void put_name(struct buf *out, const char *member, const char *name)
{
	size_t n = strlen(name);

	buf_printf(out, ",\"%s\":", member);
	buf_json_str(out, (struct str){ name, n > 4 ? n - 4 : n }); /* without .sql */
}

void ready_detail(const struct ready *r, struct buf *out)
{
	int newest = r->n[OWN] ? OWN : COMMON;

	buf_printf(out, "\"schema\":{\"state\":\"%s\"", r->state);
	put_name(out, "have", r->have);
	put_name(out, "need", r->n[newest] ? r->names[newest][r->n[newest] - 1] : "");
	if (r->floor[newest])
		buf_printf(out, ",\"oldestProgram\":%d", r->floor[newest]);
	buf_c(out, '}');
}
