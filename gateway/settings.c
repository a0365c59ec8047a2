/* The settings table of the gateway, and the parsing of LISTEN and SERVICES. */
#include "gateway/settings.h"

#include <stdio.h>
#include <string.h>

#define AT(member) offsetof(struct gateway_settings, member)
#define TEXT(name_, member, fallback_, doc_) { .name = name_, .type = SETTING_TEXT, .offset = AT(member), .fallback = fallback_, .doc = doc_ }
#define INT(name_, member, fallback_, min_, max_, doc_) \
	{ .name = name_, .type = SETTING_INT, .offset = AT(member), .fallback = fallback_, .doc = doc_, .min = min_, .max = max_ }

const struct setting gateway_settings_rows[] = {
	TEXT("LISTEN", listen, "127.0.0.1:5000=backend,saas,system 127.0.0.1:8000=elevate,mvp",
	    "listeners and their dialects; the first dialect shapes errors that belong to none"),
	TEXT("SERVICES", services, "auth=tcp://127.0.0.1:7101 customers=tcp://127.0.0.1:7102 audit=tcp://127.0.0.1:7103 sales=tcp://127.0.0.1:7104",
	    "services and the URLs of their instances; a host name stands for all its addresses, looked up every 2 s"),
	TEXT("SERVICE_HOSTS_FILE", service_hosts_file, "", "host names of SERVICES are looked up in this file (lines as in /etc/hosts), not by DNS; read anew each time"),
	TEXT("ADMIN_LISTEN", admin_listen, "127.0.0.1:9100", "/livez /readyz /metrics /version; never public"),
	TEXT("ENVELOPE_KEY_FILE", envelope_key_file, NULL, "one to four lines of 64 hex digits, the same file for gateway and services: the first key signs, all are accepted; read again when it changes"),
	TEXT("DESCRIPTOR_DIR", descriptor_dir, "build/gen/descriptors", "contracts, <service>.pb"),
	TEXT("DIALECT_DIR", dialect_dir, "build/gen/dialects", "dialects, <name>.pb"),
	TEXT("DOCS_DIR", docs_dir, "build/vendor/swagger-ui-dist", "files of the explorer at /docs; may be absent"),
	INT("THREADS", threads, "0", 0, 64, "threads that serve requests; 0: half as many as cores"),
	TEXT("TLS_CERT_FILE", tls_cert_file, "", "certificate chain (PEM): the listeners speak TLS; read again when it or the key changes, and on SIGHUP"),
	TEXT("TLS_KEY_FILE", tls_key_file, "", "its private key (PEM)"),
	TEXT("TRUSTED_PROXIES", trusted_proxies, "", "networks (CIDR, comma-separated) whose X-Forwarded-* headers are believed"),
	INT("RATE_LIMIT_SCALE", rate_limit_scale, "1", 0, 1000000, "every quota times this; 0: no rate limits"),
	{ .name = "COUNTERS_URL", .type = SETTING_TEXT, .offset = AT(counters_url), .fallback = "memory:",
	    .doc = "where limits are counted: memory: (this process alone) or redis://[user:password@]host[:port][/db]", .secret = true },
	TEXT("ISSUER", issuer, "https://crm.local", "iss that a token must have"),
	TEXT("AUDIENCE", audience, "crm", "aud that a token must have"),
	TEXT("LOG_FORMAT", log_format, "auto", "json, text or auto (text on a terminal)"),
	TEXT("LOG_LEVEL", log_level, "info", "debug, info, warn or error"),
	{ .name = "ACCESS_LOG", .type = SETTING_BOOL, .offset = AT(access_log), .fallback = "false",
	    .doc = "on: a line per request: route, status, duration_ms, bytes, dialect; with LOG_LEVEL=debug always" },
	INT("MAX_CONNECTIONS", max_connections, "10000", 16, 1000000, "client connections, all threads together"),
	INT("FEED_CLIENTS", feed_clients, "1000", 1, 1000000, "clients of one tenant that wait for events (/v1/events) at once"),
	INT("BODY_LIMIT", body_limit, "1048576", 1024, 67108864, "bytes a request body may have"),
	INT("UPLOAD_LIMIT", upload_limit, "27262976", 1024, 268435456, "bytes a body of multipart/form-data may have; it is streamed, not kept"),
	INT("JOB_THREADS", job_threads, "4", 1, 64, "threads that read and write the blob store and complete xlsx files"),
	INT("DRAIN_DELAY_SECONDS", drain_delay, "0", 0, 120, "from SIGTERM on it is not ready and serves on for so long, with Connection: close; a second SIGTERM ends that"),
	INT("DRAIN_SECONDS", drain, "9", 1, 600, "then it accepts nobody, and what is in flight may take so long"),
	TEXT("EXPORT_DIR", export_dir, "/tmp", "where xlsx files grow until they are sent; they have no name and go with the process"),
	BLOB_SETTINGS(struct gateway_settings, blob),
};
const size_t gateway_settings_n = sizeof(gateway_settings_rows) / sizeof(gateway_settings_rows[0]);

