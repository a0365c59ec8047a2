/* What a struct schema holds; for the files of lib/schema only. */
#ifndef CRM_SCHEMA_SCHEMA_INTERNAL_H
#define CRM_SCHEMA_SCHEMA_INTERNAL_H

#include "base/arena.h"
#include "schema/schema.h"

struct schema {
	struct arena arena;
	struct schema_message *messages; /* by name */
	size_t n_messages;
	struct schema_method *methods; /* by name; heap */
	size_t n_methods;
	struct schema_permission permissions[128];
	size_t n_permissions;
	const char *row_kinds[SCHEMA_ROW_KINDS];
};

#endif
