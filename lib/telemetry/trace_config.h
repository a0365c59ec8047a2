/* Inside lib/telemetry: settings of traces and what they amount to. */
#ifndef CRM_TELEMETRY_TRACE_CONFIG_H
#define CRM_TELEMETRY_TRACE_CONFIG_H

#include "telemetry/trace_export.h"
#include "telemetry/trace_internal.h"

struct trace_settings {
	const char *endpoint, *traces_endpoint, *headers, *certificate, *service_name, *resource, *sampler, *sampler_arg;
	long timeout_ms, delay_ms, queue, batch;
	bool disabled, sql_comment;
};

/* Where to POST; empty: nowhere. */
void trace_config_url(const struct trace_settings *s, struct buf *url);
/* Members of the resource's "attributes": service.name, service.version, service.instance.id and OTEL_RESOURCE_ATTRIBUTES. */
void trace_config_resource(const struct trace_settings *s, const char *service, struct buf *json);
/* False: *why says what is wrong. */
bool trace_config_sampler(const struct trace_settings *s, struct trace_sampler *out, const char **why);
/* "name=value,name=value", values percent-encoded: each once to put, decoded. False: malformed. */
bool trace_config_pairs(const char *text, void (*put)(void *arg, struct str name, struct str value), void *arg);

#endif
