/* Entity tags and idempotency keys. */
#include "gateway/conditions.h"

static struct str trim(struct str s)
{
	while (s.n && (*s.p == ' ' || *s.p == '\t'))
		s.p++, s.n--;
	while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

/* Takes the next entity tag, quotes included and W/ dropped, off *rest. False at the end, with *bad when malformed. */
static bool next_tag(struct str *rest, struct str *tag, bool *bad)
{
	size_t n = 1;

	*rest = trim(*rest);
	while (rest->n && *rest->p == ',') {
		rest->p++, rest->n--;
		*rest = trim(*rest);
	}
	if (!rest->n)
		return false;
	if (str_starts(*rest, STR("W/")))
		rest->p += 2, rest->n -= 2;
	*bad = true;
	if (!rest->n || *rest->p != '"')
		return false;
	while (n < rest->n && rest->p[n] != '"')
		n++;
	if (n == rest->n)
		return false;
	*tag = (struct str){ rest->p, n + 1 };
	rest->p += n + 1;
	rest->n -= n + 1;
	*rest = trim(*rest);
	*bad = rest->n && *rest->p != ',';
	return !*bad;
}

/* The number behind the last '-', or the whole. */
static bool version_of(struct str tag, uint64_t *version)
{
	struct str inside = { tag.p + 1, tag.n - 2 };
	size_t digits = 0;

	while (digits < inside.n && inside.p[inside.n - digits - 1] >= '0' && inside.p[inside.n - digits - 1] <= '9')
		digits++;
	if (digits < inside.n && inside.p[inside.n - digits - 1] != '-')
		return false;
	return digits && str_to_u64((struct str){ inside.p + inside.n - digits, digits }, version) && *version > 0;
}

bool conditions_if_match(struct str header, uint64_t *version)
{
	struct str rest = trim(header), tag, ignored;
	bool bad = false;

	*version = 0;
	if (str_eq(rest, STR("*")))
		return true;
	if (!next_tag(&rest, &tag, &bad) || !version_of(tag, version))
		return false;
	while (next_tag(&rest, &ignored, &bad))
		;
	return !bad;
}

bool conditions_none_match(struct str header, struct str etag)
{
	struct str rest = trim(header), tag;
	bool bad = false;

	if (str_eq(rest, STR("*")))
		return true;
	while (next_tag(&rest, &tag, &bad)) {
		if (str_eq(tag, etag))
			return true;
	}
	return false;
}

void conditions_etag(struct buf *out, const char *dialect, uint64_t version)
{
	buf_c(out, '"');
	buf_z(out, dialect);
	buf_c(out, '-');
	buf_u64(out, version);
	buf_c(out, '"');
}

static bool is_printable(struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < 0x20 || s.p[i] > 0x7e)
			return false;
	}
	return true;
}

bool conditions_idempotency_key(struct str header, char scratch[IDEMPOTENCY_KEY_MAX], struct str *key)
{
	struct str s = trim(header);
	size_t n = 0;

	if (!s.n || !is_printable(s) || s.n > 2 * IDEMPOTENCY_KEY_MAX + 2)
		return false;
	*key = s;
	if (*s.p != '"')
		return s.n <= IDEMPOTENCY_KEY_MAX;
	if (s.n < 3 || s.p[s.n - 1] != '"')
		return false;
	for (size_t i = 1; i < s.n - 1; i++) {
		if (s.p[i] == '"' || n == IDEMPOTENCY_KEY_MAX)
			return false;
		if (s.p[i] == '\\' && (++i == s.n - 1 || (s.p[i] != '"' && s.p[i] != '\\')))
			return false;
		scratch[n++] = s.p[i];
	}
	*key = (struct str){ scratch, n };
	return true;
}
