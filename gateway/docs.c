/* The explorer's static files, from a folder into memory. */
#include "gateway/docs.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/log.h"

static const struct {
	const char *ending, *content_type;
} types[] = {
	{ ".js", "text/javascript; charset=utf-8" },
	{ ".css", "text/css; charset=utf-8" },
	{ ".png", "image/png" },
	{ ".svg", "image/svg+xml" },
	{ ".woff2", "font/woff2" },
};

static const char *type_of(const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		size_t k = strlen(types[i].ending);

		if (n > k && strcmp(name + n - k, types[i].ending) == 0)
			return types[i].content_type;
	}
	return NULL;
}

static bool read_file(const char *path, struct str *out)
{
	FILE *f = fopen(path, "rb");
	char *bytes = NULL;
	size_t n;

	if (!f)
		return false;
	bytes = xmalloc(DOCS_FILE_MAX + 1);
	n = fread(bytes, 1, DOCS_FILE_MAX + 1, f);
	if (ferror(f) || n > DOCS_FILE_MAX) {
		free(bytes);
		bytes = NULL;
	}
	fclose(f);
	if (bytes)
		*out = (struct str){ xrealloc(bytes, n + 1), n };
	return bytes != NULL;
}

/* Other builds of the bundle (source maps, ES modules) are not needed and not small. */
static bool is_wanted(const char *name)
{
	return *name != '.' && type_of(name) && !strstr(name, "-es-bundle") && strcmp(name, "swagger-ui.js") != 0 && !strstr(name, "config.js") &&
	    !strstr(name, "index.js") && !strstr(name, "absolute-path.js") && !strstr(name, "initializer.js");
}

struct docs *docs_load(const char *dir)
{
	struct docs *d = xcalloc(1, sizeof(*d));
	DIR *at = opendir(dir);
	struct dirent *e;
	char path[4096];

	if (!at) {
		log_info("DOCS-ABSENT", "no explorer in %s: /docs shows links only", dir);
		return d;
	}
	for (e = readdir(at); e && d->n < DOCS_FILES_MAX; e = readdir(at)) {
		struct docs_file *f = &d->rows[d->n];

		if (!is_wanted(e->d_name) || snprintf(path, sizeof(path), "%s/%s", dir, e->d_name) >= (int)sizeof(path) || !read_file(path, &f->bytes))
			continue;
		f->name = xstrdup(e->d_name);
		f->content_type = type_of(f->name);
		d->n++;
	}
	closedir(at);
	return d;
}

const struct docs_file *docs_find(const struct docs *d, struct str name)
{
	for (size_t i = 0; i < d->n; i++) {
		if (str_eq(str_of(d->rows[i].name), name))
			return &d->rows[i];
	}
	return NULL;
}
