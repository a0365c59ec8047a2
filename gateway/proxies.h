/* Which peers are our own proxies, and what a request looked like before it passed them. Read-only after parsing: any thread. */
#ifndef CRM_GATEWAY_PROXIES_H
#define CRM_GATEWAY_PROXIES_H

#include "base/arena.h"
#include "http/http.h"

#define PROXIES_MAX 32

struct proxies {
	struct {
		uint8_t bytes[16]; /* IPv4 as ::ffff:a.b.c.d */
		unsigned bits;
	} rows[PROXIES_MAX];
	size_t n;
};

struct origin {
	struct str client_ip;
	struct str scheme;    /* "http" or "https" */
	struct str authority; /* "host:port"; only letters, digits and ".:-_[]" */
};

/* "10.0.0.0/8, 127.0.0.1". False: *why says what is wrong. */
bool proxies_parse(struct proxies *p, const char *text, struct arena *a, const char **why);
bool proxies_trust(const struct proxies *p, struct str ip);
/* fallback: authority when the client named none (or a malformed one). */
struct origin proxies_origin(const struct proxies *p, const struct http_request *req, struct str fallback);

#endif
