/* Settings table: environment and files to struct, help text. */
#include "base/settings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/str.h"

static void fail(const struct setting *row, const char *why)
{
	fprintf(stderr, "setting %s: %s\n  %s\n  default: %s\n", row->name, why, row->doc,
	    row->fallback ? row->fallback : row->secret ? "none, it or the same with _FILE must be given" : "none, it must be given");
	exit(1);
}

/* Heap; newlines at the end are cut. */
static char *read_file(const struct setting *row, const char *path)
{
	char *text = xmalloc(SETTING_FILE_BYTES + 2);
	FILE *f = fopen(path, "re");
	size_t n = f ? fread(text, 1, SETTING_FILE_BYTES + 1, f) : 0;
	char why[300];

	if (!f || ferror(f)) {
		snprintf(why, sizeof(why), "%s_FILE: %.200s cannot be read: %s", row->name, path, strerror(errno));
		fail(row, why);
	}
	fclose(f);
	if (n > SETTING_FILE_BYTES || memchr(text, 0, n)) {
		snprintf(why, sizeof(why), "%s_FILE: %.200s is too long or not text", row->name, path);
		fail(row, why);
	}
	while (n && (text[n - 1] == '\n' || text[n - 1] == '\r'))
		n--;
	text[n] = 0;
	return xrealloc(text, n + 1);
}

static const char *from_environment(const char *name)
{
	const char *value = getenv(name);

	return value && *value ? value : NULL;
}

/* Heap; NULL: neither given nor has it a default. */
static char *find(const struct setting *row)
{
	const char *value = from_environment(row->name), *path;
	char name[128], why[200];
	char *text;

	snprintf(name, sizeof(name), "%s_FILE", row->name);
	path = row->secret ? from_environment(name) : NULL;
	if (value && path) {
		snprintf(why, sizeof(why), "it and %s are both given; give one", name);
		fail(row, why);
	}
	if (path) {
		text = read_file(row, path);
		if (*text)
			return text;
		free(text);
	}
	if (!value)
		value = row->fallback;
	return value ? xstrdup(value) : NULL;
}

/* Takes value. */
static void set_one(const struct setting *row, char *value, char *at)
{
	int64_t v;

	switch (row->type) {
	case SETTING_TEXT:
		*(char **)(void *)at = value;
		return;
	case SETTING_INT:
		if (!str_to_i64(str_of(value), &v))
			fail(row, "not a whole number");
		if ((row->min || row->max) && (v < row->min || v > row->max))
			fail(row, "out of range");
		*(long *)(void *)at = (long)v;
		break;
	case SETTING_BOOL:
		*(bool *)at = strcmp(value, "true") == 0 || strcmp(value, "on") == 0;
		if (!*(bool *)at && strcmp(value, "false") != 0 && strcmp(value, "off") != 0)
			fail(row, "must be true (on) or false (off)");
		break;
	}
	free(value);
}

void settings_load(const struct setting *rows, size_t n, void *into)
{
	for (size_t i = 0; i < n; i++) {
		char *value = find(&rows[i]);

		if (!value)
			fail(&rows[i], "is missing");
		set_one(&rows[i], value, (char *)into + rows[i].offset);
	}
}

/* What settings_one gave out; lives as long as the process. */
static struct kept {
	struct kept *next;
	char *text;
} *kept;

static const char *keep(char *text)
{
	struct kept *k = xcalloc(1, sizeof(*k));

	*k = (struct kept){ kept, text };
	kept = k;
	return text;
}

const char *settings_one(const struct setting *rows, size_t n, const char *name)
{
	char *value;

	for (size_t i = 0; i < n; i++) {
		if (strcmp(rows[i].name, name) != 0)
			continue;
		value = find(&rows[i]);
		if (!value)
			fail(&rows[i], "is missing");
		return keep(value);
	}
	abort(); /* a name that the table does not have is a fault of the program */
}

void settings_args(const struct setting *rows, size_t n, const char *what, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--help") != 0 && strcmp(argv[i], "--settings") != 0)
			continue;
		printf("%s\n\nSettings (environment variables):\n", what);
		for (size_t k = 0; k < n; k++)
			printf("  %-28s %s (default: %s%s%s%s)\n", rows[k].name, rows[k].doc, rows[k].fallback ? rows[k].fallback : "none, must be given",
			    rows[k].secret ? "; or " : "", rows[k].secret ? rows[k].name : "", rows[k].secret ? "_FILE" : "");
		exit(0);
	}
}

void settings_print(const struct setting *rows, size_t n, const void *from, FILE *out)
{
	for (size_t i = 0; i < n; i++) {
		const char *at = (const char *)from + rows[i].offset;

		if (rows[i].secret)
			fprintf(out, "%s=(set)\n", rows[i].name);
		else if (rows[i].type == SETTING_TEXT)
			fprintf(out, "%s=%s\n", rows[i].name, *(const char *const *)(const void *)at);
		else if (rows[i].type == SETTING_INT)
			fprintf(out, "%s=%ld\n", rows[i].name, *(const long *)(const void *)at);
		else
			fprintf(out, "%s=%s\n", rows[i].name, *(const bool *)at ? "true" : "false");
	}
}
