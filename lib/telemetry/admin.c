/* The admin port: health, metrics, version, over lib/http. */
#include "telemetry/admin.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/version.h"
#include "http/http.h"
#include "telemetry/metrics.h"

#define ADMIN_CONNECTIONS 64
#define TYPE_JSON "application/json"
#define TYPE_METRICS "text/plain; version=0.0.4; charset=utf-8"

struct admin {
	struct admin_config config;
	struct http_server *server;
};

static void reply(struct http_exchange *x, int status, const char *type, const struct buf *body)
{
	char *headers = arena_printf(&x->arena, "Content-Type: %s\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n", type);

	http_reply(x, status, str_of(headers), buf_view(body));
}

static void reply_error(struct http_exchange *x, enum status s, const char *text)
{
	struct buf body = { 0 };

	buf_z(&body, "{\"error\":");
	buf_json_str(&body, str_of(status_name(s)));
	buf_z(&body, ",\"message\":");
	buf_json_str(&body, str_of(text));
	buf_z(&body, "}\n");
	reply(x, status_http(s), TYPE_JSON, &body);
	buf_fini(&body);
}

static int put_live(const struct admin_config *c, struct buf *out)
{
	buf_z(out, "{\"status\":\"ok\"}\n");
	return 200;
}

static int put_ready(const struct admin_config *c, struct buf *out)
{
	struct buf detail = { 0 };
	bool ready = !c->ready || c->ready(c->arg, &detail);

	buf_printf(out, "{\"status\":\"%s\",\"checks\":{", ready ? "ok" : "not ready");
	buf_str(out, buf_view(&detail));
	buf_z(out, "}}\n");
	buf_fini(&detail);
	return ready ? 200 : 503;
}

static void put_build(const struct admin_config *c, struct buf *out)
{
	const struct metric_label labels[] = { { "program", str_of(c->name) }, { "version", str_of(c->version) }, { "revision", str_of(crm_revision) },
		{ "compiler", str_of(crm_compiler) } };

	metrics_head(out, "crm_build_info", "gauge", "Always 1; the labels say what runs");
	metrics_labels(out, "crm_build_info", labels, sizeof(labels) / sizeof(labels[0]), 1);
}

/* As /readyz says it: whoever has metrics only, can see it too. */
static void put_readiness(const struct admin_config *c, struct buf *out)
{
	struct buf detail = { 0 };

	metrics_one(out, "crm_ready", "gauge", "1: it can serve, as /readyz says", !c->ready || c->ready(c->arg, &detail));
	buf_fini(&detail);
}

static int put_metrics(const struct admin_config *c, struct buf *out)
{
	put_build(c, out);
	put_readiness(c, out);
	metrics_print(out);
	if (c->metrics)
		c->metrics(c->arg, out);
	return 200;
}

static int put_version(const struct admin_config *c, struct buf *out)
{
	buf_z(out, "{\"name\":");
	buf_json_str(out, str_of(c->name));
	buf_z(out, ",\"version\":");
	buf_json_str(out, str_of(c->version));
	if (c->about) {
		buf_c(out, ',');
		c->about(c->arg, out);
	}
	buf_z(out, "}\n");
	return 200;
}

static const struct {
	const char *path, *type;
	int (*put)(const struct admin_config *c, struct buf *out);
} own_routes[] = {
	{ "/livez", TYPE_JSON, put_live },
	{ "/readyz", TYPE_JSON, put_ready },
	{ "/metrics", TYPE_METRICS, put_metrics },
	{ "/version", TYPE_JSON, put_version },
};

static bool serve_own(const struct admin *a, struct http_exchange *x)
{
	for (size_t i = 0; i < sizeof(own_routes) / sizeof(own_routes[0]); i++) {
		struct buf body = { 0 };
		int status;

		if (!str_eq(x->req.path, str_of(own_routes[i].path)))
			continue;
		status = own_routes[i].put(&a->config, &body);
		reply(x, status, own_routes[i].type, &body);
		buf_fini(&body);
		return true;
	}
	return false;
}

static bool serve_extra(const struct admin *a, struct http_exchange *x)
{
	for (size_t i = 0; i < a->config.n_routes; i++) {
		const struct admin_route *r = &a->config.routes[i];
		struct buf body = { 0 };

		if (!str_eq(x->req.path, str_of(r->path)))
			continue;
		r->get(r->arg, x->req.query, &body);
		reply(x, 200, r->content_type, &body);
		buf_fini(&body);
		return true;
	}
	return false;
}

static void on_request(void *arg, struct http_exchange *x)
{
	const struct admin *a = arg;

	if (!str_eq(x->req.method, STR("GET")) && !str_eq(x->req.method, STR("HEAD"))) {
		reply_error(x, STATUS_METHOD_NOT_ALLOWED, "Only GET is answered here");
		return;
	}
	if (!serve_own(a, x) && !serve_extra(a, x))
		reply_error(x, STATUS_NOT_FOUND, status_text(STATUS_NOT_FOUND));
}

static void on_reject(void *arg, struct http_exchange *x, enum status why, const char *text)
{
	reply_error(x, why, text);
}

struct admin *admin_start(struct event_base *base, const char *listen, const struct admin_config *c)
{
	struct admin *a = xcalloc(1, sizeof(*a));
	struct http_app app = { .arg = a, .handle = on_request, .reject = on_reject };
	const char *why;

	a->config = *c;
	a->server = http_server_new(base, &app, NULL);
	http_server_limit(a->server, ADMIN_CONNECTIONS, ADMIN_CONNECTIONS);
	if (!http_server_listen(a->server, listen, 0, &why)) {
		log_error("ADMIN-LISTEN", "cannot listen on %s: %s", listen, why);
		admin_stop(a);
		return NULL;
	}
	return a;
}

void admin_stop(struct admin *a)
{
	if (!a)
		return;
	http_server_free(a->server);
	free(a);
}
