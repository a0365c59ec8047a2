/* Files of the explorer (swagger-ui), read once at start. Read-only afterwards: any thread. */
#ifndef CRM_GATEWAY_DOCS_H
#define CRM_GATEWAY_DOCS_H

#include "base/str.h"

#define DOCS_FILES_MAX 32
#define DOCS_FILE_MAX (4u << 20)

struct docs_file {
	char *name;
	const char *content_type;
	struct str bytes;
};

struct docs {
	struct docs_file rows[DOCS_FILES_MAX];
	size_t n;
};

/* Scripts, styles, images and fonts of the folder; none when it is absent. */
struct docs *docs_load(const char *dir);
const struct docs_file *docs_find(const struct docs *d, struct str name); /* NULL: not there */

#endif
