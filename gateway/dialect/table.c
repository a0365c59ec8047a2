/* A dialect's routes as text, for people. */
#include "gateway/dialect/table.h"

#include "gateway/dialect/plan.h"

static const char *permission_text(const struct schema *s, unsigned bit)
{
	const char *name = schema_permission_name(s, bit);

	if (name)
		return name;
	return bit == 0 ? "public" : (bit == 1 ? "authenticated" : "internal");
}

void dialect_table(const struct dialects *ds, const struct dialect *d, struct buf *out)
{
	for (size_t i = 0; i < d->impl->n_routes; i++) {
		const struct route *r = &d->impl->routes[i].pub;

		buf_printf(out, "%-7.*s %-50s %-26s %d %s\n", STR_FMT(r->method), r->template, r->rpc->name, r->status,
		    permission_text(dialects_schema(ds), r->rpc->permission));
	}
}
