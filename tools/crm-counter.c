/*
 * A consumer that counts, for `make chaos` and `make bench`: every event becomes a row of <schema>.effect, in the transaction of its inbox.
 *
 *   crm-counter NAME BUS_URL DATABASE_URL SCHEMA TOPIC...     runs until it is killed; SCHEMA has the tables inbox and effect
 *
 * The table has no key, so that an effect that is made twice is there twice.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "events/consumer.h"
#include "events/pgconn.h"

static char sql[400];

static void number_add(struct buf *b, int64_t v)
{
	buf_printf(b, "%s%lld", b->n ? "," : "{", (long long)v);
}

static void text_add(struct buf *b, struct str s)
{
	buf_z(b, b->n ? "," : "{");
	if (s.n)
		buf_json_str(b, s);
	else
		buf_z(b, "NULL");
}

enum { IDS, SOURCES, ENTITIES, VERSIONS, NUMBERS, TIMES, N_COLUMNS };

static enum status handle(void *arg, PGconn *c, const struct event *const *events, size_t n)
{
	struct buf columns[N_COLUMNS] = { { 0 } };
	const char *params[N_COLUMNS];
	enum status s;

	for (size_t i = 0; i < n; i++) {
		text_add(&columns[IDS], events[i]->id);
		text_add(&columns[SOURCES], events[i]->source);
		text_add(&columns[ENTITIES], events[i]->entity_id);
		number_add(&columns[VERSIONS], (int64_t)events[i]->version);
		number_add(&columns[NUMBERS], events[i]->stream_seq);
		number_add(&columns[TIMES], events[i]->time_us);
	}
	for (int k = 0; k < N_COLUMNS; k++) {
		buf_c(&columns[k], '}');
		params[k] = buf_cstr(&columns[k]);
	}
	s = pgconn_exec(c, NULL, sql, N_COLUMNS, params);
	for (int k = 0; k < N_COLUMNS; k++)
		buf_fini(&columns[k]);
	return s;
}

int main(int argc, char **argv)
{
	if (argc < 6) {
		fprintf(stderr, "usage: crm-counter NAME BUS_URL DATABASE_URL SCHEMA TOPIC...\n");
		return 2;
	}
	log_init("crm-counter", "json", "info");
	signal(SIGPIPE, SIG_IGN);
	snprintf(sql, sizeof sql,
	    "INSERT INTO %s.effect (event_id, source, entity_id, version, stream_seq, time_us)"
	    " SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[])", argv[4]);
	consumer_start(&(struct consumer_config){ .name = argv[1], .bus_url = argv[2], .database_url = argv[3], .schema = argv[4],
	    .topics = (const char *const *)argv + 5, .n_topics = (size_t)argc - 5, .handle = handle });
	for (;;)
		pause();
}
