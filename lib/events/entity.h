/*
 * From a row as JSON (to_jsonb of its table) to what an event says: which fields changed, their values before and after,
 * and the entity's message. Only columns that are fields of the message and not secret leave the service; of entities
 * without a message, columns whose names speak of secrets are left out.
 */
#ifndef CRM_EVENTS_ENTITY_H
#define CRM_EVENTS_ENTITY_H

#include "base/arena.h"
#include "events/event.h"
#include "schema/schema.h"

/* The message whose entity word is `word` ("lead"); NULL when no method has it as its entity. */
const struct schema_message *entity_message(const struct schema *s, struct str word);

/* Is this column of the entity personal? Of entities without a message (m NULL), those whose names speak of people are. */
bool entity_personal(const struct schema_message *m, struct str column);
/* The field that a column of an entity belongs to ("owner_id" to owner, "city" to address); NULL: none. */
const struct schema_field *entity_field_of(const struct schema_message *m, struct str column);

/*
 * Fills e->changed, e->before, e->after and e->data from the rows (empty: there was or is none). m may be NULL.
 * Everything is in the arena. False: a row is no JSON object.
 */
bool entity_describe(struct arena *a, const struct schema_message *m, struct str before, struct str after, struct event *e);

#endif
