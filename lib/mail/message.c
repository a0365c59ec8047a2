/* Messages as RFC 5322 text, and templates. */
#include "mail/mail.h"

#include <openssl/evp.h>
#include <time.h>

#define LINE_BYTES 57    /* 76 characters of base64 */
#define WORD_BYTES 42    /* an encoded word stays under 75 */
#define ADDRESS_MAX 254

bool mail_address_ok(const char *a)
{
	const char *at = strchr(a, '@');

	if (!at || at == a || !at[1] || strchr(at + 1, '@') || strlen(a) > ADDRESS_MAX)
		return false;
	for (const char *c = a; *c; c++) {
		if ((unsigned char)*c <= ' ' || *c == 127 || strchr("<>()[],;:\\\"", *c))
			return false;
	}
	return true;
}

static void base64(struct buf *out, const char *p, size_t n)
{
	unsigned char line[4 * ((LINE_BYTES + 2) / 3) + 1];

	EVP_EncodeBlock(line, (const unsigned char *)p, (int)n);
	buf_z(out, (const char *)line);
}

/* No more than max bytes, and not in the middle of a character. */
static size_t piece(struct str s, size_t max)
{
	size_t n = s.n < max ? s.n : max;

	while (n > 0 && n < s.n && ((unsigned char)s.p[n] & 0xc0) == 0x80)
		n--;
	return n ? n : (s.n < max ? s.n : max);
}

static bool is_plain(struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c < ' ' || c >= 127 || c == '"' || c == '\\')
			return false;
	}
	return s.n <= 60 && !(s.n >= 2 && memmem(s.p, s.n, "=?", 2));
}

/* Encoded words hide everything that could start another header. */
static void header_text(struct buf *out, struct str s)
{
	if (is_plain(s)) {
		buf_put(out, s.p, s.n);
		return;
	}
	for (bool first = true; s.n; first = false) {
		size_t n = piece(s, WORD_BYTES);

		buf_z(out, first ? "=?UTF-8?B?" : "\r\n =?UTF-8?B?");
		base64(out, s.p, n);
		buf_z(out, "?=");
		s = (struct str){ s.p + n, s.n - n };
	}
}

static void put_date(struct buf *out, int64_t now_s)
{
	static const char *const days[] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
	static const char *const months[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
	time_t t = (time_t)now_s;
	struct tm tm;

	gmtime_r(&t, &tm);
	buf_printf(out, "Date: %s, %02d %s %04d %02d:%02d:%02d +0000\r\n", days[tm.tm_wday], tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900,
		   tm.tm_hour, tm.tm_min, tm.tm_sec);
}

/* Lines of text end in CRLF, also inside base64 (RFC 2045, 6.8). */
static void put_text(struct buf *out, struct str text)
{
	struct buf crlf = { 0 };

	for (size_t i = 0; i < text.n; i++) {
		if (text.p[i] == '\r')
			continue;
		if (text.p[i] == '\n')
			buf_c(&crlf, '\r');
		buf_c(&crlf, text.p[i]);
	}
	for (size_t i = 0; i < crlf.n; i += LINE_BYTES) {
		base64(out, crlf.p + i, crlf.n - i < LINE_BYTES ? crlf.n - i : LINE_BYTES);
		buf_z(out, "\r\n");
	}
	buf_fini(&crlf);
}

void mail_print(const struct mail_message *m, int64_t now_s, struct buf *out)
{
	put_date(out, now_s);
	buf_z(out, "From: ");
	if (m->from_name) {
		bool plain = is_plain(str_of(m->from_name));

		buf_z(out, plain ? "\"" : "");
		header_text(out, str_of(m->from_name));
		buf_z(out, plain ? "\" " : " ");
	}
	buf_printf(out, "<%s>\r\nTo: <%s>\r\nSubject: ", m->from, m->to);
	header_text(out, m->subject);
	buf_printf(out, "\r\nMessage-ID: <%s@%s>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n", m->id, strchr(m->from, '@') + 1);
	buf_z(out, "Content-Transfer-Encoding: base64\r\nAuto-Submitted: auto-generated\r\n\r\n");
	put_text(out, m->text);
}

/* -- templates */

static const char *value_of(const struct mail_value *values, size_t n, struct str name)
{
	for (size_t i = 0; i < n; i++) {
		if (str_eq(str_of(values[i].name), name))
			return values[i].value ? values[i].value : "";
	}
	return NULL;
}

static bool fill(struct str s, const struct mail_value *values, size_t n, struct buf *out, const char **why)
{
	while (s.n) {
		const char *open = memmem(s.p, s.n, "{{", 2), *close = open ? memmem(open, s.n - (size_t)(open - s.p), "}}", 2) : NULL, *v;

		if (!open) {
			buf_put(out, s.p, s.n);
			return true;
		}
		*why = "a {{ without }}";
		if (!close)
			return false;
		*why = "a {{name}} that has no value";
		v = value_of(values, n, (struct str){ open + 2, (size_t)(close - open - 2) });
		if (!v)
			return false;
		buf_put(out, s.p, (size_t)(open - s.p));
		buf_z(out, v);
		s.n -= (size_t)(close + 2 - s.p);
		s.p = close + 2;
	}
	return true;
}

bool mail_fill(struct str t, const struct mail_value *values, size_t n, struct buf *subject, struct buf *text, const char **why)
{
	const char *end = memchr(t.p, '\n', t.n);

	*why = "the first line must be \"Subject: …\", the second empty";
	if (!end || !str_starts(t, STR("Subject: ")) || (size_t)(end + 1 - t.p) >= t.n || end[1] != '\n')
		return false;
	return fill((struct str){ t.p + 9, (size_t)(end - t.p - 9) }, values, n, subject, why) &&
	    fill((struct str){ end + 2, t.n - (size_t)(end + 2 - t.p) }, values, n, text, why);
}
