/* Roles to permission bitmaps, and bitmaps to the flat words of the Permissions call. */
#include "roles.h"

#define FIRST_REAL_BIT 8 /* below: PUBLIC, AUTHENTICATED, INTERNAL */

static const struct schema_permission *all;
static size_t n_all;

static const char *const manager_lacks[] = { "tenants.delete", "users.delete", "roles.write", "api_keys.write", "settings.write", "privacy.erase" };
static const char *const agent_has[] = { "customers.read", "customers.write", "contacts.read", "contacts.write", "leads.read", "leads.write",
	"tags.read", "tags.write", "territories.read", "users.read", "deals.read", "deals.write", "products.read", "orders.read", "orders.write", "jobs.read" };

void roles_init(const struct schema_permission *rows, size_t n)
{
	all = rows;
	n_all = n;
}

size_t roles_known(const struct schema_permission **rows)
{
	*rows = all;
	return n_all;
}

static void set(struct perms *p, unsigned bit, bool on)
{
	uint64_t mask = 1ull << (bit % 64);

	if (on)
		p->bits[bit / 64] |= mask;
	else
		p->bits[bit / 64] &= ~mask;
}

static bool has(const struct perms *p, unsigned bit)
{
	return p->bits[bit / 64] >> (bit % 64) & 1;
}

static const struct schema_permission *find(struct str word)
{
	for (size_t i = 0; i < n_all; i++) {
		if (all[i].bit >= FIRST_REAL_BIT && all[i].bit < 128 && str_eq(word, str_of(all[i].name)))
			return &all[i];
	}
	return NULL;
}

bool perms_add_word(struct perms *p, struct str word)
{
	const struct schema_permission *row = find(word);

	if (row)
		set(p, row->bit, true);
	return row != NULL;
}

static void add_all(struct perms *p)
{
	for (size_t i = 0; i < n_all; i++) {
		if (all[i].bit >= FIRST_REAL_BIT && all[i].bit < 128)
			set(p, all[i].bit, true);
	}
}

static void each(struct perms *p, const char *const *words, size_t n, bool on)
{
	for (size_t i = 0; i < n; i++) {
		const struct schema_permission *row = find(str_of(words[i]));

		if (row)
			set(p, row->bit, on);
	}
}

bool roles_builtin(const char *role, struct perms *out)
{
	memset(out, 0, sizeof(*out));
	if (strcmp(role, "admin") == 0) {
		add_all(out);
	} else if (strcmp(role, "manager") == 0) {
		add_all(out);
		each(out, manager_lacks, sizeof(manager_lacks) / sizeof(*manager_lacks), false);
	} else if (strcmp(role, "agent") == 0 || strcmp(role, "user") == 0) {
		each(out, agent_has, sizeof(agent_has) / sizeof(*agent_has), true);
	} else {
		return false;
	}
	return true;
}

/* Permission words need no quoting in an array's text, so the separators are all there is to parse. */
void perms_apply(struct perms *p, const char *array, bool remove)
{
	for (const char *s = array ? array : ""; *s;) {
		size_t n = strcspn(s, "{},\"");
		const struct schema_permission *row = n ? find((struct str){ s, n }) : NULL;

		if (row)
			set(p, row->bit, !remove);
		s += n ? n : 1;
	}
}

struct perms roles_member(const char *role, const char *role_permissions, const char *granted, const char *denied)
{
	struct perms p;

	if (!roles_builtin(role, &p))
		perms_apply(&p, role_permissions, false);
	perms_apply(&p, granted, false);
	perms_apply(&p, denied, true);
	return p;
}

static struct str verb_of(const char *name)
{
	const char *dot = strchr(name, '.');

	return str_of(dot ? dot + 1 : "");
}

static bool any_verb(const struct perms *p, struct str verb)
{
	for (size_t i = 0; i < n_all; i++) {
		if (all[i].bit >= FIRST_REAL_BIT && has(p, all[i].bit) && str_eq(verb_of(all[i].name), verb))
			return true;
	}
	return false;
}

static bool manages(const struct perms *p, struct str resource)
{
	bool writes = false;

	for (size_t i = 0; i < n_all; i++) {
		struct str verb = verb_of(all[i].name);
		bool counts = str_eq(verb, STR("read")) || str_eq(verb, STR("write")) || str_eq(verb, STR("delete"));

		if (!counts || strncmp(all[i].name, resource.p, resource.n) != 0 || all[i].name[resource.n] != '.')
			continue;
		if (!has(p, all[i].bit))
			return false;
		writes |= str_eq(verb, STR("write"));
	}
	return writes;
}

size_t roles_flat(const struct perms *p, struct arena *a, char *words[ROLES_FLAT_MAX])
{
	static const struct str verbs[] = { { "read", 4 }, { "write", 5 }, { "delete", 6 } };
	size_t n = 0;

	for (size_t i = 0; i < 3; i++) {
		if (any_verb(p, verbs[i]))
			words[n++] = arena_strdup(a, verbs[i]);
	}
	for (size_t i = 0; i < n_all && n < ROLES_FLAT_MAX; i++) {
		struct str resource = { all[i].name, strcspn(all[i].name, ".") };

		if (all[i].bit >= FIRST_REAL_BIT && str_eq(verb_of(all[i].name), STR("write")) && manages(p, resource))
			words[n++] = arena_printf(a, "manage_%.*s", STR_FMT(resource));
	}
	return n;
}
