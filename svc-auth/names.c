/* Names and e-mail addresses of people: derive the missing form, compare in one spelling. */
#include "names.h"

#define EMAIL_MAX 254

static bool blank(const char *s)
{
	return !s || s[strspn(s, " \t")] == '\0';
}

static struct str trim(struct str s)
{
	while (s.n && (s.p[0] == ' ' || s.p[0] == '\t')) {
		s.p++;
		s.n--;
	}
	while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

static void split_display(struct arena *a, struct names *n)
{
	struct str all = trim(str_of(n->display));
	struct str first = { all.p, 0 };

	while (first.n < all.n && all.p[first.n] != ' ')
		first.n++;
	n->given = arena_strdup(a, first);
	n->family = arena_strdup(a, trim((struct str){ all.p + first.n, all.n - first.n }));
}

void names_complete(struct arena *a, struct names *n)
{
	bool parts = !blank(n->given) || !blank(n->family);

	if (blank(n->display) && parts) {
		struct str given = trim(str_of(n->given)), family = trim(str_of(n->family));

		n->display = arena_printf(a, "%.*s%s%.*s", STR_FMT(given), given.n && family.n ? " " : "", STR_FMT(family));
	} else if (!blank(n->display) && !parts) {
		split_display(a, n);
	}
}

char *email_normalise(struct arena *a, struct str s)
{
	char *out;
	size_t ats = 0;

	s = trim(s);
	if (s.n < 3 || s.n > EMAIL_MAX || s.p[0] == '@' || s.p[s.n - 1] == '@' || !str_is_utf8(s))
		return NULL;
	out = arena_strdup(a, s);
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)out[i];

		if (c <= ' ' || c == 0x7f)
			return NULL;
		ats += c == '@';
		if (c >= 'A' && c <= 'Z')
			out[i] = (char)(c + 32);
	}
	return ats == 1 ? out : NULL;
}

const char *email_domain(const char *email)
{
	const char *at = strrchr(email, '@');

	return at ? at + 1 : email;
}
