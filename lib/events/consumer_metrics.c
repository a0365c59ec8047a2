/* What a consumer has done, as lines of /metrics. */
#include "events/consumer.h"
#include "telemetry/metrics.h"

void consumer_metrics(struct consumer *consumer, struct buf *out)
{
	struct consumer_stats c = consumer_stats(consumer);

	metrics_one(out, "crm_consumer_healthy", "gauge", "1: the last round reached PostgreSQL and the bus", c.healthy);
	metrics_one(out, "crm_consumer_events_total", "counter", "Events whose effect was made", (double)c.events);
	metrics_one(out, "crm_consumer_duplicates_total", "counter", "Events that had been done before", (double)c.duplicates);
	metrics_one(out, "crm_consumer_retries_total", "counter", "Tries of single events that failed", (double)c.retries);
	metrics_one(out, "crm_consumer_dead_letters_total", "counter", "Events that went to a dead-letter topic", (double)c.dead);
	metrics_one(out, "crm_consumer_failures_total", "counter", "Rounds that did not get through", (double)c.failures);
	metrics_one(out, "crm_consumer_lag_seconds", "gauge", "Age of the newest event when its effect was made", c.lag_seconds);
}
