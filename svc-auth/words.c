/* Flat and exact permission words to permissions, and back to exact words. */
#include "words.h"

#define FIRST_REAL_BIT 8

static bool has(const struct perms *p, unsigned bit)
{
	return p->bits[bit / 64] >> (bit % 64) & 1;
}

static void set(struct perms *p, unsigned bit)
{
	p->bits[bit / 64] |= 1ull << (bit % 64);
}

static bool real(const struct schema_permission *row)
{
	return row->bit >= FIRST_REAL_BIT && row->bit < 128;
}

static struct str resource_of(const struct schema_permission *row)
{
	return (struct str){ row->name, strcspn(row->name, ".") };
}

/* "read" speaks for the small verbs as well: export, verify. */
static struct str verb_of(const struct schema_permission *row)
{
	struct str verb = str_of(row->name + resource_of(row).n + 1);

	return str_eq(verb, STR("write")) || str_eq(verb, STR("delete")) ? verb : STR("read");
}

static bool is_business(struct str resource)
{
	static const char *const ruling[] = { "users", "roles", "tenants", "audit", "api_keys", "settings" };

	for (size_t i = 0; i < sizeof(ruling) / sizeof(*ruling); i++) {
		if (str_eq(resource, str_of(ruling[i])))
			return false;
	}
	return true;
}

static bool reads(const struct perms *role, struct str resource)
{
	const struct schema_permission *rows;
	size_t n = roles_known(&rows);

	for (size_t i = 0; i < n; i++) {
		if (real(&rows[i]) && has(role, rows[i].bit) && str_eq(resource_of(&rows[i]), resource) && strcmp(rows[i].name + resource.n, ".read") == 0)
			return true;
	}
	return false;
}

static void add_verb(const struct perms *role, struct str verb, struct perms *out)
{
	const struct schema_permission *rows;
	size_t n = roles_known(&rows);
	bool said = false;

	for (size_t i = 0; i < n; i++) {
		if (!real(&rows[i]) || !has(role, rows[i].bit) || !str_eq(verb_of(&rows[i]), verb))
			continue;
		set(out, rows[i].bit);
		said = true;
	}
	for (size_t i = 0; i < n && !said; i++) {
		struct str resource = resource_of(&rows[i]);

		if (real(&rows[i]) && str_eq(str_of(rows[i].name + resource.n + 1), verb) && is_business(resource) && reads(role, resource))
			set(out, rows[i].bit);
	}
}

static bool add_resource(struct str resource, struct perms *out)
{
	const struct schema_permission *rows;
	size_t n = roles_known(&rows);
	bool found = false;

	for (size_t i = 0; i < n; i++) {
		if (!real(&rows[i]) || !str_eq(resource_of(&rows[i]), resource))
			continue;
		set(out, rows[i].bit);
		found = true;
	}
	return found;
}

static bool add(const struct perms *role, struct str word, struct perms *out)
{
	if (str_eq(word, STR("read")) || str_eq(word, STR("write")) || str_eq(word, STR("delete"))) {
		add_verb(role, word, out);
		return true;
	}
	if (str_starts(word, STR("manage_")))
		return add_resource((struct str){ word.p + 7, word.n - 7 }, out);
	return perms_add_word(out, word);
}

bool words_perms(const struct perms *role, char *const *words, size_t n, struct perms *out, const char **bad)
{
	memset(out, 0, sizeof(*out));
	for (size_t i = 0; i < n; i++) {
		*bad = words[i];
		if (i >= WORDS_MAX || !add(role, str_of(words[i]), out))
			return false;
	}
	*bad = NULL;
	return true;
}

size_t words_of(const struct perms *p, char *words[128])
{
	const struct schema_permission *rows;
	size_t n = roles_known(&rows), out = 0;

	for (size_t i = 0; i < n && out < 128; i++) {
		if (real(&rows[i]) && has(p, rows[i].bit))
			words[out++] = (char *)rows[i].name;
	}
	return out;
}
