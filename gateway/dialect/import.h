/*
 * Tables that become entities (Route.import). Columns are members by their names, whatever their case and signs; a mapping says it
 * otherwise; for the rest a member is suggested. Cells are read like the members of a POST, written as text.
 * Threading: any thread; a plan is read-only once it is made.
 */
#ifndef CRM_GATEWAY_DIALECT_IMPORT_H
#define CRM_GATEWAY_DIALECT_IMPORT_H

#include "gateway/dialect/dialect.h"
#include "sheet/sheet.h"

struct import_plan;

/* head: the first row. mapping: JSON object, column → member or null, or empty. NULL: *v says why. Everything in the arena. */
struct import_plan *import_plan_new(const struct route *route, struct arena *a, const struct sheet_cell *head, size_t n, struct str mapping, struct field_violation *v);
/* Appends the columns as members of an ImportRequest. */
void import_plan_print(const struct import_plan *p, struct buf *out);

struct import_row {
	const struct decode_input *in;
	const struct sheet *sheet;
	bool csv; /* what our own exports put in front of formulas is taken away */
};

/* out->payload: the entity (heap: buf_fini). VALIDATION_ERROR: out has the violations. Its references may have to be asked for, as in route_decode. */
enum status import_row_decode(const struct import_row *row, const struct import_plan *p, const struct sheet_cell *cells, size_t n, struct decoded *out);

/* The text that an export wrote as this CSV cell: without the apostrophes in front of what might begin a formula. */
struct str export_unescape(struct str cell, struct arena *a);

#endif
