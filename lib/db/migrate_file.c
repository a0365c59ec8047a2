/* Files of migrations: their names, their text, what the comments at their top declare. */
#include "db/migrate.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>

#include "base/codec.h"
#include "base/log.h"

#define MAX_FILES 1000
#define MAX_FILE_BYTES (4u << 20)

static bool is_migration(const char *name)
{
	size_t n = strlen(name);

	return n > 8 && isdigit((unsigned char)name[0]) && isdigit((unsigned char)name[1]) && isdigit((unsigned char)name[2]) && name[3] == '_' &&
	    strcmp(name + n - 4, ".sql") == 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int migrate_number(const char *name)
{
	return (name[0] - '0') * 100 + (name[1] - '0') * 10 + (name[2] - '0');
}

int migrate_files(struct arena *a, const char *dir, const char *const **names)
{
	const char **list = arena_alloc(a, MAX_FILES * sizeof(*list));
	DIR *d = opendir(dir);
	struct dirent *e;
	int n = 0;

	*names = list;
	if (!d)
		return -1;
	for (e = readdir(d); e && n < MAX_FILES; e = readdir(d)) {
		if (is_migration(e->d_name))
			list[n++] = arena_strdup(a, str_of(e->d_name));
	}
	closedir(d);
	qsort(list, (size_t)n, sizeof(*list), by_name);
	return n;
}

static void read_file(const char *path, struct buf *into)
{
	FILE *f = fopen(path, "re");
	char part[8192];
	size_t n;

	if (!f)
		log_die("MIGRATE-READ", "%s: %s", path, strerror(errno));
	do {
		n = fread(part, 1, sizeof(part), f);
		buf_put(into, part, n);
	} while (n > 0 && into->n <= MAX_FILE_BYTES);
	if (ferror(f) || into->n > MAX_FILE_BYTES || (into->n && memchr(into->p, 0, into->n)))
		log_die("MIGRATE-READ", "%s: unreadable, too large or not text", path);
	fclose(f);
}

/* {{schema}} becomes the schema's name. */
static char *with_schema(struct arena *a, struct buf *text, const char *schema)
{
	const char *mark = "{{schema}}", *from = buf_cstr(text), *hit = strstr(from, mark);
	struct buf out = { 0 };
	char *sql;

	for (; hit; hit = strstr(from, mark)) {
		buf_put(&out, from, (size_t)(hit - from));
		buf_z(&out, schema);
		from = hit + strlen(mark);
	}
	buf_z(&out, from);
	sql = arena_strdup(a, buf_view(&out));
	buf_fini(&out);
	return sql;
}

/* A floor above the file itself would keep out the program that brings it; common and own numbers do not compare. */
static void read_floor(const char *path, const char *value, size_t n, struct migrate_file *f)
{
	int own = migrate_number(f->name);
	int64_t floor = 0;

	if (!str_to_i64((struct str){ value, n }, &floor) || floor < 1 || floor > own || (floor < MIGRATE_COMMON_END) != (own < MIGRATE_COMMON_END))
		log_die("MIGRATE-READ", "%s: oldest-program must be the number of a migration of its kind, at most its own", path);
	f->oldest_program = (int)floor;
}

static void read_top(const char *path, const char *at, struct migrate_file *f)
{
	static const char floor[] = "-- oldest-program: ", outside[] = "-- outside-transaction";

	for (; strncmp(at, "--", 2) == 0 || *at == '\n'; at += strcspn(at, "\n"), at += *at == '\n') {
		size_t n = strcspn(at, "\r\n");

		if (n >= sizeof(floor) - 1 && memcmp(at, floor, sizeof(floor) - 1) == 0)
			read_floor(path, at + sizeof(floor) - 1, n - (sizeof(floor) - 1), f);
		else if (n == sizeof(outside) - 1 && memcmp(at, outside, n) == 0)
			f->outside = true;
		else if (strncmp(at, floor, 15) == 0 || strncmp(at, outside, 10) == 0)
			log_die("MIGRATE-READ", "%s: `%.*s` is not understood", path, (int)n, at);
	}
}

void migrate_file_read(struct arena *a, const char *dir, const char *name, const char *schema, struct migrate_file *f)
{
	const char *path = arena_printf(a, "%s/%s", dir, name);
	struct buf text = { 0 };
	uint8_t sum[32];

	if (strpbrk(name, "'\\"))
		log_die("MIGRATE-FAILED", "%s: the name must not have quotes", path);
	*f = (struct migrate_file){ .name = name };
	read_file(path, &text);
	sha256(text.p, text.n, sum);
	hex_encode(sum, sizeof(sum), f->checksum);
	read_top(path, buf_cstr(&text), f);
	f->sql = with_schema(a, &text, schema);
	buf_fini(&text);
}
