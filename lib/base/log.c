/* Structured log lines with a per-thread request context and a rate limit. */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/codec.h"

#define LOG_MAX_PER_SECOND 200

static const char *service_name = "crm";
static enum log_level threshold = LOG_INFO;
static bool as_json = true, colour;
static atomic_long window_second, window_lines, dropped;

static __thread char trace_id[64], request_id[72], tenant_id[40];

static const struct {
	const char *name, *colour;
} levels[] = { { "debug", "\033[2m" }, { "info", "\033[36m" }, { "warn", "\033[33m" }, { "error", "\033[31m" } };

void log_init(const char *service, const char *format, const char *level)
{
	bool tty = isatty(STDERR_FILENO);

	service_name = service;
	as_json = strcmp(format, "json") == 0 || (strcmp(format, "text") != 0 && !tty);
	colour = tty && !getenv("NO_COLOR");
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

void log_context(struct str trace, struct str request, struct str tenant)
{
	copy_id(trace_id, sizeof(trace_id), trace);
	copy_id(request_id, sizeof(request_id), request);
	copy_id(tenant_id, sizeof(tenant_id), tenant);
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

static void json_member(struct buf *b, const char *key, const char *value)
{
	if (!*value)
		return;
	buf_printf(b, ",\"%s\":", key);
	buf_json_str(b, str_of(value));
}

static void write_line(enum log_level level, const char *id, const char *text, long lost)
{
	struct buf b = { 0 };

	if (as_json) {
		buf_z(&b, "{\"timestamp\":\"");
		time_print(&b, clock_us());
		buf_printf(&b, "\",\"level\":\"%s\",\"service\":\"%s\",\"event\":\"%s\",\"msg\":", levels[level].name, service_name, id);
		buf_json_str(&b, str_is_utf8(str_of(text)) ? str_of(text) : STR("(not UTF-8)"));
		json_member(&b, "trace_id", trace_id);
		json_member(&b, "request_id", request_id);
		json_member(&b, "tenant_id", tenant_id);
		if (lost)
			buf_printf(&b, ",\"lines_dropped\":%ld", lost);
		buf_z(&b, "}\n");
	} else {
		time_print(&b, clock_us() / 1000 * 1000);
		buf_printf(&b, " %s%-5s%s %s %s: %s", colour ? levels[level].colour : "", levels[level].name, colour ? "\033[0m" : "",
		    service_name, id, text);
		if (*request_id)
			buf_printf(&b, " request_id=%s", request_id);
		if (lost)
			buf_printf(&b, " (%ld lines dropped)", lost);
		buf_c(&b, '\n');
	}
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
	write_line(level, id, text, lost);
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

void log_die(const char *id, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_v(LOG_ERROR, id, fmt, ap);
	va_end(ap);
	exit(1);
}
