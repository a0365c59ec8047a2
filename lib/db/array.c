/* Array literals, every element quoted. */
#include "db/array.h"

void db_array_put(struct buf *b, struct str item)
{
	buf_z(b, b->n ? ",\"" : "{\"");
	for (size_t i = 0; i < item.n; i++) {
		if (item.p[i] == '"' || item.p[i] == '\\')
			buf_c(b, '\\');
		buf_c(b, item.p[i]);
	}
	buf_c(b, '"');
}

char *db_array_end(struct buf *b, struct arena *a)
{
	char *out;

	buf_z(b, b->n ? "}" : "{}");
	out = arena_strdup(a, buf_view(b));
	buf_fini(b);
	return out;
}
