/*
 * Traces leave the process: settings by OpenTelemetry's names, the same in every program, and the thread that sends.
 *
 * Spans go in batches to <endpoint>/v1/traces. A collector that is away, or says 429, 502, 503 or 504, is asked again after what it says in
 * Retry-After, else after 1, 2, 4, 8 s; the batch that is under way waits, later spans fill the ring and are dropped and counted beyond
 * it. Memory is bounded by OTEL_BSP_MAX_QUEUE_SIZE spans and one encoded batch.
 */
#ifndef CRM_TELEMETRY_TRACE_EXPORT_H
#define CRM_TELEMETRY_TRACE_EXPORT_H

#include "base/settings.h"

/* For --help of each program; trace_start reads them itself. */
extern const struct setting trace_settings_rows[];
extern const size_t trace_settings_n;

/* Reads the settings and, when there is an endpoint, starts the thread. Before other threads begin. Exits when a setting is wrong. */
void trace_start(const char *service);
/* Sends what is there, for at most a second and a half (three when the collector keeps silent), and ends the thread. Nothing when it does not run. */
void trace_stop(void);

/* Does a sampled statement carry the trace in a comment? (TRACE_SQL_COMMENT) */
extern bool trace_sql_comment;

#endif
