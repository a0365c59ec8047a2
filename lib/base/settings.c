/* Settings table: environment to struct, help text. */
#include "base/settings.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/str.h"

static void fail(const struct setting *row, const char *why)
{
	fprintf(stderr, "setting %s: %s\n  %s\n  default: %s\n", row->name, why, row->doc, row->fallback ? row->fallback : "none, it must be given");
	exit(1);
}

static void set_one(const struct setting *row, const char *value, char *at)
{
	int64_t v;

	switch (row->type) {
	case SETTING_TEXT:
		*(const char **)(void *)at = xstrdup(value);
		break;
	case SETTING_INT:
		if (!str_to_i64(str_of(value), &v))
			fail(row, "not a whole number");
		if ((row->min || row->max) && (v < row->min || v > row->max))
			fail(row, "out of range");
		*(long *)(void *)at = (long)v;
		break;
	case SETTING_BOOL:
		if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
			fail(row, "must be true or false");
		*(bool *)at = strcmp(value, "true") == 0;
		break;
	}
}

void settings_load(const struct setting *rows, size_t n, void *into)
{
	for (size_t i = 0; i < n; i++) {
		const char *value = getenv(rows[i].name);

		if (!value || !*value)
			value = rows[i].fallback;
		if (!value)
			fail(&rows[i], "is missing");
		set_one(&rows[i], value, (char *)into + rows[i].offset);
	}
}

void settings_args(const struct setting *rows, size_t n, const char *what, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--help") != 0 && strcmp(argv[i], "--settings") != 0)
			continue;
		printf("%s\n\nSettings (environment variables):\n", what);
		for (size_t k = 0; k < n; k++)
			printf("  %-28s %s (default: %s)\n", rows[k].name, rows[k].doc, rows[k].fallback ? rows[k].fallback : "none, must be given");
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
