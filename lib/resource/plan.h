/*
 * A resource compiled against its message: one struct col per field that has a column, with what the statements need.
 * Read-only after resource_init, so any thread may use it.
 */
#ifndef CRM_RESOURCE_PLAN_H
#define CRM_RESOURCE_PLAN_H

#include "resource/resource.h"

#define PLAN_MAX_COLUMNS 64 /* of a result */
#define PLAN_MAX_WRITABLE 40 /* with what every write needs still below DB_MAX_PARAMS */

enum col_kind {
	COL_ID, COL_TEXT, COL_INT, COL_BOOL, COL_TIME, COL_DATE, COL_DECIMAL, COL_DOUBLE, COL_JSON, COL_TEXTS,
	COL_REF,       /* owned by another service: only the id is kept */
	COL_REF_LOCAL, /* id, and seq and name by join */
	COL_ADDRESS,   /* its members are columns */
	COL_TAGS,
	COL_ROWS       /* repeated messages in one jsonb column */
};

#define ROWS_MAX 200 /* of one entity */

struct plan;

struct col {
	const struct schema_field *f;
	enum col_kind kind;
	const char *column;           /* NULL for COL_ADDRESS */
	const struct plan *target;    /* COL_REF_LOCAL */
	const char *label;            /* joined in lists: the target's column that it is called by; NULL: it is not */
	struct col *members;          /* COL_ADDRESS */
	size_t n_members;
	int at;                       /* first result column */
	bool writable, not_null, lower;
	bool filter, sort;
	const char *fallback;         /* on create when absent; NULL: none */
};

struct plan {
	const struct resource *r;
	const struct schema_message *m;
	const char *entity;           /* "lead" */
	const char *owner;            /* whose a row of the alias t is, as SQL; NULL: nobody's, members are not limited */
	const struct col *owner_col;  /* the reference to the owner; NULL: the creator alone */
	struct col *cols;
	size_t n_cols;
	struct col **by_number;       /* [m->max_number + 1], NULL where there is none */
	int result_cols;
	const char *row_columns;      /* every stored column, comma-separated: id, seq, … (no search) */
	const char *row_columns_t;    /* the same of the alias t */
	const char *select;           /* "t.id, t.seq, …" of the alias t */
	const char *select_list;      /* the same where list_joins stand behind the table */
	const char *list_joins;       /* " LEFT JOIN …" of joined references; "": there are none */
	struct db_lookup by_id, by_seq; /* get */
	const char *select_made;      /* the same after a statement that may make tags: tags from tags_all */
	struct col *display, *given, *family;        /* person only */
	struct col *tags;             /* NULL: has none */
	struct { const struct col *col; bool desc; } sort; /* default; col NULL: id */
	const struct col *one_of[8];
	size_t n_one_of;
};

struct fixed {
	const struct col *col;
	const char *value;
};
/* "status=won is_active=true" by column; values are the caller's to free. Exits when a word is no stored field. At most max. */
size_t plan_fixed(const struct plan *p, const char *words, struct fixed *rows, size_t max);

/* Exits with resource and word when something does not fit. plans[i] is for the i-th distinct resource of ops. */
struct plan *plan_compile(const struct schema *s, const struct resource *const *rows, size_t n);
void plan_free(struct plan *plans, size_t n);

const struct col *plan_col(const struct plan *p, uint32_t number);
const struct col *plan_col_named(const struct plan *p, struct str name);
/* How the scope (Principal.scope) limits the rows of this entity: "own", "team", NULL for not at all. Another word shows nothing. */
const char *plan_rows(const struct plan *p, struct str scope);
/* A row with this owner (lower-case UUID) would be within the scope. */
bool plan_owner_in_scope(const struct plan *p, struct str scope, const char *id);
/* The column's type as SQL writes it in a cast: "text", "uuid", "timestamptz". */
const char *col_sql_type(const struct col *c);

#endif
