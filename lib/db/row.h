/*
 * Reading cells of binary results (db_submit). Each reader checks the length PostgreSQL sent, never trusts it.
 *
 * Slices point into the PGresult and are valid as long as it is. NULL reads as zero, false, "" — ask row_null where it matters.
 * numeric has no reader: select it ::text. Pure functions, any thread.
 */
#ifndef CRM_DB_ROW_H
#define CRM_DB_ROW_H

#include <libpq-fe.h>

#include "base/codec.h"
#include "base/str.h"

static inline bool row_null(const PGresult *r, int row, int col)
{
	return PQgetisnull(r, row, col) != 0;
}

/* The bytes as they are: text, varchar, bytea, json, enum. */
static inline struct str row_text(const PGresult *r, int row, int col)
{
	return (struct str){ PQgetvalue(r, row, col), (size_t)PQgetlength(r, row, col) };
}

/* smallint, int, bigint by their length; also xid8 and oid. */
int64_t row_i64(const PGresult *r, int row, int col);
bool row_bool(const PGresult *r, int row, int col);
double row_f64(const PGresult *r, int row, int col); /* real, double precision */
/* jsonb without its version byte. */
struct str row_jsonb(const PGresult *r, int row, int col);
/* timestamptz, timestamp or date as microseconds since 1970; infinity is INT64_MAX, -infinity INT64_MIN. */
int64_t row_us(const PGresult *r, int row, int col);
/* 36 characters and a NUL; "" when NULL. */
void row_uuid(const PGresult *r, int row, int col, char out[UUID_TEXT + 1]);

/* A one-dimensional array: struct row_array a = row_array(r, 0, 3); while (row_array_next(&a)) use(a.item, a.item_null); */
struct row_array {
	const uint8_t *at, *end;
	int left;         /* elements not read yet; at first the array's length */
	uint32_t element; /* type oid: 2950 uuid, 25 text */
	struct str item;  /* raw bytes: 16 for uuid */
	bool item_null;
};

/* Empty for NULL, for more than one dimension and for malformed bytes. */
struct row_array row_array(const PGresult *r, int row, int col);
/* The same of a cell's bytes. */
struct row_array row_array_of(struct str cell);
bool row_array_next(struct row_array *a);

#endif
