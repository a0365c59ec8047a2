/* Compiles all dialects against the contracts: prints the first mistake, or the routes of each dialect. */
#include <stdio.h>

#include "gateway/dialect/dialect.h"
#include "gateway/dialect/table.h"

static int usage(void)
{
	fputs("usage: dialect-check DESCRIPTOR_DIR DIALECT_DIR [--openapi NAME]\n", stderr);
	return 2;
}

static void print_tables(const struct dialects *ds)
{
	const struct dialect *const *rows;
	size_t n = dialects_all(ds, &rows);

	for (size_t i = 0; i < n; i++) {
		struct buf b = { 0 };

		dialect_table(ds, rows[i], &b);
		printf("# %s: %s\n%s\n", rows[i]->name, rows[i]->title, buf_cstr(&b));
		buf_fini(&b);
	}
}

static int print_openapi(const struct dialects *ds, const char *name)
{
	const struct dialect *d = dialects_find(ds, str_of(name));
	struct buf b = { 0 };

	if (!d) {
		fprintf(stderr, "there is no dialect %s\n", name);
		return 1;
	}
	dialect_openapi(ds, d, STR("http://127.0.0.1:5000"), &b);
	puts(buf_cstr(&b));
	buf_fini(&b);
	return 0;
}

int main(int argc, char **argv)
{
	const char *why = NULL;
	struct dialects *ds;
	int rc = 0;

	if (argc != 3 && !(argc == 5 && strcmp(argv[3], "--openapi") == 0))
		return usage();
	ds = dialects_load(argv[1], argv[2], &why);
	if (!ds) {
		fprintf(stderr, "%s\n", why);
		return 1;
	}
	if (argc == 5)
		rc = print_openapi(ds, argv[4]);
	else
		print_tables(ds);
	dialects_rele(ds);
	return rc;
}
