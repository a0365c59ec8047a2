/* A dialect's routes as text, for people. */
#ifndef CRM_GATEWAY_DIALECT_TABLE_H
#define CRM_GATEWAY_DIALECT_TABLE_H

#include "gateway/dialect/dialect.h"

/* Appends one line per route: METHOD path rpc status permission. */
void dialect_table(const struct dialects *ds, const struct dialect *d, struct buf *out);

#endif
