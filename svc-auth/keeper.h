/*
 * A thread with a database connection of its own that keeps signing keys current and removes what nobody can use any more.
 */
#ifndef CRM_AUTH_KEEPER_H
#define CRM_AUTH_KEEPER_H

/* Loads (and at the very first start makes) the signing keys before it returns; exits the process when that fails for a minute. */
void keeper_start(const char *database_url);
void keeper_stop(void);

/* `svc-auth keys rotate`: publishes a next key and says so. Returns the exit status. */
int keeper_rotate(const char *database_url);

#endif
