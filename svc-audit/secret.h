/*
 * The master key of svc-audit (AUDIT_MASTER_KEY_FILE): wraps the keys of subjects and seals mail that waits. Never in the database; a
 * copy of the database without it says nothing about erased or living people's sealed fields.
 * Threading: secret_init before threads; the rest anywhere.
 */
#ifndef CRM_SVC_AUDIT_SECRET_H
#define CRM_SVC_AUDIT_SECRET_H

#include "base/arena.h"
#include "base/seal.h"

void secret_init(const uint8_t master[SEAL_KEY]);
/* The key for one purpose. */
void secret_key(const char *purpose, uint8_t out[SEAL_KEY]);

/* A text sealed for a purpose as bytea parameter (hex), in the arena. bound: what it belongs to. */
char *secret_seal(struct arena *a, const char *purpose, const char *bound, struct str text);
/* bytea: the column as PostgreSQL prints it. */
bool secret_open(struct arena *a, const char *purpose, const char *bound, struct str bytea, struct str *text);

#endif
