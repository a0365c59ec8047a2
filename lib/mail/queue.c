/* A queue of mail and the thread that empties it. */
#include "mail/queue.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/arena.h"
#include "base/log.h"
#include "base/clock.h"
#include "base/wire.h"
#include "telemetry/metrics.h"

#define TURN_MS 500
#define TEMPLATE_MAX 16384
#define TEMPLATES_MAX 16
#define FROM_NAME "CRM"

#define MEASURE_US (10LL * 1000000)

static struct metric sent = { .name = "crm_mail_total", .help = "Tries to send a mail: sent, later (it is tried again) or refused for good", .type = METRIC_COUNTER, .labels = { "outcome" } };
static struct metric waiting = { .name = "crm_mail_waiting", .help = "Mails in the queue, those to be tried again included", .type = METRIC_GAUGE };
static struct metric refused = { .name = "crm_mail_refused", .help = "Mails in the queue that will not be sent", .type = METRIC_GAUGE };
static struct metric oldest = { .name = "crm_mail_oldest_seconds", .help = "Age of the oldest mail that waits; 0: none does", .type = METRIC_GAUGE };

static struct mail_queue_config settings;
static char *texts[TEMPLATES_MAX];
static struct mailer *mailer;
static PGconn *conn;
static pthread_t thread;
static bool running;
static int64_t measure_at; /* monotonic */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;

/* Names and titles come from people: nothing in them may start another line. */
void mail_value_put(struct buf *b, const char *name, const char *value)
{
	struct buf clean = { 0 };

	for (const char *c = value ? value : ""; *c; c++)
		buf_c(&clean, (unsigned char)*c < ' ' || *c == 127 ? ' ' : *c);
	wire_put_bytes(b, 1, str_of(name));
	wire_put_bytes(b, 2, buf_view(&clean));
	buf_fini(&clean);
}

struct letter {
	const char *id, *to, *template;
	struct mail_value values[MAIL_VALUES_MAX];
	size_t n;
};

static bool letter_of_row(struct arena *a, const PGresult *res, struct letter *l)
{
	struct str text;
	struct wire_reader r;
	struct wire_field f;

	*l = (struct letter){ .id = PQgetvalue(res, 0, 0), .to = PQgetvalue(res, 0, 1), .template = PQgetvalue(res, 0, 2) };
	if (!settings.open(a, l->id, str_of(PQgetvalue(res, 0, 3)), &text))
		return false;
	r = wire_read(text);
	while (wire_next(&r, &f)) {
		if (f.type == WIRE_BYTES && f.number == 1 && l->n < MAIL_VALUES_MAX)
			l->values[l->n++].name = arena_strdup(a, f.bytes);
		else if (f.type == WIRE_BYTES && f.number == 2 && l->n)
			l->values[l->n - 1].value = arena_strdup(a, f.bytes);
	}
	return !r.bad;
}

static const char *template_text(const char *name)
{
	for (size_t i = 0; i < settings.n_names; i++) {
		if (strcmp(settings.names[i], name) == 0)
			return texts[i];
	}
	return NULL;
}

static enum mail_outcome deliver(const struct letter *l, char why[MAIL_WHY])
{
	const char *text = template_text(l->template), *bad = NULL;
	struct buf subject = { 0 }, body = { 0 };
	struct mail_message m = { .id = l->id, .from = settings.from, .from_name = FROM_NAME, .to = l->to };
	enum mail_outcome outcome = MAIL_REFUSED;

	if (!text || !mail_fill(str_of(text), l->values, l->n, &subject, &body, &bad)) {
		snprintf(why, MAIL_WHY, "template %s: %s", l->template, bad ? bad : "there is none of that name");
	} else {
		m.subject = buf_view(&subject);
		m.text = buf_view(&body);
		outcome = mail_send(mailer, &m, why);
	}
	buf_fini(&subject);
	buf_fini(&body);
	return outcome;
}

static void count_sent(enum mail_outcome outcome, int64_t n)
{
	static const char *const words[] = { [MAIL_SENT] = "sent", [MAIL_LATER] = "later", [MAIL_REFUSED] = "refused" };

	metric_add(metric_series(&sent, str_of(words[outcome])), n);
}

static void settle(PGconn *db, const struct letter *l, enum mail_outcome outcome, const char *why)
{
	/* 10 s, 20 s, 40 s … 1 h: a server that is down for a weekend loses nothing */
	static const char *const sql[] = {
		[MAIL_SENT] = "DELETE FROM mail_queue WHERE id = $1::uuid",
		[MAIL_LATER] = "UPDATE mail_queue SET tries = tries + 1, due_at = now() + least(3600, 10 * 2 ^ least(tries, 12)) * interval '1 second' WHERE id = $1::uuid",
		[MAIL_REFUSED] = "UPDATE mail_queue SET tries = tries + 1, refused_at = now() WHERE id = $1::uuid",
	};

	PQclear(PQexecParams(db, sql[outcome], 1, NULL, &l->id, NULL, NULL, 0));
	count_sent(outcome, 1);
	if (outcome == MAIL_LATER)
		log_warn("MAIL-LATER", "mail %s (%s) waits: %s", l->id, l->template, why);
	else if (outcome == MAIL_REFUSED)
		log_error("MAIL-REFUSED", "mail %s (%s) will not be sent: %s", l->id, l->template, why);
}

