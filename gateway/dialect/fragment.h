/*
 * A dialect in parts: what belongs to one service travels with that service (crm.v1.Contract), the rest stays with the gateway.
 *
 * A route belongs to the service of its rpc, a resource of a message that a service's own file declares to that service. Shapes, enum
 * maps, parameter sets and the other resources go along with each service whose routes need them; what not exactly one needs is in the
 * base too, and there the base decides. Everything else (error, rates, cors, …) is the base's alone.
 */
#ifndef CRM_GATEWAY_DIALECT_FRAGMENT_H
#define CRM_GATEWAY_DIALECT_FRAGMENT_H

#include "base/arena.h"
#include "base/buf.h"
#include "proto/dialect.pb-c.h"
#include "schema/schema.h"

#define FRAGMENT_SERVICES 32
#define FRAGMENT_MAX_BYTES (1u << 20)

/* crm.dialect.Dialect on the wire. service NULL: the base. */
struct dialect_part {
	const char *service;
	struct str bytes;
};

/*
 * Cuts whole into a base, which comes first, and a part for every service that s knows, in the order of their names; a part may be
 * empty but for its name. Texts in a. Sets the places in whole. 0: *why says which rpc is unknown.
 */
size_t fragment_split(Crm__Dialect__Dialect *whole, const struct schema *s, struct arena *a, struct dialect_part parts[FRAGMENT_SERVICES + 1], const char **why);

/*
 * Puts parts into base, which was unpacked with the default allocator; routes and resources in the order of their places. s: the
 * contracts of all. False: *why (in a) says what a part may not have; base is then good for free_unpacked only.
 */
bool fragment_merge(Crm__Dialect__Dialect *base, const struct dialect_part *parts, size_t n, const struct schema *s, struct arena *a, const char **why);

#endif
