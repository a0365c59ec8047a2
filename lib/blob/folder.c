/*
 * Blobs in a folder. A file is written under another name, synced, renamed, and its folder synced: after a power cut there is the
 * whole blob or none.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/codec.h"
#include "blob/driver.h"

#define PART ".part"

struct folder {
	int fd;
};

struct put {
	const struct folder *folder;
	int fd;
	char key[BLOB_KEY_MAX], part[BLOB_KEY_MAX + UUID_TEXT + sizeof(PART) + 1];
};

static void *open_folder(const struct blob_options *o, const char **why)
{
	const char *path = o->url + strlen("file:");
	struct folder *f;
	int fd;

	*why = "the folder cannot be made or is none";
	if (!*path || (mkdir(path, 0700) != 0 && errno != EEXIST))
		return NULL;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || faccessat(fd, ".", W_OK | X_OK, 0) != 0) {
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	f = xcalloc(1, sizeof(*f));
	f->fd = fd;
	return f;
}

static void close_folder(void *driver)
{
	struct folder *f = driver;

	close(f->fd);
	free(f);
}

static bool failed(char why[BLOB_WHY], const char *what)
{
	snprintf(why, BLOB_WHY, "%s: %s", what, strerror(errno));
	return false;
}

/* "tenant/kind" of "tenant/kind/id", or "tenant". */
static void parent_of(const char *path, char out[BLOB_KEY_MAX])
{
	snprintf(out, BLOB_KEY_MAX, "%.*s", (int)(strrchr(path, '/') - path), path);
}

static bool sync_folder(const struct folder *f, const char *path)
{
	int fd = openat(f->fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool ok = fd >= 0 && fsync(fd) == 0;

	if (fd >= 0)
		close(fd);
	return ok;
}

/* A folder that is new lives only once the one above it is synced. */
static bool make_folder(const struct folder *f, const char *path, const char *above)
{
	if (mkdirat(f->fd, path, 0700) == 0)
		return sync_folder(f, above);
	return errno == EEXIST;
}

static bool make_parents(const struct folder *f, const char *key)
{
	char kind[BLOB_KEY_MAX], tenant[BLOB_KEY_MAX];

	parent_of(key, kind);
	parent_of(kind, tenant);
	return make_folder(f, tenant, ".") && make_folder(f, kind, tenant);
}

static void *put_begin(void *driver, const char *key, char why[BLOB_WHY])
{
	struct put *p = xcalloc(1, sizeof(*p));
	char unique[UUID_TEXT + 1];

	uuid7(unique);
	p->folder = driver;
	snprintf(p->key, sizeof(p->key), "%s", key);
	snprintf(p->part, sizeof(p->part), "%s.%s" PART, key, unique);
	if (make_parents(p->folder, key))
		p->fd = openat(p->folder->fd, p->part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	else
		p->fd = -1;
	if (p->fd >= 0)
		return p;
	failed(why, "the file cannot be made");
	free(p);
	return NULL;
}

static bool put_write(void *put, struct str data, char why[BLOB_WHY])
{
	struct put *p = put;

	while (data.n) {
		ssize_t n = write(p->fd, data.p, data.n);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return failed(why, "the file cannot be written");
		data = (struct str){ data.p + n, data.n - (size_t)n };
	}
	return true;
}

static void put_abort(void *put)
{
	struct put *p = put;

	if (p->fd >= 0)
		close(p->fd);
	unlinkat(p->folder->fd, p->part, 0);
	free(p);
}

static bool put_end(void *put, char why[BLOB_WHY])
{
	struct put *p = put;
	char kind[BLOB_KEY_MAX];
	bool ok = fsync(p->fd) == 0;

	parent_of(p->key, kind);
	ok = close(p->fd) == 0 && ok;
	p->fd = -1;
	ok = ok && renameat(p->folder->fd, p->part, p->folder->fd, p->key) == 0 && sync_folder(p->folder, kind);
	if (!ok) {
		failed(why, "the file cannot be completed");
		put_abort(p);
		return false;
	}
	free(p);
	return true;
}

static enum blob_outcome open_blob(const struct folder *f, const char *key, int *fd, char why[BLOB_WHY])
{
	*fd = openat(f->fd, key, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (*fd >= 0)
		return BLOB_OK;
	if (errno == ENOENT || errno == ENOTDIR)
		return BLOB_ABSENT;
	failed(why, "the file cannot be opened");
	return BLOB_FAILED;
}

static enum blob_outcome get(void *driver, const char *key, uint64_t offset, size_t n, struct buf *out, char why[BLOB_WHY])
{
	size_t got = 0;
	int fd;
	enum blob_outcome o = open_blob(driver, key, &fd, why);

	if (o != BLOB_OK)
		return o;
	buf_need(out, n);
	while (got < n) {
		ssize_t k = pread(fd, out->p + out->n + got, n - got, (off_t)(offset + got));

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0) {
			failed(why, "the file cannot be read");
			o = BLOB_FAILED;
		}
		if (k <= 0)
			break;
		got += (size_t)k;
	}
	if (o == BLOB_OK)
		out->n += got;
	close(fd);
	return o;
}

static enum blob_outcome head(void *driver, const char *key, uint64_t *size, char why[BLOB_WHY])
{
	const struct folder *f = driver;
	struct stat st;

	if (fstatat(f->fd, key, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		*size = (uint64_t)st.st_size;
		return BLOB_OK;
	}
	if (errno == ENOENT || errno == ENOTDIR)
		return BLOB_ABSENT;
	failed(why, "the file cannot be looked at");
	return BLOB_FAILED;
}

static enum blob_outcome delete(void *driver, const char *key, char why[BLOB_WHY])
{
	const struct folder *f = driver;
	char kind[BLOB_KEY_MAX];

	if (unlinkat(f->fd, key, 0) != 0) {
		if (errno == ENOENT || errno == ENOTDIR)
			return BLOB_OK;
		failed(why, "the file cannot be deleted");
		return BLOB_FAILED;
	}
	parent_of(key, kind);
	if (sync_folder(f, kind))
		return BLOB_OK;
	failed(why, "the folder cannot be synced");
	return BLOB_FAILED;
}

const struct blob_driver blob_folder = {
	.scheme = "file:",
	.open = open_folder,
	.close = close_folder,
	.put_begin = put_begin,
	.put_write = put_write,
	.put_end = put_end,
	.put_abort = put_abort,
	.get = get,
	.head = head,
	.delete = delete,
};
