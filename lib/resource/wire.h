/* A row of a result as wire bytes of its message; binary (loop) and text (worker) results alike. */
#ifndef CRM_RESOURCE_WIRE_H
#define CRM_RESOURCE_WIRE_H

#include "resource/plan.h"

/* Appends the fields of the entity; from: the first result column of the plan's select list. */
void entity_put(struct buf *b, const struct plan *p, const PGresult *res, int row, int from);

/* The same as the resource shows it: through its reveal, when it has one. */
void entity_show(struct buf *b, const struct plan *p, const PGresult *res, int row, int from);

/* Cells in either format. */
int64_t cell_i64(const PGresult *r, int row, int col);
int64_t cell_us(const PGresult *r, int row, int col);
bool cell_bool(const PGresult *r, int row, int col);
/* The text of a json or jsonb cell, in the result. Binary jsonb has a version byte in front, which no JSON begins with. */
struct str cell_json(const PGresult *r, int row, int col);
/* out gets 36 characters and a NUL, "" when NULL. */
void cell_uuid(const PGresult *r, int row, int col, char out[37]);

#endif
