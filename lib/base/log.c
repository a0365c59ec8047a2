/* Structured log lines with a per-thread request context and a rate limit. */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/codec.h"
#include "base/version.h"

#define LOG_MAX_PER_SECOND 200

static const char *service_name; /* NULL before log_init: the program's name */
static enum log_level threshold = LOG_INFO;
static bool as_json = true, colour;
static atomic_long window_second, window_lines, dropped;

__thread struct log_ids log_ids;

static const struct {
	const char *name, *colour;
} levels[] = { { "debug", "\033[2m" }, { "info", "\033[36m" }, { "warn", "\033[33m" }, { "error", "\033[31m" } };

void log_init(const char *service, const char *format, const char *level)
{
	bool tty = isatty(STDERR_FILENO);

	service_name = service;
	as_json = strcmp(format, "json") == 0 || (strcmp(format, "text") != 0 && !tty);
	colour = tty && !(getenv("NO_COLOR") && *getenv("NO_COLOR")); /* no-color.org: set and not empty */
	for (unsigned i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		if (strcmp(level, levels[i].name) == 0)
			threshold = (enum log_level)i;
	}
}

static void copy_id(char *to, size_t size, struct str from)
{
	size_t n = from.n < size - 1 ? from.n : size - 1;

	if (n)
		memcpy(to, from.p, n);
	to[n] = 0;
}

void log_context(struct str traceparent, struct str request, struct str tenant)
{
	bool traced = traceparent.n >= 52;

	copy_id(log_ids.trace, sizeof(log_ids.trace), traced ? (struct str){ traceparent.p + 3, 32 } : (struct str){ 0 });
	copy_id(log_ids.span, sizeof(log_ids.span), traced ? (struct str){ traceparent.p + 36, 16 } : (struct str){ 0 });
	copy_id(log_ids.request, sizeof(log_ids.request), request);
	copy_id(log_ids.tenant, sizeof(log_ids.tenant), tenant);
}

void log_context_clear(void)
{
	log_ids.trace[0] = log_ids.span[0] = log_ids.request[0] = log_ids.tenant[0] = 0;
}

static bool may_log(long *lost)
{
	long now = (long)(clock_mono_us() / 1000000);

	if (atomic_exchange(&window_second, now) != now)
		atomic_store(&window_lines, 0);
	if (atomic_fetch_add(&window_lines, 1) >= LOG_MAX_PER_SECOND) {
		atomic_fetch_add(&dropped, 1);
		return false;
	}
	*lost = atomic_exchange(&dropped, 0);
	return true;
}

static const char *name_of_service(void)
{
	return service_name ? service_name : program_invocation_short_name;
}

static void json_member(struct buf *b, const char *key, struct str value)
{
	if (!value.n)
		return;
	buf_printf(b, ",\"%s\":", key);
	buf_json_str(b, str_is_utf8(value) ? value : STR("(not UTF-8)"));
}

/* Milliseconds and counts: three digits behind the point, no exponent. */
static void number(struct buf *b, double v)
{
	if (v == (double)(int64_t)v)
		buf_i64(b, (int64_t)v);
	else
		buf_printf(b, "%.3f", v);
}

static void write_json(struct buf *b, enum log_level level, const char *id, const char *text, const struct log_field *fields, size_t n)
{
	buf_z(b, "{\"timestamp\":\"");
	time_print(b, clock_us());
	buf_printf(b, "\",\"level\":\"%s\",\"service\":\"%s\",\"version\":\"%s\",\"event\":\"%s\",\"msg\":", levels[level].name, name_of_service(), crm_version, id);
	buf_json_str(b, str_is_utf8(str_of(text)) ? str_of(text) : STR("(not UTF-8)"));
	json_member(b, "trace_id", str_of(log_ids.trace));
	json_member(b, "span_id", str_of(log_ids.span));
	json_member(b, "request_id", str_of(log_ids.request));
	json_member(b, "tenant_id", str_of(log_ids.tenant));
	for (size_t i = 0; i < n; i++) {
		if (fields[i].text.p) {
			json_member(b, fields[i].key, fields[i].text);
		} else {
			buf_printf(b, ",\"%s\":", fields[i].key);
			number(b, fields[i].number);
		}
	}
}

static void write_text(struct buf *b, enum log_level level, const char *id, const char *text, const struct log_field *fields, size_t n)
{
	time_print(b, clock_us() / 1000 * 1000);
	buf_printf(b, " %s%-5s%s %s %s: %s", colour ? levels[level].colour : "", levels[level].name, colour ? "\033[0m" : "", name_of_service(), id, text);
	for (size_t i = 0; i < n; i++) {
		buf_printf(b, " %s=", fields[i].key);
		if (fields[i].text.p)
			buf_str(b, fields[i].text);
		else
			number(b, fields[i].number);
	}
	if (*log_ids.request)
		buf_printf(b, " request_id=%s", log_ids.request);
}

static void write_line(enum log_level level, const char *id, const char *text, const struct log_field *fields, size_t n, long lost)
{
	struct buf b = { 0 };

	(as_json ? write_json : write_text)(&b, level, id, text, fields, n);
	if (lost)
		buf_printf(&b, as_json ? ",\"lines_dropped\":%ld" : " (%ld lines dropped)", lost);
	buf_z(&b, as_json ? "}\n" : "\n");
	if (write(STDERR_FILENO, b.p, b.n) < 0) {
		/* nobody left to tell */
	}
	buf_fini(&b);
}

static void log_v(enum log_level level, const char *id, const char *fmt, va_list ap)
{
	char text[2048];
	long lost = 0;

	if (level < threshold || !may_log(&lost))
		return;
	vsnprintf(text, sizeof(text), fmt, ap);
	write_line(level, id, text, NULL, 0, lost);
}

void log_at(enum log_level level, const char *id, const char *fmt, ...)
{
	va_list ap;

	if (level < threshold)
		return;
	va_start(ap, fmt);
	log_v(level, id, fmt, ap);
	va_end(ap);
}

void log_fields(const char *id, const char *msg, const struct log_field *fields, size_t n)
{
	write_line(LOG_INFO, id, msg, fields, n, 0);
}

void log_die(const char *id, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_v(LOG_ERROR, id, fmt, ap);
	va_end(ap);
	exit(1);
}
