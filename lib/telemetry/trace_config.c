/* Settings of traces, by the names that OpenTelemetry gives them, and what they amount to. */
#include "telemetry/trace_config.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/codec.h"
#include "base/version.h"

#define AT(member) offsetof(struct trace_settings, member)
#define TEXT(name_, member, fallback_, doc_) { .name = name_, .type = SETTING_TEXT, .offset = AT(member), .fallback = fallback_, .doc = doc_ }
#define INT(name_, member, fallback_, min_, max_, doc_) \
	{ .name = name_, .type = SETTING_INT, .offset = AT(member), .fallback = fallback_, .doc = doc_, .min = min_, .max = max_ }
#define BOOL(name_, member, fallback_, doc_) { .name = name_, .type = SETTING_BOOL, .offset = AT(member), .fallback = fallback_, .doc = doc_ }

const struct setting trace_settings_rows[] = {
	TEXT("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint, "", "traces go to <this>/v1/traces as OTLP/HTTP JSON: http://collector:4318; empty: no traces"),
	TEXT("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", traces_endpoint, "", "traces go to exactly this URL instead"),
	{ .name = "OTEL_EXPORTER_OTLP_HEADERS", .type = SETTING_TEXT, .offset = AT(headers), .fallback = "",
	    .doc = "headers of each request: name=value,name=value; values percent-encoded", .secret = true },
	TEXT("OTEL_EXPORTER_OTLP_CERTIFICATE", certificate, "", "file (PEM) of the authorities that an https endpoint is checked against; empty: the system's"),
	INT("OTEL_EXPORTER_OTLP_TIMEOUT", timeout_ms, "10000", 1, 600000, "milliseconds that one request to the collector may take"),
	TEXT("OTEL_SERVICE_NAME", service_name, "", "service.name of the spans; empty: the program's name"),
	TEXT("OTEL_RESOURCE_ATTRIBUTES", resource, "", "more attributes of the process: key=value,key=value; values percent-encoded"),
	TEXT("OTEL_TRACES_SAMPLER", sampler, "", "always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off or parentbased_traceidratio; "
	    "empty: parentbased_always_on, or parentbased_traceidratio when OTEL_TRACES_SAMPLER_ARG is given"),
	TEXT("OTEL_TRACES_SAMPLER_ARG", sampler_arg, "", "share of traces that are recorded, 0 to 1; for the samplers with traceidratio"),
	INT("OTEL_BSP_SCHEDULE_DELAY", delay_ms, "5000", 10, 600000, "milliseconds after which spans are sent though they fill no batch"),
	INT("OTEL_BSP_MAX_QUEUE_SIZE", queue, "2048", 16, 1000000, "spans that may wait; more are dropped and counted. 1 KB each"),
	INT("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", batch, "512", 1, 100000, "spans of one request at most"),
	BOOL("OTEL_SDK_DISABLED", disabled, "false", "no traces, whatever else is set"),
	BOOL("TRACE_SQL_COMMENT", sql_comment, "true", "statements of recorded traces carry /*traceparent='…'*/; costs them their prepared statement (adr/0036)"),
};
const size_t trace_settings_n = sizeof(trace_settings_rows) / sizeof(trace_settings_rows[0]);

void trace_config_url(const struct trace_settings *s, struct buf *url)
{
	struct str base = str_of(s->endpoint);

	buf_clear(url);
	if (s->disabled)
		return;
	if (*s->traces_endpoint) {
		buf_z(url, s->traces_endpoint);
		return;
	}
	while (base.n && base.p[base.n - 1] == '/')
		base.n--;
	if (!base.n)
		return;
	buf_str(url, base);
	buf_z(url, "/v1/traces");
}

static struct str trim(struct str s)
{
	while (s.n && (*s.p == ' ' || *s.p == '\t'))
		s.p++, s.n--;
	while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

static bool percent_decode(struct str s, struct buf *out)
{
	buf_clear(out);
	for (size_t i = 0; i < s.n; i++) {
		uint8_t byte = (uint8_t)s.p[i];

		if (s.p[i] == '%') {
			if (i + 2 >= s.n || !hex_decode((struct str){ s.p + i + 1, 2 }, &byte, 1))
				return false;
			i += 2;
		}
		buf_c(out, (char)byte);
	}
	return true;
}

bool trace_config_pairs(const char *text, void (*put)(void *arg, struct str name, struct str value), void *arg)
{
	struct buf value = { 0 };
	bool ok = true;

	while (*text && ok) {
		struct str piece = { text, strcspn(text, ",") }, name;
		const char *eq = memchr(piece.p, '=', piece.n);

		text += piece.n + (text[piece.n] == ',');
		if (!trim(piece).n)
			continue;
		name = trim((struct str){ piece.p, eq ? (size_t)(eq - piece.p) : 0 });
		ok = name.n && percent_decode(trim((struct str){ eq + 1, (size_t)(piece.p + piece.n - eq - 1) }), &value);
		if (ok && put)
			put(arg, name, buf_view(&value));
	}
	buf_fini(&value);
	return ok;
}

struct resource {
	struct buf *json;
	struct str name; /* service.name, when OTEL_SERVICE_NAME says it */
	bool named;
};

static void put_resource(void *arg, struct str name, struct str value)
{
	struct resource *r = arg;

	if (str_eq(name, STR("service.name"))) {
		if (r->name.n)
			return;
		r->named = true;
	}
	if (r->json->n)
		buf_c(r->json, ',');
	trace_json_text(r->json, name, value);
}

void trace_config_resource(const struct trace_settings *s, const char *service, struct buf *json)
{
	struct resource r = { .json = json, .name = str_of(s->service_name) };
	char id[UUID_TEXT + 1];

	uuid7(id);
	trace_config_pairs(s->resource, put_resource, &r);
	if (!r.named) {
		if (json->n)
			buf_c(json, ',');
		trace_json_text(json, STR("service.name"), r.name.n ? r.name : str_of(service));
	}
	put_resource(&r, STR("service.version"), str_of(crm_version));
	put_resource(&r, STR("service.instance.id"), str_of(id));
}

/* "0.25"; nothing else may stand there. */
static bool ratio(const char *text, double *out)
{
	char *end;

	if (!*text || text[strspn(text, "0123456789.")])
		return false;
	*out = strtod(text, &end);
	return !*end && *out >= 0 && *out <= 1;
}

bool trace_config_sampler(const struct trace_settings *s, struct trace_sampler *out, const char **why)
{
	static const struct {
		const char *name;
		struct trace_sampler is;
	} known[] = {
		{ "always_on", { false, SAMPLER_ALWAYS_ON, 1 } },
		{ "always_off", { false, SAMPLER_ALWAYS_OFF, 1 } },
		{ "traceidratio", { false, SAMPLER_RATIO, 1 } },
		{ "parentbased_always_on", { true, SAMPLER_ALWAYS_ON, 1 } },
		{ "parentbased_always_off", { true, SAMPLER_ALWAYS_OFF, 1 } },
		{ "parentbased_traceidratio", { true, SAMPLER_RATIO, 1 } },
	};
	/* who gives a share and no sampler wants that share, not everything */
	const char *name = *s->sampler ? s->sampler : *s->sampler_arg ? "parentbased_traceidratio" : "parentbased_always_on";

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strcmp(known[i].name, name) != 0)
			continue;
		*out = known[i].is;
		*why = "OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1";
		return out->root != SAMPLER_RATIO || !*s->sampler_arg || ratio(s->sampler_arg, &out->ratio);
	}
	*why = "OTEL_TRACES_SAMPLER is none that there is";
	return false;
}
