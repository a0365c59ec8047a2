/* Cuts compiled dialects into the parts of their services: OUT_DIR/<service>/<dialect>.pb, and OUT_DIR/gateway for the rest. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/files.h"
#include "gateway/dialect/fragment.h"

static void die(const char *what, const char *why)
{
	fprintf(stderr, "dialect-split: %s: %s\n", what, why);
	exit(1);
}

static void make_dir(const char *path)
{
	if (mkdir(path, 0777) != 0 && errno != EEXIST)
		die(path, strerror(errno));
}

static void write_part(const char *out, const char *dialect, const struct dialect_part *part)
{
	struct arena a = { 0 };
	const char *dir = arena_printf(&a, "%s/%s", out, part->service ? part->service : "gateway"), *path = arena_printf(&a, "%s/%s.pb", dir, dialect);
	FILE *f;

	make_dir(dir);
	f = fopen(path, "wb");
	if (!f || fwrite(part->bytes.p, 1, part->bytes.n, f) != part->bytes.n || fclose(f) != 0)
		die(path, strerror(errno));
	arena_fini(&a);
}

static void split(const struct file_text *file, const struct schema *schema, const char *out)
{
	struct dialect_part parts[FRAGMENT_SERVICES + 1];
	struct arena a = { 0 };
	const char *why = "";
	Crm__Dialect__Dialect *d = crm__dialect__dialect__unpack(NULL, file->bytes.n, (const uint8_t *)file->bytes.p);
	size_t n;

	if (!d || !d->name)
		die(file->name, "is not a dialect");
	n = fragment_split(d, schema, &a, parts, &why);
	if (!n)
		die(file->name, why);
	for (size_t i = 0; i < n; i++)
		write_part(out, d->name, &parts[i]);
	crm__dialect__dialect__free_unpacked(d, NULL);
	arena_fini(&a);
}

int main(int argc, char **argv)
{
	struct file_text rows[FILES_MOST];
	struct schema_set sets[FILES_MOST];
	struct arena a = { 0 };
	const char *why = "";
	struct schema *schema;
	size_t n;

	if (argc != 4) {
		fputs("usage: dialect-split DESCRIPTOR_DIR DIALECT_DIR OUT_DIR\n", stderr);
		return 2;
	}
	n = files_read(&a, argv[1], rows, &why);
	if (!n)
		die(argv[1], why);
	for (size_t i = 0; i < n; i++)
		sets[i] = (struct schema_set){ .name = rows[i].name, .bytes = rows[i].bytes };
	schema = schema_try_sets(sets, n, &why);
	if (!schema)
		die(argv[1], why);
	n = files_read(&a, argv[2], rows, &why);
	if (!n)
		die(argv[2], why);
	make_dir(argv[3]);
	for (size_t i = 0; i < n; i++)
		split(&rows[i], schema, argv[3]);
	schema_free(schema);
	arena_fini(&a);
	return 0;
}
