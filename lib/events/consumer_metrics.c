/* What the consumers of a program have done, as lines of /metrics. */
#include <stddef.h>

#include "events/consumer.h"
#include "telemetry/metrics.h"

#define CONSUMERS_MAX 4

static void family(struct buf *out, const struct consumer_stats *rows, size_t n, const char *name, const char *help, size_t offset)
{
	metrics_head(out, name, "counter", help);
	for (size_t i = 0; i < n; i++)
		metrics_line(out, name, "consumer", str_of(rows[i].name), (double)*(const uint64_t *)(const void *)((const char *)&rows[i] + offset));
}

void consumers_metrics(struct consumer *const *consumers, size_t n, struct buf *out)
{
	struct consumer_stats rows[CONSUMERS_MAX] = { 0 };

	n = n < CONSUMERS_MAX ? n : CONSUMERS_MAX;
	for (size_t i = 0; i < n; i++)
		rows[i] = consumer_stats(consumers[i]);
#define AT(member) offsetof(struct consumer_stats, member)
	family(out, rows, n, "crm_consumer_events_total", "Events whose effect was made", AT(events));
	family(out, rows, n, "crm_consumer_duplicates_total", "Events that had been done before", AT(duplicates));
	family(out, rows, n, "crm_consumer_retries_total", "Tries of single events that failed", AT(retries));
	family(out, rows, n, "crm_consumer_dead_letters_total", "Events that went to a dead-letter topic", AT(dead));
	family(out, rows, n, "crm_consumer_failures_total", "Rounds that did not get through", AT(failures));
#undef AT
	metrics_head(out, "crm_consumer_healthy", "gauge", "1: the last round reached PostgreSQL and the bus");
	for (size_t i = 0; i < n; i++)
		metrics_line(out, "crm_consumer_healthy", "consumer", str_of(rows[i].name), rows[i].healthy);
	metrics_head(out, "crm_consumer_lag_seconds", "gauge", "Age of the oldest event that was read and is not done; 0: nothing waits");
	for (size_t i = 0; i < n; i++)
		metrics_line(out, "crm_consumer_lag_seconds", "consumer", str_of(rows[i].name), rows[i].lag_seconds);
}
