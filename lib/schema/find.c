/* Look-ups in a loaded schema. */
#include <stdlib.h>

#include "schema/schema_internal.h"

void schema_free(struct schema *s)
{
	if (!s)
		return;
	free(s->methods);
	arena_fini(&s->arena);
	free(s);
}

static int order(struct str a, const char *b)
{
	int c = strncmp(a.p, b, a.n);

	return c != 0 ? c : (b[a.n] ? -1 : 0);
}

const struct schema_message *schema_message_find(const struct schema *s, struct str name)
{
	size_t low = 0, high = s->n_messages;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int c = order(name, s->messages[mid].name);

		if (c == 0)
			return &s->messages[mid];
		if (c < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return NULL;
}

const struct schema_method *schema_method_find(const struct schema *s, struct str name)
{
	size_t low = 0, high = s->n_methods;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int c = order(name, s->methods[mid].name);

		if (c == 0)
			return &s->methods[mid];
		if (c < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return NULL;
}

const struct schema_field *schema_field_find(const struct schema_message *m, struct str name)
{
	for (size_t i = 0; i < m->n_fields; i++) {
		if (str_eq(name, str_of(m->fields[i].name)))
			return &m->fields[i];
	}
	return NULL;
}

size_t schema_methods(const struct schema *s, const struct schema_method **rows)
{
	*rows = s->methods;
	return s->n_methods;
}

size_t schema_permissions(const struct schema *s, const struct schema_permission **rows)
{
	*rows = s->permissions;
	return s->n_permissions;
}

const char *schema_permission_name(const struct schema *s, unsigned bit)
{
	for (size_t i = 0; i < s->n_permissions; i++) {
		if (s->permissions[i].bit == bit)
			return s->permissions[i].name;
	}
	return NULL;
}

const char *schema_row_kind(const struct schema *s, unsigned number)
{
	return number < SCHEMA_ROW_KINDS ? s->row_kinds[number] : NULL;
}
