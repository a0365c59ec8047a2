/* Decides which contracts are in force and makes the faces of them. */
#include "gateway/contracts.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/version.h"

struct slot {
	const char *service;
	struct contract *now; /* as the service says; NULL: the gateway's own */
	struct contract *known[CONTRACT_KNOWN];
	size_t n_known;
	struct {
		uint64_t instance, hash;
	} seen[CONTRACT_INSTANCES];
	size_t n_seen;
	const struct contract *refused; /* not tried again before another one changes; for comparison only */
	uint64_t n_refused;
};

struct contracts {
	struct own *own;
	struct slot slots[SERVICES_MAX]; /* the rows of SERVICES, then those that only the files have */
	size_t n;
	const struct listen_spec *listeners;
	size_t n_listeners;
	struct faces *faces; /* what the contracts in force make */
};

static struct slot *slot_find(struct contracts *c, const char *service)
{
	for (size_t i = 0; i < c->n; i++) {
		if (strcmp(c->slots[i].service, service) == 0)
			return &c->slots[i];
	}
	return NULL;
}

static void slot_add(struct contracts *c, const char *service)
{
	if (!slot_find(c, service) && c->n < SERVICES_MAX)
		c->slots[c->n++].service = xstrdup(service);
}

struct contracts *contracts_new(const struct service_spec *services, size_t n_services, const struct listen_spec *listeners, size_t n_listeners)
{
	struct contracts *c = xcalloc(1, sizeof(*c));

	for (size_t i = 0; i < n_services; i++)
		slot_add(c, services[i].name);
	c->listeners = listeners;
	c->n_listeners = n_listeners;
	return c;
}

void contracts_free(struct contracts *c)
{
	for (size_t i = 0; i < c->n; i++) {
		for (size_t k = 0; k < c->slots[i].n_known; k++)
			contract_rele(c->slots[i].known[k]);
		contract_rele(c->slots[i].now);
		free((void *)c->slots[i].service);
	}
	faces_rele(c->faces);
	own_free(c->own);
	free(c);
}

/* -- a snapshot of given contracts */

/* Is it in force, with `with` instead of what slot has? */
static struct contract *effective(const struct own *own, const struct slot *s, const struct slot *changed, struct contract *with)
{
	struct contract *now = s == changed ? with : s->now;

	return now ? now : own_of(own, s->service);
}

static int newest_first(const void *a, const void *b)
{
	const struct contract *x = *(const struct contract *const *)a, *y = *(const struct contract *const *)b;

	return contract_is_older(x, y) ? 1 : contract_is_older(y, x) ? -1 : strcmp(x->service, y->service);
}

/* Files that no service owns are taken from the newest build that has them; schema_try_sets sees to it that they only grow. */
static size_t make_sets(const struct own *own, const struct contract **in_force, size_t n, struct schema_set *sets)
{
	size_t k = 0, i = 0;

	qsort(in_force, n, sizeof(*in_force), newest_first);
	for (; i < n && in_force[i]->built > crm_built; i++)
		sets[k++] = (struct schema_set){ in_force[i]->service, in_force[i]->service, in_force[i]->descriptors };
	for (size_t m = 0; m < own->n_shared; m++)
		sets[k++] = (struct schema_set){ own->shared[m].name, NULL, own->shared[m].bytes };
	for (; i < n; i++)
		sets[k++] = (struct schema_set){ in_force[i]->service, in_force[i]->service, in_force[i]->descriptors };
	return k;
}

/* A dialect that a service does not speak of is shown as the gateway's own files have it. */
static size_t make_parts(const struct own *own, const struct contract **in_force, size_t n, const char *dialect, struct dialect_part *parts)
{
	size_t k = 0;

	for (size_t i = 0; i < n; i++) {
		const struct contract_face *f = contract_face(in_force[i], dialect);

		if (!f)
			f = contract_face(own_of(own, in_force[i]->service), dialect);
		if (f)
			parts[k++] = (struct dialect_part){ in_force[i]->service, f->fragment };
	}
	return k;
}

static struct dialects *make_dialects(const struct contracts *c, const struct own *own, const struct slot *changed, struct contract *with, const char **why)
{
	const struct contract *in_force[SERVICES_MAX];
	struct schema_set sets[SERVICES_MAX + FILES_MOST];
	struct dialect_source rows[FILES_MOST];
	struct arena a = { 0 };
	struct dialects *ds;
	size_t n = 0, n_sets;

	for (size_t i = 0; i < c->n; i++) {
		in_force[n] = effective(own, &c->slots[i], changed, with);
		n += in_force[n] != NULL;
	}
	n_sets = make_sets(own, in_force, n, sets);
	for (size_t i = 0; i < own->n_dialects; i++) {
		struct dialect_part *parts = arena_alloc(&a, (n + 1) * sizeof(*parts));

		rows[i] = (struct dialect_source){ own->dialects[i].name, own->dialects[i].bytes, parts, make_parts(own, in_force, n, own->dialects[i].name, parts) };
	}
	ds = dialects_build(sets, n_sets, rows, own->n_dialects, why);
	arena_fini(&a);
	return ds;
}

