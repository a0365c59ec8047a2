/* What a bus driver gives; for bus.c and the drivers only. */
#ifndef CRM_EVENTS_BUS_DRIVER_H
#define CRM_EVENTS_BUS_DRIVER_H

#include "events/bus.h"

struct bus_driver {
	enum status (*topic_create)(const char *url, const char *topic);
	void *(*producer_new)(const char *url);
	enum status (*publish)(void *p, const struct bus_record *records, size_t n);
	void (*producer_free)(void *p);
	void *(*consumer_new)(const char *url, const char *group, const char *const *topics, size_t n_topics);
	enum status (*poll)(void *c, int timeout_ms, size_t max, const struct bus_message **messages, size_t *n);
	enum status (*commit)(void *c, size_t n);
	void (*rewind)(void *c);
	void (*consumer_free)(void *c);
};

extern const struct bus_driver bus_postgres_driver, bus_kafka_driver;

#endif
