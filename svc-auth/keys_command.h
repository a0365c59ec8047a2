/* The subcommand `svc-auth keys`. */
#ifndef CRM_AUTH_KEYS_COMMAND_H
#define CRM_AUTH_KEYS_COMMAND_H

/*
 * argv[1] is "keys". database_url: of auth_app; load_key: keys_init with the key-encryption key, for what makes a key. Both are called only when needed and
 * exit with a sentence when the setting is missing. Returns the exit status: 0 done, 1 refused (stderr says why), 2 wrong arguments.
 */
int keys_command(int argc, char **argv, const char *(*database_url)(void), void (*load_key)(void));

#endif
