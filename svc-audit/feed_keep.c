/* The feed's consumer, its numbers, and the removal of what is older than 7 days. */
#include "base/log.h"
#include "events/consumer.h"
#include "svc-audit/audit.h"
#include "svc-audit/feed.h"

#define EXPIRE_EVERY_S 600
#define EXPIRE_AGAIN_S 1    /* when a batch was full */
#define EXPIRE_BATCH 10000  /* of feed_expire() */

static struct {
	struct consumer *consumer;
	struct feed_rules *rules;
	struct db *db;
	struct event *expire;
} me;

static void expire_in(long seconds)
{
	struct timeval tv = { .tv_sec = seconds };

	if (me.expire)
		event_add(me.expire, &tv);
}

static void on_expired(void *arg, const struct db_result *r)
{
	bool full = r->status == STATUS_OK && PQntuples(r->res[0]) == 1 && str_eq(str_of(PQgetvalue(r->res[0], 0, 0)), STR("t"));

	if (r->status != STATUS_OK)
		log_warn("FEED-EXPIRE", "old events stay for now: %s", status_name(r->status));
	expire_in(full ? EXPIRE_AGAIN_S : EXPIRE_EVERY_S);
}

static void on_expire(evutil_socket_t fd, short what, void *arg)
{
	struct db_stmt stmt = { .sql = STR("SELECT CASE WHEN feed_expire() >= 10000 THEN 't' ELSE 'f' END") };

	_Static_assert(EXPIRE_BATCH == 10000, "the statement says it again");
	db_submit(me.db, DB_WRITE, (struct str){ "", 0 }, &stmt, 1, 0, on_expired, NULL);
}

/* A consumer of its own: what holds up the chain (a lock, a slow disk) does not hold up the feed, and the other way round. */
void feed_start(const struct service_settings *s, struct event_base *base, struct db *db)
{
	me.db = db;
	me.rules = feed_rules_load(s->descriptor_dir);
	feed_open(me.rules);
	me.expire = event_new(base, -1, 0, on_expire, NULL);
	expire_in(EXPIRE_EVERY_S);
	me.consumer = consumer_start(&(struct consumer_config){
		.name = "feed",
		.bus_url = s->bus_url,
		.database_url = s->database_url,
		.schema = "audit",
		.topics = audit_topics,
		.n_topics = audit_n_topics,
		.handle = feed_append,
	});
}

/* The rules stay: calls that are under way use them. */
void feed_stop(void)
{
	consumer_stop(me.consumer);
	me.consumer = NULL;
	if (me.expire)
		event_free(me.expire);
	me.expire = NULL;
}

struct consumer *feed_consumer(void)
{
	return me.consumer;
}
