/* Reads the .pb files of a folder. */
#include "base/files.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct file_text *)a)->name, ((const struct file_text *)b)->name);
}

static size_t list(struct arena *a, DIR *d, struct file_text rows[FILES_MOST])
{
	size_t n = 0;

	for (const struct dirent *e = readdir(d); e && n < FILES_MOST; e = readdir(d)) {
		size_t len = strlen(e->d_name);

		/* a mounted ConfigMap has its files as links, and folders whose names begin with dots */
		if (len > 3 && e->d_name[0] != '.' && strcmp(e->d_name + len - 3, ".pb") == 0)
			rows[n++] = (struct file_text){ .name = arena_strdup(a, (struct str){ e->d_name, len - 3 }) };
	}
	if (n)
		qsort(rows, n, sizeof(*rows), by_name);
	return n;
}

bool file_read(struct arena *a, const char *path, struct str *out)
{
	struct buf b = { 0 };
	FILE *f = fopen(path, "rb");
	size_t k;
	bool ok;

	if (!f)
		return false;
	do {
		buf_need(&b, 65536);
		k = fread(b.p + b.n, 1, 65536, f);
		b.n += k;
	} while (k > 0 && b.n <= FILE_MOST_BYTES);
	ok = !ferror(f) && b.n <= FILE_MOST_BYTES;
	fclose(f);
	if (ok)
		*out = arena_str(a, buf_view(&b));
	buf_fini(&b);
	return ok;
}

size_t files_read(struct arena *a, const char *dir, struct file_text rows[FILES_MOST], const char **why)
{
	DIR *d = opendir(dir);
	size_t n;

	if (!d) {
		*why = arena_printf(a, "%s: cannot be read", dir);
		return 0;
	}
	n = list(a, d, rows);
	closedir(d);
	if (!n)
		*why = arena_printf(a, "%s: has no .pb file", dir);
	for (size_t i = 0; i < n; i++) {
		if (!file_read(a, arena_printf(a, "%s/%s.pb", dir, rows[i].name), &rows[i].bytes)) {
			*why = arena_printf(a, "%s/%s.pb: cannot be read", dir, rows[i].name);
			return 0;
		}
	}
	return n;
}
