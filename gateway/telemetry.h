/* What the gateway tells of itself: request durations, gauges, the access log. */
#ifndef CRM_GATEWAY_TELEMETRY_H
#define CRM_GATEWAY_TELEMETRY_H

#include "gateway/request.h"

void telemetry_init(bool access_log);
struct route_series *route_series_new(void);
void route_series_clear(struct route_series *s); /* the routes are about to go */
/* When a request is answered, on its worker's thread; bytes of its body. */
void telemetry_answered(struct request *r, int http, uint64_t bytes);
/* A policy refused a request. Both words are of a dialect's file. Any thread. */
void telemetry_limited(const char *dialect, const char *policy);
/* Copies the worker's numbers to where the control thread may read them. */
void telemetry_publish(struct worker *w);
/* Hook of the admin port: gauges and counters of all workers. arg: struct gateway. */
void telemetry_print(void *arg, struct buf *out);

#endif
