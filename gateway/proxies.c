/* Trusted networks, and X-Forwarded-For, -Proto and -Host from them. */
#include "gateway/proxies.h"

#include <arpa/inet.h>

static bool address_of(struct str text, uint8_t out[16])
{
	static const uint8_t v4_mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
	char z[INET6_ADDRSTRLEN];

	if (text.n >= 2 && text.p[0] == '[' && text.p[text.n - 1] == ']')
		text = (struct str){ text.p + 1, text.n - 2 };
	if (!text.n || text.n >= sizeof(z))
		return false;
	memcpy(z, text.p, text.n);
	z[text.n] = 0;
	if (inet_pton(AF_INET6, z, out) == 1)
		return true;
	memcpy(out, v4_mapped, sizeof(v4_mapped));
	return inet_pton(AF_INET, z, out + 12) == 1;
}

static struct str trim(struct str s)
{
	while (s.n && (*s.p == ' ' || *s.p == '\t'))
		s.p++, s.n--;
	while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

static bool add(struct proxies *p, struct str text)
{
	const char *slash = memchr(text.p, '/', text.n);
	struct str ip = { text.p, slash ? (size_t)(slash - text.p) : text.n };
	bool v4 = !memchr(ip.p, ':', ip.n);
	uint64_t bits = v4 ? 32 : 128;

	if (p->n == PROXIES_MAX || !address_of(ip, p->rows[p->n].bytes))
		return false;
	if (slash && (!str_to_u64((struct str){ slash + 1, text.n - ip.n - 1 }, &bits) || bits > (v4 ? 32 : 128)))
		return false;
	p->rows[p->n++].bits = (unsigned)bits + (v4 ? 96 : 0);
	return true;
}

bool proxies_parse(struct proxies *p, const char *text, struct arena *a, const char **why)
{
	struct str rest = trim(str_of(text));

	p->n = 0;
	while (rest.n) {
		const char *comma = memchr(rest.p, ',', rest.n);
		struct str piece = { rest.p, comma ? (size_t)(comma - rest.p) : rest.n };

		rest.p += piece.n + (comma ? 1 : 0);
		rest.n -= piece.n + (comma ? 1 : 0);
		piece = trim(piece);
		if (piece.n && !add(p, piece)) {
			*why = arena_printf(a, "`%.*s` is not a network (at most %d)", STR_FMT(piece), PROXIES_MAX);
			return false;
		}
	}
	return true;
}

static bool contains(const uint8_t net[16], unsigned bits, const uint8_t ip[16])
{
	unsigned whole = bits / 8, rest = bits % 8;

	if (memcmp(net, ip, whole) != 0)
		return false;
	return !rest || (net[whole] ^ ip[whole]) >> (8 - rest) == 0;
}

bool proxies_trust(const struct proxies *p, struct str ip)
{
	uint8_t bytes[16];

	if (!p->n || !address_of(ip, bytes))
		return false;
	for (size_t i = 0; i < p->n; i++) {
		if (contains(p->rows[i].bytes, p->rows[i].bits, bytes))
			return true;
	}
	return false;
}

/* The last address in the list that is not one of ours: what stands before it was written by the client. */
static struct str client_of(const struct proxies *p, struct str forwarded, struct str peer)
{
	struct str rest = forwarded;
	uint8_t bytes[16];

	while (rest.n) {
		size_t at = rest.n;
		struct str ip;

		while (at && rest.p[at - 1] != ',')
			at--;
		ip = trim((struct str){ rest.p + at, rest.n - at });
		if (!address_of(ip, bytes))
			return peer;
		peer = ip;
		if (!proxies_trust(p, ip))
			return ip;
		rest.n = at ? at - 1 : 0;
	}
	return peer;
}

static bool authority_is_clean(struct str s)
{
	if (!s.n || s.n > 255)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr(".:-_[]", c)) || !c)
			return false;
	}
	return true;
}

struct origin proxies_origin(const struct proxies *p, const struct http_request *req, struct str fallback)
{
	struct origin o = { req->client_ip, req->tls ? STR("https") : STR("http"), req->authority };
	struct str proto, host;

	if (proxies_trust(p, req->client_ip)) {
		o.client_ip = client_of(p, http_header_get(req, "X-Forwarded-For"), req->client_ip);
		proto = http_header_get(req, "X-Forwarded-Proto");
		host = http_header_get(req, "X-Forwarded-Host");
		if (str_ieq(proto, STR("https")) || str_ieq(proto, STR("http")))
			o.scheme = str_ieq(proto, STR("https")) ? STR("https") : STR("http");
		if (host.n)
			o.authority = host;
	}
	if (!authority_is_clean(o.authority))
		o.authority = fallback;
	return o;
}
