/*
 * Messages as JSON objects with the members' own names, and back: how a list of messages is kept in a jsonb column, and how a
 * statement gives a whole reply. Decimals are JSON numbers with the digits that were written; times are microseconds.
 * Threading: any; nothing is kept.
 */
#ifndef CRM_SCHEMA_ROWS_H
#define CRM_SCHEMA_ROWS_H

#include "json/json.h"
#include "schema/schema.h"

/* Appends the message as an object. written: read-only members are left out. False: malformed or not UTF-8; what was appended is of no use. */
bool message_to_json(struct buf *b, const struct schema_message *m, struct str wire, bool written);
/* Appends the fields of the message; members that the message does not have, and null, are left out. False: a member has another type. */
bool message_of_json(struct buf *b, const struct schema_message *m, const struct json *object);

#endif
