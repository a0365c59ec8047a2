/*
 * `<program> health`: asks a program's admin port whether it is ready. For exec probes, compose health checks and `helm test`, in images
 * that have neither shell nor curl.
 */
#ifndef CRM_TELEMETRY_HEALTH_H
#define CRM_TELEMETRY_HEALTH_H

#define HEALTH_TIMEOUT_MS 2000

/*
 * `<program> health [--live] [url]`: argv[1] is "health". admin_listen is where the program itself would listen (ADMIN_LISTEN; NULL or empty: not
 * known, url is needed): an address of all interfaces is asked on loopback. url: http://host[:port][/path], port 80; without a path /readyz, with
 * --live /livez. Returns the exit status: 0 it answers 200; 1 it does not, stderr says why; 2 wrong arguments.
 */
int health_main(const char *program, const char *admin_listen, int argc, char **argv);

#endif
