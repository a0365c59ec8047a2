/* Stores: the URL picks the driver; keys are checked here. */
#include "blob/blob.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/codec.h"
#include "blob/driver.h"

struct blob_store {
	const struct blob_driver *ops;
	void *driver;
};

struct blob_put {
	const struct blob_driver *ops;
	void *put;
};

static const struct blob_driver *const drivers[] = { &blob_folder, &blob_s3 };

struct blob_store *blob_open(const struct blob_options *o, const char **why)
{
	struct blob_store *s;
	void *driver;

	for (size_t i = 0; i < sizeof(drivers) / sizeof(*drivers); i++) {
		if (strncmp(o->url, drivers[i]->scheme, strlen(drivers[i]->scheme)) != 0)
			continue;
		driver = drivers[i]->open(o, why);
		if (!driver)
			return NULL;
		s = xcalloc(1, sizeof(*s));
		s->ops = drivers[i];
		s->driver = driver;
		return s;
	}
	*why = "it must start with file: or s3://";
	return NULL;
}

void blob_close(struct blob_store *s)
{
	if (!s)
		return;
	s->ops->close(s->driver);
	free(s);
}

static bool is_kind(struct str kind)
{
	for (size_t i = 0; i < kind.n; i++) {
		char c = kind.p[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-')
			return false;
	}
	return kind.n > 0 && kind.n <= 40;
}

bool blob_key(char out[BLOB_KEY_MAX], struct str tenant, struct str kind, struct str id)
{
	char t[UUID_TEXT + 1], i[UUID_TEXT + 1];

	if (!uuid_parse(tenant, t) || !is_kind(kind) || !uuid_parse(id, i))
		return false;
	snprintf(out, BLOB_KEY_MAX, "%s/%.*s/%s", t, STR_FMT(kind), i);
	return true;
}

/* A key that blob_key made. Whatever else comes here is a mistake of the program, and must not become a path. */
static bool key_ok(const char *key, char why[BLOB_WHY])
{
	const char *kind = strchr(key, '/'), *id = kind ? strchr(kind + 1, '/') : NULL;
	char same[BLOB_KEY_MAX];

	if (id && blob_key(same, (struct str){ key, (size_t)(kind - key) }, (struct str){ kind + 1, (size_t)(id - kind - 1) }, str_of(id + 1)) && strcmp(same, key) == 0)
		return true;
	snprintf(why, BLOB_WHY, "not a key");
	return false;
}

struct blob_put *blob_put_begin(struct blob_store *s, const char *key, char why[BLOB_WHY])
{
	struct blob_put *p;
	void *put = key_ok(key, why) ? s->ops->put_begin(s->driver, key, why) : NULL;

	if (!put)
		return NULL;
	p = xcalloc(1, sizeof(*p));
	*p = (struct blob_put){ s->ops, put };
	return p;
}

bool blob_put_write(struct blob_put *p, struct str data, char why[BLOB_WHY])
{
	return p->ops->put_write(p->put, data, why);
}

bool blob_put_end(struct blob_put *p, char why[BLOB_WHY])
{
	bool ok = p->ops->put_end(p->put, why);

	free(p);
	return ok;
}

void blob_put_abort(struct blob_put *p)
{
	if (!p)
		return;
	p->ops->put_abort(p->put);
	free(p);
}

enum blob_outcome blob_get(struct blob_store *s, const char *key, uint64_t offset, size_t n, struct buf *out, char why[BLOB_WHY])
{
	return key_ok(key, why) ? s->ops->get(s->driver, key, offset, n, out, why) : BLOB_FAILED;
}

enum blob_outcome blob_head(struct blob_store *s, const char *key, uint64_t *size, char why[BLOB_WHY])
{
	return key_ok(key, why) ? s->ops->head(s->driver, key, size, why) : BLOB_FAILED;
}

enum blob_outcome blob_delete(struct blob_store *s, const char *key, char why[BLOB_WHY])
{
	return key_ok(key, why) ? s->ops->delete(s->driver, key, why) : BLOB_FAILED;
}
