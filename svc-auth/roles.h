/*
 * What a role may do, as the permission bitmap that tokens carry, and the flat words that clients see.
 *
 * Built in: admin (all), manager (all but tenants.delete, users.delete, roles.write, api_keys.write), agent and its other
 * name user (customers, contacts, leads, tags, deals, orders: read and write; territories, users, products: read). Other names: the tenant's role rows.
 * Threading: read-only after roles_init.
 */
#ifndef CRM_AUTH_ROLES_H
#define CRM_AUTH_ROLES_H

#include "base/arena.h"
#include "schema/schema.h"

struct perms {
	uint64_t bits[2];
};

/* rows stay the caller's and must live on (schema_permissions). */
void roles_init(const struct schema_permission *rows, size_t n);

/* The rows given to roles_init. */
size_t roles_known(const struct schema_permission **rows);

bool roles_builtin(const char *role, struct perms *out);
/* role_permissions, granted, denied: PostgreSQL text arrays ("{a.b,c.d}"), NULL for none. */
struct perms roles_member(const char *role, const char *role_permissions, const char *granted, const char *denied);
/* Adds (or with remove, takes away) each word of the array; unknown words are ignored. */
void perms_apply(struct perms *p, const char *array, bool remove);
/* False: no such permission. */
bool perms_add_word(struct perms *p, struct str word);

/*
 * Words for people and user interfaces, always in this order: "read", "write", "delete" when any permission of that verb
 * is held, then "manage_<resource>" (in the order of enum Permission) for each resource that has a write permission and
 * whose read, write and delete are all held, as far as they exist. Returns their number.
 */
#define ROLES_FLAT_MAX 64
size_t roles_flat(const struct perms *p, struct arena *a, char *words[ROLES_FLAT_MAX]);

#endif
