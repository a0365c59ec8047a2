/*
 * The feed: events of each tenant in order, kept 7 days, read by position (docs/events.md, docs/adr/0011-feed.md).
 * feed_store.c writes it, feed.c answers Feed.Read and Feed.Moved, feed_rules.c says who may see what.
 */
#ifndef CRM_SVC_AUDIT_FEED_H
#define CRM_SVC_AUDIT_FEED_H

#include <libpq-fe.h>

#include "rpc/rpc.h"
#include "schema/schema.h"

struct event;

/* consumer_config.handle: appends the events of one tenant to its feed. */
enum status feed_append(void *arg, PGconn *conn, const struct event *const *events, size_t n) MUST_CHECK;

/* Which permission an entity's events need, from the contracts of all services (<dir>/<name>.pb). Exits when they cannot be read. */
struct feed_rules;
struct feed_rules *feed_rules_load(const char *descriptor_dir);
/* The same from a loaded schema. */
struct feed_rules *feed_rules_of(const struct schema *s);
void feed_rules_free(struct feed_rules *r);
/*
 * What who may see, as a condition: with everything_else the entities that are not in the list, else those that are.
 * The words are a PostgreSQL array in the arena.
 */
struct feed_sight {
	bool everything_else;
	const char *words;
};
struct feed_sight feed_sight(const struct feed_rules *r, const struct rpc_principal *who, struct arena *a);

/* A cursor: a position and a mark of the event that stands there. 18 characters. */
#define FEED_CURSOR_MAX 24
void feed_cursor_print(int64_t position, const uint8_t event_id[16], char out[FEED_CURSOR_MAX]); /* event_id NULL: none is there */
bool feed_cursor_read(struct str text, int64_t *position, uint8_t mark[4]);

/* The consumer, and every 10 minutes the removal of what is old; loop thread. */
struct service_settings;
struct db;
struct event_base;
void feed_start(const struct service_settings *s, struct event_base *base, struct db *db);
void feed_stop(void);
struct consumer *feed_consumer(void); /* NULL: it does not run */

/* Before the first call; rules are kept. */
void feed_open(const struct feed_rules *rules);
/* OP_LOOP. */
void feed_read(struct rpc_call *call);
void feed_moved(struct rpc_call *call);

#endif