/* -- may it? */

static bool refuse(const char **why, const char *text)
{
	*why = xstrdup(text);
	return false;
}

static bool same_word(const char *a, const char *b)
{
	return a && b && strcmp(a, b) == 0;
}

/* An entity and who answers for its references: the words by which all services know each other. */
static bool claims_only_its_own(const struct schema *s, const char *service, const char **why)
{
	const struct schema_method *rows;
	size_t n = schema_methods(s, &rows);

	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < n; k++) {
			const struct schema_method *a = &rows[i], *b = &rows[k];

			if (strcmp(a->service, service) != 0 || strcmp(b->service, service) == 0)
				continue;
			if (same_word(a->refs_of, b->refs_of))
				return refuse(why, "it answers for references that another service answers for");
			if (a->entity && b->entity && a->entity != b->entity && same_word(a->entity->entity, b->entity->entity))
				return refuse(why, "it has an entity of another service's name");
		}
	}
	return true;
}

/*
 * A newer build must still be what the clients know. An older one is somebody's decision to go back, and one of the same commit is
 * work in progress.
 */
static bool may_follow(const struct contracts *c, const struct contract *before, const struct contract *next, const struct schema *s, const char **why)
{
	struct arena a = { 0 };
	const char *reason = NULL;
	bool ok;

	if (!schema_has_service(s, next->service))
		return refuse(why, "its descriptors have no service of its own");
	if (!claims_only_its_own(s, next->service, why))
		return false;
	if (!before || next->built <= before->built)
		return true;
	ok = schema_compatible(dialects_schema(c->faces->dialects), s, next->service, &a, &reason);
	if (!ok)
		*why = xstrdup(reason);
	arena_fini(&a);
	return ok;
}

static struct faces *make_faces(struct contracts *c, struct dialects *ds, const char **why)
{
	struct arena a = { 0 };
	const char *reason = "no reason";
	struct faces *f = faces_new(ds, c->listeners, c->n_listeners, &a, &reason);

	if (!f)
		*why = xstrdup(reason);
	arena_fini(&a);
	return f;
}

static void keep_faces(struct contracts *c, struct faces *f)
{
	faces_rele(c->faces);
	c->faces = f;
}

/* False: *why, heap. */
static bool put_into_force(struct contracts *c, struct slot *s, struct contract *next, const char **why)
{
	const struct contract *before = effective(c->own, s, NULL, NULL), *then = next ? next : own_of(c->own, s->service);
	struct dialects *ds;
	struct faces *f;

	if (then && then->broken)
		return refuse(why, then->broken);
	if (!before || !then || before->content != then->content) {
		ds = make_dialects(c, c->own, s, next, why);
		if (!ds)
			return false;
		if (then && !may_follow(c, before, then, dialects_schema(ds), why)) {
			dialects_rele(ds);
			return false;
		}
		f = make_faces(c, ds, why);
		if (!f)
			return false;
		keep_faces(c, f);
	}
	contract_hold(next);
	contract_rele(s->now);
	s->now = next;
	return true;
}

/* -- which is due */

static struct contract *known(const struct slot *s, uint64_t hash)
{
	for (size_t i = 0; i < s->n_known; i++) {
		if (s->known[i]->hash == hash)
			return s->known[i];
	}
	return NULL;
}

/*
 * False: it is not known yet, what is in force stays. An instance without a contract is of before there were any, so older than all:
 * the gateway's own files (NULL) are for it.
 */
static bool due(const struct slot *s, struct contract **out)
{
	struct contract *oldest = NULL;

	for (size_t i = 0; i < s->n_seen; i++) {
		struct contract *k = known(s, s->seen[i].hash);

		if (!s->seen[i].hash) {
			*out = NULL;
			return true;
		}
		if (!k)
			return false;
		if (!oldest || contract_is_older(k, oldest))
			oldest = k;
	}
	*out = oldest;
	return oldest != NULL;
}

static bool is_seen(const struct slot *s, uint64_t hash)
{
	for (size_t i = 0; i < s->n_seen; i++) {
		if (s->seen[i].hash == hash)
			return true;
	}
	return false;
}

static void forget_unused(struct slot *s)
{
	size_t kept = 0;

	for (size_t i = 0; i < s->n_known; i++) {
		if (is_seen(s, s->known[i]->hash) || s->known[i] == s->now) {
			s->known[kept++] = s->known[i];
			continue;
		}
		if (s->refused == s->known[i])
			s->refused = NULL;
		contract_rele(s->known[i]);
	}
	s->n_known = kept;
}

static void log_in_force(const struct contracts *c, const struct slot *s)
{
	const struct contract *now = effective(c->own, s, NULL, NULL);

	if (now)
		log_info("CONTRACT-IN-FORCE", "%s: %s, %s", s->service, now->version, s->now ? "as the service says" : "of the gateway's own files");
}

