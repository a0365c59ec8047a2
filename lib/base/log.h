/*
 * One line per event on stderr: JSON (log collectors) or coloured text (a terminal).
 *
 * Context travels per thread: log_context sets the ids that every line of this thread carries until it is set again (work that is
 * put aside takes them along: telemetry/context.h). Never log a secret, a token, a body or personal data: ids only.
 * Rate: at most LOG_MAX_PER_SECOND lines a second per process; the rest is counted and reported. The access log is not
 * limited: requests are.
 */
#ifndef CRM_BASE_LOG_H
#define CRM_BASE_LOG_H

#include "base/str.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* format: "json", "text" or "auto" (text on a terminal). level: "debug", "info", "warn", "error". Call once at start. */
void log_init(const char *service, const char *format, const char *level);

/* Ids of the request this thread works on; slices are copied. traceparent: W3C, "00-<trace>-<span>-<flags>"; what is none is left out. */
void log_context(struct str traceparent, struct str request_id, struct str tenant_id);
void log_context_clear(void);

struct log_ids {
	char trace[33], span[17], request[65], tenant[37]; /* "" when there is none */
};
extern __thread struct log_ids log_ids;

/* id: stable event id, UPPER-CASE-WITH-DASHES, e.g. "DB-CONNECT". */
void log_at(enum log_level level, const char *id, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
#define log_warn(...) log_at(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)

/* A line that was asked for, of level info, whatever the rate: fields become members of the line. Text: key=value behind msg. */
struct log_field {
	const char *key;
	struct str text; /* p NULL: number counts */
	double number;
};
void log_fields(const char *id, const char *msg, const struct log_field *fields, size_t n);

/* Logs the error and exits with status 1. For start-up only. */
void log_die(const char *id, const char *fmt, ...) __attribute__((format(printf, 2, 3), noreturn));

#endif
