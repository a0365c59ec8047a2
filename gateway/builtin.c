/* The start page, OpenAPI documents and the explorer. */
#include "gateway/builtin.h"

#include "base/version.h"

#define JSON_TYPE "application/json; charset=utf-8"
#define PAGE_POLICY \
	"Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " \
	"font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n" \
	"Referrer-Policy: no-referrer\r\n"

static void put_member(struct buf *b, const char *name, const char *value)
{
	buf_json_str(b, str_of(name));
	buf_c(b, ':');
	buf_json_str(b, str_of(value));
}

static bool is_served_here(const struct request *r, const struct face *face)
{
	int listener = r->x->req.listener;
	const struct group *g = &r->faces->groups[listener >= 0 && (size_t)listener < r->faces->n_groups ? listener : 0];

	for (size_t i = 0; i < g->n; i++) {
		if (g->members[i] == face)
			return true;
	}
	return false;
}

/* Where the dialect's paths begin, as seen from this listener: elsewhere they need the prefix. */
static char *server_url(struct request *r, const struct face *face)
{
	const char *name = face->dialect->name;
	bool here = is_served_here(r, face);

	return arena_printf(&r->x->arena, "%.*s://%.*s%s%s", STR_FMT(r->origin.scheme), STR_FMT(r->origin.authority), here ? "" : "/~", here ? "" : name);
}

static void put_dialects(struct request *r, struct buf *b)
{
	buf_z(b, "\"dialects\":[");
	for (size_t i = 0; i < r->faces->n; i++) {
		const struct face *face = &r->faces->rows[i];

		buf_z(b, i ? ",{" : "{");
		put_member(b, "name", face->dialect->name);
		buf_c(b, ',');
		put_member(b, "title", face->dialect->title ? face->dialect->title : "");
		buf_c(b, ',');
		put_member(b, "version", face->dialect->version ? face->dialect->version : "");
		buf_c(b, ',');
		put_member(b, "server", server_url(r, face));
		buf_z(b, ",\"openapi\":\"/openapi/");
		buf_z(b, face->dialect->name);
		buf_z(b, ".json\"}");
	}
	buf_c(b, ']');
}

static enum step_result serve_start(struct request *r)
{
	struct buf *b = &r->w->body;

	buf_clear(b);
	buf_z(b, "{\"name\":\"crm\",");
	put_member(b, "version", crm_version);
	buf_z(b, ",\"docs\":\"/docs\",\"openapi\":\"/openapi.json\",\"asyncapi\":\"/asyncapi.json\",");
	put_dialects(r, b);
	buf_c(b, '}');
	return reply_send(r, 200, JSON_TYPE, buf_view(b));
}

static enum step_result serve_openapi_index(struct request *r)
{
	struct buf *b = &r->w->body;

	buf_clear(b);
	buf_c(b, '{');
	put_dialects(r, b);
	buf_c(b, '}');
	return reply_send(r, 200, JSON_TYPE, buf_view(b));
}

/* The document of "/openapi/<dialect>.json". One is kept per dialect, for the server it was last asked from. */
static enum step_result serve_openapi(struct request *r)
{
	struct str name = { r->sel.path.p + strlen("/openapi/"), r->sel.path.n - strlen("/openapi/") };
	const struct face *face = NULL;
	struct buf *b = &r->w->body;

	if (name.n > 5 && memcmp(name.p + name.n - 5, ".json", 5) == 0)
		face = faces_find(r->faces, (struct str){ name.p, name.n - 5 });
	if (!face)
		return reply_error(r, STATUS_NOT_FOUND, NULL);
	buf_clear(b);
	faces_openapi(r->faces, face, str_of(server_url(r, face)), b);
	r->cache_control = STR("no-cache");
	return reply_send(r, 200, JSON_TYPE, buf_view(b));
}

static enum step_result serve_asyncapi(struct request *r)
{
	struct buf *b = &r->w->body;