/* Cuts the next piece up to a separator off *rest; false at the end. Empty pieces are skipped. */
static bool next_piece(struct str *rest, char separator, struct str *piece)
{
	while (rest->n && *rest->p == separator)
		rest->p++, rest->n--;
	if (!rest->n)
		return false;
	const char *end = memchr(rest->p, separator, rest->n);

	piece->p = rest->p;
	piece->n = end ? (size_t)(end - rest->p) : rest->n;
	rest->p += piece->n;
	rest->n -= piece->n;
	return true;
}

/* Splits "name=value"; false when either is empty. */
static bool split(struct str piece, struct str *name, struct str *value)
{
	const char *eq = memchr(piece.p, '=', piece.n);

	if (!eq || eq == piece.p || eq + 1 == piece.p + piece.n)
		return false;
	*name = (struct str){ piece.p, (size_t)(eq - piece.p) };
	*value = (struct str){ eq + 1, piece.n - name->n - 1 };
	return true;
}

size_t settings_listen(struct arena *a, const char *text, struct listen_spec rows[LISTENERS_MAX], const char **why)
{
	struct str rest = str_of(text), piece, address, names, name;
	size_t n = 0;

	while (next_piece(&rest, ' ', &piece)) {
		if (n == LISTENERS_MAX) {
			*why = arena_printf(a, "more than %d listeners", LISTENERS_MAX);
			return 0;
		}
		if (!split(piece, &address, &names)) {
			*why = arena_printf(a, "`%.*s` is not of the form address:port=dialect,dialect", STR_FMT(piece));
			return 0;
		}
		rows[n] = (struct listen_spec){ .address = arena_strdup(a, address) };
		while (next_piece(&names, ',', &name)) {
			if (rows[n].n_dialects == GROUP_MAX - 1) { /* one place is native's */
				*why = arena_printf(a, "`%s` has more than %d dialects", rows[n].address, GROUP_MAX - 1);
				return 0;
			}
			rows[n].dialects[rows[n].n_dialects++] = arena_strdup(a, name);
		}
		n++;
	}
	if (!n)
		*why = "no listener is given";
	return n;
}

size_t settings_services(struct arena *a, const char *text, struct service_spec rows[SERVICES_MAX], const char **why)
{
	struct str rest = str_of(text), piece, name, urls;
	size_t n = 0;

	while (next_piece(&rest, ' ', &piece)) {
		if (n == SERVICES_MAX) {
			*why = arena_printf(a, "more than %d services", SERVICES_MAX);
			return 0;
		}
		if (!split(piece, &name, &urls)) {
			*why = arena_printf(a, "`%.*s` is not of the form name=url,url", STR_FMT(piece));
			return 0;
		}
		rows[n++] = (struct service_spec){ arena_strdup(a, name), arena_strdup(a, urls) };
	}
	if (!n)
		*why = "no service is given";
	return n;
}