/* Is a dialect spoken of that there is not? Its parts are passed over; whoever sent them may wonder. */
static void log_passed_over(const struct contracts *c, const struct contract *now)
{
	for (size_t i = 0; now && i < now->n_faces; i++) {
		size_t k = 0;

		while (k < c->own->n_dialects && strcmp(c->own->dialects[k].name, now->faces[i].dialect) != 0)
			k++;
		if (k == c->own->n_dialects)
			log_warn("CONTRACT-DIALECT", "%s: the gateway has no dialect `%s`: its part is passed over", now->service, now->faces[i].dialect);
	}
}

static void note_refusal(struct slot *s, const struct contract *next, const char *why)
{
	s->refused = next;
	s->n_refused++;
	log_error("CONTRACT-REFUSED", "%s %s: %s: what was in force stays", s->service, next ? next->version : "of the gateway's own files", why);
}

/* True: another one is in force. */
static bool decide_one(struct contracts *c, struct slot *s)
{
	struct contract *next = NULL;
	const char *why = NULL;

	if (!due(s, &next) || next == s->now || (next && next == s->refused))
		return false;
	if (!put_into_force(c, s, next, &why)) {
		note_refusal(s, next, why);
		free((void *)why);
		return false;
	}
	s->refused = NULL;
	log_in_force(c, s);
	log_passed_over(c, s->now);
	return true;
}

/* What was refused may fit now, when another service's contract has changed. */
static void try_refused_again(struct contracts *c)
{
	for (size_t i = 0; i < c->n; i++)
		c->slots[i].refused = NULL;
}

struct faces *contracts_decide(struct contracts *c)
{
	const struct faces *before = c->faces;
	bool again = true;

	for (size_t turn = 0; again && turn < SERVICES_MAX; turn++) {
		again = false;
		for (size_t i = 0; i < c->n; i++) {
			const struct faces *was = c->faces;

			again = decide_one(c, &c->slots[i]) || again;
			if (c->faces != was)
				try_refused_again(c);
		}
	}
	for (size_t i = 0; i < c->n; i++)
		forget_unused(&c->slots[i]);
	if (c->faces == before)
		return NULL;
	faces_hold(c->faces);
	return c->faces;
}

/* -- what is told */

enum contracts_news contracts_seen(struct contracts *c, const char *service, uint64_t instance, uint64_t hash)
{
	struct slot *s = slot_find(c, service);
	size_t i = 0;

	while (s && i < s->n_seen && s->seen[i].instance != instance)
		i++;
	if (!s || i == CONTRACT_INSTANCES)
		return CONTRACTS_SAME;
	if (i == s->n_seen || s->seen[i].hash != hash) {
		s->seen[i].instance = instance;
		s->seen[i].hash = hash;
		s->n_seen += i == s->n_seen;
		return hash && !known(s, hash) ? CONTRACTS_WANTED : CONTRACTS_CHANGED;
	}
	return hash && !known(s, hash) ? CONTRACTS_WANTED : CONTRACTS_SAME;
}

bool contracts_gone(struct contracts *c, const char *service, uint64_t instance)
{
	struct slot *s = slot_find(c, service);

	for (size_t i = 0; s && i < s->n_seen; i++) {
		if (s->seen[i].instance != instance)
			continue;
		s->seen[i] = s->seen[--s->n_seen];
		return s->n_seen > 0;
	}
	return false;
}

void contracts_take(struct contracts *c, const char *service, uint64_t hash, struct str bytes)
{
	struct slot *s = slot_find(c, service);

	if (!s || known(s, hash))
		return;
	if (s->n_known == CONTRACT_KNOWN)
		forget_unused(s);
	if (s->n_known < CONTRACT_KNOWN)
		s->known[s->n_known++] = contract_parse(s->service, hash, bytes);
}

bool contracts_settled(const struct contracts *c, const char *service)
{
	const struct slot *s = slot_find((struct contracts *)c, service);

	for (size_t i = 0; s && i < s->n_seen; i++) {
		if (s->seen[i].hash && !known(s, s->seen[i].hash))
			return false;
	}
	return s && s->n_seen > 0;
}

struct faces *contracts_load(struct contracts *c, const char *descriptor_dir, const char *dialect_dir, const char **why)
{
	struct own *own = own_load(descriptor_dir, dialect_dir, why);
	struct dialects *ds;
	struct faces *f;

	if (!own)
		return NULL;
	for (size_t i = 0; i < own->n_services; i++)
		slot_add(c, own->services[i]->service);
	ds = make_dialects(c, own, NULL, NULL, why);
	f = ds ? make_faces(c, ds, why) : NULL;
	if (!f) {
		own_free(own);
		return NULL;
	}
	own_free(c->own);
	c->own = own;
	keep_faces(c, f);
	try_refused_again(c);
	faces_hold(f);
	return f;
}

size_t contracts_rows(const struct contracts *c, struct contracts_row rows[SERVICES_MAX])
{
	for (size_t i = 0; i < c->n; i++) {
		const struct slot *s = &c->slots[i];

		rows[i] = (struct contracts_row){ s->service, effective(c->own, s, NULL, NULL), !s->now, s->n_refused };
	}
	return c->n;
}
