/* One row by its key: those who ask for rows of one tenant at the same time share a statement. */
#include <stdlib.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/codec.h"
#include "db/link.h"

/*
 * IN ($1, ..., $4) and not = ANY($1): of a list PostgreSQL knows the length without its values, so the generic plan looks no worse than
 * one made for these values and is kept after five executions. For arrays it takes ten elements and would plan each execution anew.
 * A list that is too long repeats its last key, which the index scan drops: 16 keys for 4 cost nothing that was measurable.
 */
static const int form_keys[DB_LOOKUP_FORMS] = { 1, 4, 8, DB_LOOKUP_MOST };

void db_lookup_init(struct db_lookup *l, const char *head, const char *expression, enum db_key key, const char *tail, int column)
{
	const char *type = key == DB_KEY_UUID ? "uuid" : "bigint";

	l->key = key;
	l->column = column;
	for (int i = 0; i < DB_LOOKUP_FORMS; i++) {
		struct buf b = { 0 };

		buf_printf(&b, "%s%s %s", head, expression, i ? "IN (" : "= ");
		for (int k = 1; k <= form_keys[i]; k++)
			buf_printf(&b, "%s$%d::%s", k > 1 ? ", " : "", k, type);
		buf_printf(&b, "%s%s", i ? ")" : "", tail);
		buf_cstr(&b);
		l->form[i].sql = buf_view(&b);
		l->form[i].hash = statements_hash(l->form[i].sql);
	}
}

void db_lookup_fini(struct db_lookup *l)
{
	for (int i = 0; i < DB_LOOKUP_FORMS; i++)
		free((char *)l->form[i].sql.p);
	*l = (struct db_lookup){ 0 };
}

/* The key as a column of its type is sent: 16 bytes, or 8 with the highest first. */
static bool key_bytes(enum db_key kind, struct str text, uint8_t out[16])
{
	int64_t n;

	if (kind == DB_KEY_UUID)
		return uuid_to_bytes(text, out);
	if (!str_to_i64(text, &n))
		return false;
	for (int i = 0; i < 8; i++)
		out[i] = (uint8_t)((uint64_t)n >> (56 - 8 * i));
	return true;
}

/* One block of memory: job, statement, room for the keys of all mates, its own key, scope. Who has a scope of rows reads alone. */
struct job *lookup_new(const struct db_lookup *l, const char *key, struct str scope)
{
	size_t fixed = sizeof(struct job) + sizeof(struct job_stmt), params = DB_LOOKUP_MOST * sizeof(char *);
	struct str text = str_of(key);
	struct job *j = xmalloc(fixed + params + KEY_TEXT + (scope.n ? scope.n + 1 : 0));
	char *own = (char *)j + fixed + params;

	memset(j, 0, fixed);
	j->kind = DB_READ;
	j->lookup = l;
	j->n = 1;
	if (scope.n) {
		char *at = own + KEY_TEXT;

		memcpy(at, scope.p, scope.n);
		at[scope.n] = 0;
		j->scope = at;
	}
	j->stmts[0].params = (const char **)(void *)((char *)j + fixed);
	j->stmts[0].params[0] = NULL;
	if (text.n < KEY_TEXT && key_bytes(l->key, text, j->key)) {
		memcpy(own, text.p, text.n + 1);
		j->stmts[0].params[0] = own;
	}
	return j;
}

static bool may_share(const struct job *j, const struct job *other, int64_t now)
{
	return other->lookup == j->lookup && !other->alone && !j->scope && !other->scope && memcmp(other->tenant, j->tenant, sizeof(j->tenant)) == 0 &&
	    (!other->deadline_us || now <= other->deadline_us);
}

void lookup_gather(struct job_queue *q, struct job *j, int most)
{
	struct job **at = &q->head, **end = &j->mate;
	int64_t now = clock_us();

	if (most > DB_LOOKUP_MOST - 1)
		most = DB_LOOKUP_MOST - 1;
	for (int i = 0; *at && i < SAME_TENANT_WITHIN && j->mates < most && j->lookup->column >= 0; i++) {
		struct job *other = *at;

		if (!may_share(j, other, now)) {
			at = &other->next;
			continue;
		}
		*at = other->next;
		if (q->tail == &other->next)
			q->tail = at;
		q->n--;
		*end = other;
		end = &other->mate;
		j->mates++;
	}
}

void lookup_prepare(struct job *j)
{
	struct job_stmt *s = &j->stmts[0];
	int form = 0, n = 1;

	while (form_keys[form] < 1 + j->mates)
		form++;
	for (const struct job *m = j->mate; m; m = m->mate)
		s->params[n++] = m->stmts[0].params[0];
	for (; n < form_keys[form]; n++)
		s->params[n] = s->params[n - 1];
	s->sql = j->lookup->form[form].sql;
	s->hash = j->lookup->form[form].hash;
	s->n_params = n;
}

static int row_of(const struct job *j, const PGresult *r)
{
	int n = PQntuples(r), column = j->lookup->column;
	size_t size = j->lookup->key == DB_KEY_UUID ? 16 : 8;

	for (int i = 0; i < n; i++)
		if ((size_t)PQgetlength(r, i, column) == size && memcmp(PQgetvalue(r, i, column), j->key, size) == 0)
			return i;
	return -1;
}

void lookup_rows(struct job *j)
{
	PGresult *r = j->res[0];

	if (j->lookup->column < 0) {
		j->row = PQntuples(r) ? 0 : -1;
		return;
	}
	for (struct job *m = j; m; m = m->mate) {
		m->res[0] = r; /* only j has got it: it frees it */
		m->row = row_of(m, r);
	}
}
