/* The routes of a dialect, one by one. */
#include "gateway/dialect/plan.h"

const struct route *dialect_route(const struct dialect *d, size_t i)
{
	return i < d->impl->n_routes ? &d->impl->routes[i].pub : NULL;
}
