/*
 * The rules of a contract (option (f) in proto/) applied to a message in wire form. Used by the gateway, so that a client
 * gets every violation at once, and by the services, which believe nobody.
 *
 * Read-only fields are not checked (who writes them is the caller's matter). A string without max_len may have 1,000
 * characters. Messages inside are checked as well; their paths are dotted ("address.zip"), elements of a repeated one
 * carry their index ("tags.2.name").
 */
#ifndef CRM_SCHEMA_VALIDATE_H
#define CRM_SCHEMA_VALIDATE_H

#include "base/arena.h"
#include "schema/schema.h"

#define VALIDATE_DEFAULT_MAX_LEN 1000

/*
 * One violation. path and param live in the arena (param may be NULL), rule and message are static or in the arena:
 * everything lives as long as the arena. message: "must be a valid e-mail address".
 */
typedef void (*schema_violation_cb)(void *arg, const char *path, const char *rule, const char *message, const char *param);

/*
 * create: required fields must be present and not empty (also for a full replacement). False: the bytes are not a
 * well-formed message of this type (nothing is reported then). Unknown fields are ignored.
 */
bool schema_validate(const struct schema_message *m, struct str wire, bool create, struct arena *a, schema_violation_cb cb, void *arg);

/* Required fields that the mask of a change clears: in the mask, absent or empty in the message. */
bool schema_validate_mask(const struct schema_message *m, struct str wire, const uint32_t *mask, size_t n, schema_violation_cb cb, void *arg);

/* "must be a valid e-mail address"; the sentence of a rule word. param may be NULL. In the arena or static. */
const char *schema_rule_text(struct arena *a, const char *rule, const char *param);

/* The shape of a value, without a message around it. */
bool schema_format_ok(enum schema_format format, struct str value);

#endif
