/* The event bus: picks the driver by URL and checks what both drivers rely on. */
#include "events/bus.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/log.h"
#include "db/db.h"
#include "events/bus_driver.h"

struct bus_producer {
	const struct bus_driver *driver;
	void *impl;
};

struct bus_consumer {
	const struct bus_driver *driver;
	void *impl;
	size_t n_polled; /* records of the last poll */
};

bool bus_is_postgres(const char *url)
{
	return !str_starts(str_of(url), STR("kafka://"));
}

static const struct bus_driver *driver_of(const char *url)
{
	return bus_is_postgres(url) ? &bus_postgres_driver : &bus_kafka_driver;
}

enum status bus_topic_create(const char *url, const char *topic)
{
	return driver_of(url)->topic_create(url, topic);
}

struct bus_producer *bus_producer_new(const char *url)
{
	struct bus_producer *p = xcalloc(1, sizeof *p);

	p->driver = driver_of(url);
	p->impl = p->driver->producer_new(url);
	return p;
}

static bool record_is_valid(const struct bus_record *r)
{
	return r->topic && *r->topic && r->key.n && r->event_id.n && r->value.n <= BUS_MAX_VALUE && r->n_headers <= BUS_MAX_HEADERS;
}

enum status bus_producer_publish(struct bus_producer *p, const struct bus_record *records, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (!record_is_valid(&records[i])) {
			log_error("BUS-RECORD-INVALID", "record %.*s of topic %s breaks a limit of the bus", STR_FMT(records[i].event_id),
			    records[i].topic ? records[i].topic : "(none)");
			return STATUS_BAD_REQUEST;
		}
	}
	return n ? p->driver->publish(p->impl, records, n) : STATUS_OK;
}

void bus_producer_free(struct bus_producer *p)
{
	if (!p)
		return;
	p->driver->producer_free(p->impl);
	free(p);
}

struct bus_consumer *bus_consumer_new(const char *url, const char *group, const char *const *topics, size_t n_topics)
{
	struct bus_consumer *c = xcalloc(1, sizeof *c);

	c->driver = driver_of(url);
	c->impl = c->driver->consumer_new(url, group, topics, n_topics);
	return c;
}

enum status bus_consumer_poll(struct bus_consumer *c, int timeout_ms, size_t max, const struct bus_message **messages, size_t *n)
{
	enum status s;

	*n = 0;
	s = c->driver->poll(c->impl, timeout_ms, max < BUS_MAX_BATCH ? max : BUS_MAX_BATCH, messages, n);
	c->n_polled = s == STATUS_OK ? *n : 0;
	return s;
}

enum status bus_consumer_commit(struct bus_consumer *c, size_t n)
{
	if (n > c->n_polled)
		return STATUS_BAD_REQUEST;
	return n ? c->driver->commit(c->impl, n) : STATUS_OK;
}

void bus_consumer_rewind(struct bus_consumer *c)
{
	c->n_polled = 0;
	c->driver->rewind(c->impl);
}

void bus_consumer_free(struct bus_consumer *c)
{
	if (!c)
		return;
	c->driver->consumer_free(c->impl);
	free(c);
}

void bus_migrate(const char *owner_url, const char *dir)
{
	db_migrate(owner_url, "bus", dir);
}
