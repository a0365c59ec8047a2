/*
 * The event bus: an ordered, durable log of records in topics, read by groups that each remember how far they are.
 *
 * Two drivers, chosen by URL:
 *   kafka://host:port[,host:port][?partitions=4&replication=1]   Apache Kafka through librdkafka
 *   anything else                                                a libpq connection string, tables in schema bus
 * Both: at least once, order kept per key within a topic, records kept 7 days.
 *
 * Threading: a producer or consumer belongs to one thread at a time. Nothing here is for the event loop: calls block.
 */
#ifndef CRM_EVENTS_BUS_H
#define CRM_EVENTS_BUS_H

#include "base/status.h"
#include "base/str.h"

#define BUS_MAX_BATCH 500
#define BUS_MAX_HEADERS 32
#define BUS_MAX_VALUE (4 << 20)

struct bus_header {
	const char *name;
	struct str value;
};

struct bus_record {
	const char *topic;
	struct str key;      /* records of one key keep their order */
	struct str event_id; /* UUID text */
	struct str value;
	const struct bus_header *headers;
	size_t n_headers;    /* at most BUS_MAX_HEADERS */
};

/* Where a record is. Kafka: partition and offset; PostgreSQL: transaction and number. For people and for the dlq. */
struct bus_position {
	int64_t major, minor;
};

struct bus_message {
	struct bus_record record;
	struct bus_position position;
};

/* Makes the topic when it is not there yet. UNAVAILABLE: try again. */
enum status bus_topic_create(const char *url, const char *topic) MUST_CHECK;

struct bus_producer;
struct bus_producer *bus_producer_new(const char *url);
/* Blocks until every record is durable. Not OK: some may be; publish all of them again (UNAVAILABLE: later). */
enum status bus_producer_publish(struct bus_producer *p, const struct bus_record *records, size_t n) MUST_CHECK;
void bus_producer_free(struct bus_producer *p);

struct bus_consumer;
/* A new group starts at the oldest record. Strings are copied. */
struct bus_consumer *bus_consumer_new(const char *url, const char *group, const char *const *topics, size_t n_topics);
/*
 * Waits up to timeout_ms for records and gives up to max (at most BUS_MAX_BATCH) of them; OK with *n = 0 when there are
 * none. They live until the next poll, rewind or free. Records that were not committed come again only after a rewind,
 * after a broken connection, or in a new consumer.
 */
enum status bus_consumer_poll(struct bus_consumer *c, int timeout_ms, size_t max, const struct bus_message **messages, size_t *n) MUST_CHECK;
/* The first n records of the last poll are done. Call it after their effect is durable. */
enum status bus_consumer_commit(struct bus_consumer *c, size_t n) MUST_CHECK;
/* Goes back to what was committed. */
void bus_consumer_rewind(struct bus_consumer *c);
void bus_consumer_free(struct bus_consumer *c);

/* True when the URL is a PostgreSQL one. */
bool bus_is_postgres(const char *url);
/* Migrates the schema of the PostgreSQL bus (dir: lib/events/schema/bus). Exits when it cannot. */
void bus_migrate(const char *owner_url, const char *dir);

#endif