	buf_clear(b);
	if (!faces_asyncapi(r->faces, r->origin.scheme, r->origin.authority, b))
		return reply_error(r, STATUS_NOT_FOUND, NULL);
	r->cache_control = STR("no-cache");
	return reply_send(r, 200, JSON_TYPE, buf_view(b));
}

static void put_links(struct request *r, struct buf *b)
{
	buf_z(b, "<p>The explorer is not installed here. The documents it would show:</p>\n<ul>\n");
	for (size_t i = 0; i < r->faces->n; i++) {
		const char *name = r->faces->rows[i].dialect->name;

		buf_printf(b, "<li><a href=\"/openapi/%s.json\">%s</a></li>\n", name, name);
	}
	buf_z(b, "</ul>\n");
}

static enum step_result serve_docs(struct request *r)
{
	struct buf *b = &r->w->body;

	buf_clear(b);
	buf_z(b, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>CRM API</title>\n"
	    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
	if (docs_find(r->w->g->docs, STR("swagger-ui-bundle.js"))) {
		buf_z(b, "<link rel=\"stylesheet\" href=\"/docs/swagger-ui.css\">\n"
		    "<link rel=\"icon\" type=\"image/png\" href=\"/docs/favicon-32x32.png\">\n</head>\n<body>\n<div id=\"swagger-ui\"></div>\n"
		    "<script src=\"/docs/swagger-ui-bundle.js\"></script>\n<script src=\"/docs/swagger-ui-standalone-preset.js\"></script>\n"
		    "<script src=\"/docs/start.js\"></script>\n");
	} else {
		buf_z(b, "</head>\n<body>\n");
		put_links(r, b);
	}
	buf_z(b, "</body>\n</html>\n");
	r->extra = STR(PAGE_POLICY);
	return reply_send(r, 200, "text/html; charset=utf-8", buf_view(b));
}

/* Starts the explorer with all dialects; the first is that of the listener. */
static enum step_result serve_start_script(struct request *r)
{
	struct buf *b = &r->w->body;

	buf_clear(b);
	buf_z(b, "window.ui = SwaggerUIBundle({\n  urls: [\n");
	for (size_t i = 0; i < r->faces->n; i++) {
		const struct dialect *d = r->faces->rows[i].dialect;

		buf_printf(b, "    { url: \"/openapi/%s.json\", name: ", d->name);
		buf_json_str(b, str_of(d->name));
		buf_z(b, " },\n");
	}
	buf_z(b, "  ],\n  \"urls.primaryName\": ");
	buf_json_str(b, str_of(r->sel.face->dialect->name));
	buf_z(b, ",\n  dom_id: \"#swagger-ui\",\n  deepLinking: true,\n  validatorUrl: null,\n  persistAuthorization: true,\n"
	    "  presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],\n  layout: \"StandaloneLayout\",\n});\n");
	return reply_send(r, 200, "text/javascript; charset=utf-8", buf_view(b));
}

static enum step_result serve_docs_file(struct request *r)
{
	struct str name = { r->sel.path.p + strlen("/docs/"), r->sel.path.n - strlen("/docs/") };
	const struct docs_file *f = docs_find(r->w->g->docs, name);

	if (!name.n)
		return serve_docs(r);
	if (!f)
		return reply_error(r, STATUS_NOT_FOUND, NULL);
	r->cache_control = STR("public, max-age=3600");
	return reply_send(r, 200, f->content_type, f->bytes);
}

static const struct builtin builtins[] = {
	{ "/", false, serve_start },
	{ "/openapi.json", false, serve_openapi_index },
	{ "/asyncapi.json", false, serve_asyncapi },
	{ "/openapi/", true, serve_openapi },
	{ "/docs", false, serve_docs },
	{ "/docs/start.js", false, serve_start_script },
	{ "/docs/", true, serve_docs_file },
};

const struct builtin *builtin_find(struct str path)
{
	for (size_t i = 0; i < sizeof(builtins) / sizeof(builtins[0]); i++) {
		struct str row = str_of(builtins[i].path);

		if (builtins[i].prefix ? str_starts(path, row) : str_eq(path, row))
			return &builtins[i];
	}
	return NULL;
}
