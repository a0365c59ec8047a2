/* The gateway's settings table and the two small languages in it: LISTEN and SERVICES. */
#ifndef CRM_GATEWAY_SETTINGS_H
#define CRM_GATEWAY_SETTINGS_H

#include "base/arena.h"
#include "base/settings.h"
#include "base/str.h"
#include "blob/blob.h"

struct gateway_settings {
	const char *listen, *services, *service_hosts_file, *admin_listen, *envelope_key_file;
	const char *descriptor_dir, *dialect_dir, *docs_dir;
	const char *tls_cert_file, *tls_key_file, *trusted_proxies, *counters_url;
	const char *issuer, *audience;
	const char *log_format, *log_level, *export_dir;
	bool access_log;
	long threads, rate_limit_scale, max_connections, body_limit, upload_limit, job_threads, feed_clients, drain_delay, drain;
	struct blob_options blob;
};

extern const struct setting gateway_settings_rows[];
extern const size_t gateway_settings_n;

#define LISTENERS_MAX 8
#define SERVICES_MAX 32
#define GROUP_MAX 8 /* dialects of one listener, native included */

/* "127.0.0.1:5000=backend,saas": where, and the words of the dialects in order. */
struct listen_spec {
	const char *address;
	const char *dialects[GROUP_MAX];
	size_t n_dialects;
};

/* "auth=tcp://a,tcp://b" */
struct service_spec {
	const char *name, *urls;
};

/* How many rows; 0: *why says what is wrong. Texts live in the arena. */
size_t settings_listen(struct arena *a, const char *text, struct listen_spec rows[LISTENERS_MAX], const char **why);
size_t settings_services(struct arena *a, const char *text, struct service_spec rows[SERVICES_MAX], const char **why);

#endif
