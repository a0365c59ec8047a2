/*
 * Settings: one table per program. Values come from the environment (the row's name), else its default.
 * A row marked secret may be given as <NAME>_FILE too, naming a file that holds the value: an environment is seen by more eyes
 * than a file. Newlines at its end are cut. Giving both is refused. --help is printed from the table.
 */
#ifndef CRM_BASE_SETTINGS_H
#define CRM_BASE_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum setting_type { SETTING_TEXT, SETTING_INT, SETTING_BOOL };

struct setting {
	const char *name;     /* environment variable */
	enum setting_type type;
	size_t offset;        /* into the program's settings struct: const char *, long or bool */
	const char *fallback; /* default as text; NULL: must be given */
	const char *doc;      /* one line */
	bool secret;          /* never printed; <NAME>_FILE is accepted */
	long min, max;        /* for SETTING_INT */
};

#define SETTING_FILE_BYTES 65536 /* longest value in a file */

/* Fills *into from the environment; exits with a sentence that names the setting when a value is missing or wrong. */
void settings_load(const struct setting *rows, size_t n, void *into);
/* The text of the row of that name, for what is needed before or without the whole table; exits like settings_load. It lives as long as the process. */
const char *settings_one(const struct setting *rows, size_t n, const char *name);
/* Handles --help and --settings (prints and exits 0). */
void settings_args(const struct setting *rows, size_t n, const char *what, int argc, char **argv);
/* NAME=value per line, secrets as "(set)". */
void settings_print(const struct setting *rows, size_t n, const void *from, FILE *out);

#endif
