/* Tables of others: CSV in pieces through the members of a route that imports, a workbook as it is, and a sheet of a workbook. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zip.h>

#include "gateway/dialect/import.h"
#include "gateway/dialect/plan.h"
#include "sheet/sheet.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct dialects *ds;
static const struct route_impl *route;

struct run {
	struct arena a;
	struct sheet *sheet;
	struct import_plan *plan;
	bool csv;
};

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const struct dialect *const *rows;
	const char *why = NULL;
	size_t n;

	ds = dialects_load("build/gen/descriptors", "build/gen/dialects", &why);
	if (!ds) {
		fprintf(stderr, "%s\n", why);
		exit(1);
	}
	n = dialects_all(ds, &rows);
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < rows[i]->impl->n_routes; k++)
			if (rows[i]->impl->routes[k].import)
				route = &rows[i]->impl->routes[k];
	if (!route)
		abort();
	return 0;
}

static bool on_row(void *arg, uint64_t number, const struct sheet_cell *cells, size_t n)
{
	struct run *r = arg;
	struct route_match match = { .dialect = &route->dialect->pub, .route = &route->pub };
	struct decode_input in = { .match = &match, .arena = &r->a };
	struct import_row row = { &in, r->sheet, r->csv };
	struct field_violation v;
	struct decoded out;

	if (!r->plan) {
		r->plan = import_plan_new(&route->pub, &r->a, cells, n, STR(""), &v);
		return r->plan != NULL;
	}
	(void)import_row_decode(&row, r->plan, cells, n, &out);
	buf_fini(&out.payload);
	return number < 100;
}

static void book(struct run *r, const void *data, size_t n)
{
	int fd = memfd_create("book", 0);

	if (fd < 0 || write(fd, data, n) != (ssize_t)n)
		abort();
	r->sheet = sheet_xlsx(fd, on_row, r);
	while (sheet_read(r->sheet) == SHEET_MORE)
		;
}

/* A workbook whose first sheet, or whose shared texts, are these bytes. */
static void part(struct run *r, const char *name, const void *data, size_t n)
{
	static const char relations[] = "<R><Relationship Id='r1' Target='s.xml' Type='x/s'/><Relationship Id='r2' Target='t.xml' Type='x/sharedStrings'/></R>", workbook[] = "<w><sheet id='r1'/></w>",
		sheet[] = "<w><row><c t='s'><v>0</v></c></row><row><c t='s'><v>1</v></c></row></w>", texts[] = "<sst/>";
	zip_error_t e;
	zip_source_t *src = zip_source_buffer_create(NULL, 0, 0, &e);
	zip_t *z = zip_open_from_source(src, ZIP_TRUNCATE, &e);
	zip_stat_t st;
	char *bytes;
	bool is_sheet = strcmp(name, "xl/s.xml") == 0;

	if (!z)
		abort();
	zip_source_keep(src);
	zip_file_add(z, "xl/workbook.xml", zip_source_buffer(z, workbook, sizeof(workbook) - 1, 0), 0);
	zip_file_add(z, "xl/_rels/workbook.xml.rels", zip_source_buffer(z, relations, sizeof(relations) - 1, 0), 0);
	zip_file_add(z, name, zip_source_buffer(z, data, n, 0), 0);
	zip_file_add(z, is_sheet ? "xl/t.xml" : "xl/s.xml", zip_source_buffer(z, is_sheet ? texts : sheet, strlen(is_sheet ? texts : sheet), 0), 0);
	if (zip_close(z) != 0 || zip_source_open(src) != 0 || zip_source_stat(src, &st) != 0)
		abort();
	bytes = malloc(st.size);
	if (zip_source_read(src, bytes, st.size) != (zip_int64_t)st.size)
		abort();
	zip_source_close(src);
	zip_source_free(src);
	book(r, bytes, st.size);
	free(bytes);
}

static void csv(struct run *r, struct str in, size_t piece)
{
	bool good = true;

	r->csv = true;
	r->sheet = sheet_csv(on_row, r);
	for (size_t i = 0; good && i < in.n; i += piece)
		good = sheet_feed(r->sheet, (struct str){ in.p + i, in.n - i < piece ? in.n - i : piece }, false);
	if (good)
		sheet_feed(r->sheet, (struct str){ "", 0 }, true);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct run r = { 0 };

	if (n < 2)
		return 0;
	if (data[0] % 8 < 4)
		csv(&r, (struct str){ (const char *)data + 2, n - 2 }, (size_t)data[1] + 1);
	else if (data[0] % 8 == 4)
		book(&r, data + 1, n - 1);
	else
		part(&r, data[0] % 8 == 5 ? "xl/t.xml" : "xl/s.xml", data + 1, n - 1);
	sheet_free(r.sheet);
	arena_fini(&r.a);
	return 0;
}