/* The row stays locked while the server is asked, so of several instances one sends it. */
bool mail_queue_turn(PGconn *db)
{
	char why[MAIL_WHY] = "it cannot be unsealed";
	struct arena a = { 0 };
	enum mail_outcome outcome = MAIL_REFUSED;
	struct letter l;
	PGresult *res;
	bool found;

	PQclear(PQexec(db, "BEGIN"));
	res = PQexec(db, "SELECT id, recipient, template, sealed FROM mail_queue WHERE refused_at IS NULL AND due_at <= now()"
			 " ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED");
	found = PQresultStatus(res) == PGRES_TUPLES_OK && PQntuples(res) == 1;
	if (found) {
		if (letter_of_row(&a, res, &l))
			outcome = deliver(&l, why);
		settle(db, &l, outcome, why);
	}
	PQclear(res);
	res = PQexec(db, "COMMIT");
	found = found && PQresultStatus(res) == PGRES_COMMAND_OK;
	PQclear(res);
	arena_fini(&a);
	return found;
}

/* -- the thread */

static bool connected(void)
{
	if (conn && PQstatus(conn) == CONNECTION_OK)
		return true;
	PQfinish(conn);
	conn = PQconnectdb(settings.database_url);
	return PQstatus(conn) == CONNECTION_OK;
}

static bool rest(void)
{
	struct timespec until;
	bool on;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += TURN_MS * 1000000L;
	until.tv_sec += until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	pthread_mutex_lock(&lock);
	if (running)
		pthread_cond_timedwait(&wake, &lock, &until);
	on = running;
	pthread_mutex_unlock(&lock);
	return on;
}

static void set_cell(struct metric *m, const PGresult *res, int column)
{
	int64_t n = 0;

	if (str_to_i64(str_of(PQgetvalue(res, 0, column)), &n))
		metric_set(metric_series(m), n);
}

static void measure(PGconn *db)
{
	PGresult *res;

	if (clock_mono_us() < measure_at)
		return;
	measure_at = clock_mono_us() + MEASURE_US;
	res = PQexec(db, "SELECT count(*) FILTER (WHERE refused_at IS NULL), count(*) FILTER (WHERE refused_at IS NOT NULL),"
			 " coalesce(extract(epoch FROM now() - min(created_at) FILTER (WHERE refused_at IS NULL))::bigint, 0) FROM mail_queue");
	if (PQresultStatus(res) == PGRES_TUPLES_OK) {
		set_cell(&waiting, res, 0);
		set_cell(&refused, res, 1);
		set_cell(&oldest, res, 2);
	}
	PQclear(res);
}

static void *loop(void *unused)
{
	while (rest()) {
		bool on = true;

		if (connected())
			measure(conn);
		while (on && connected() && mail_queue_turn(conn)) {
			pthread_mutex_lock(&lock);
			on = running;
			pthread_mutex_unlock(&lock);
		}
	}
	return NULL;
}

static char *load(const char *dir, const char *name)
{
	struct buf path = { 0 };
	char *text = xcalloc(1, TEMPLATE_MAX + 1);
	size_t n = 0;
	FILE *f;

	buf_printf(&path, "%s/%s.txt", dir, name);
	f = fopen(buf_cstr(&path), "re");
	if (f) {
		n = fread(text, 1, TEMPLATE_MAX, f);
		fclose(f);
	}
	if (n == 0 || n == TEMPLATE_MAX)
		log_die("MAIL-TEMPLATE", "%s cannot be read, is empty or too long", buf_cstr(&path));
	buf_fini(&path);
	return text;
}

void mail_queue_init(const struct mail_queue_config *c)
{
	const char *why = NULL;

	settings = *c;
	if (c->n_names > TEMPLATES_MAX)
		log_die("MAIL-TEMPLATE", "more than %d templates", TEMPLATES_MAX);
	if (!mail_address_ok(c->from))
		log_die("MAIL-FROM", "MAIL_FROM=%s is no address", c->from);
	mailer = mail_open(c->mail_url, &why);
	if (!mailer)
		log_die("MAIL-URL", "MAIL_URL: %s", why);
	for (size_t i = 0; i < c->n_names; i++)
		texts[i] = load(c->templates, c->names[i]);
	for (enum mail_outcome o = MAIL_SENT; o <= MAIL_REFUSED; o++)
		count_sent(o, 0);
	metric_register(&waiting);
	metric_register(&refused);
	metric_register(&oldest);
}

void mail_queue_start(const struct mail_queue_config *c)
{
	mail_queue_init(c);
	running = true;
	if (pthread_create(&thread, NULL, loop, NULL))
		log_die("MAIL-THREAD", "cannot start the mail thread");
}

void mail_queue_stop(void)
{
	bool was;

	pthread_mutex_lock(&lock);
	was = running;
	running = false;
	pthread_cond_signal(&wake);
	pthread_mutex_unlock(&lock);
	if (was)
		pthread_join(thread, NULL);
	PQfinish(conn);
	conn = NULL;
	mail_close(mailer);
	mailer = NULL;
	for (size_t i = 0; i < settings.n_names; i++) {
		free(texts[i]);
		texts[i] = NULL;
	}
}
