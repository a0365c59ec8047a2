/* Text forms of binary things: hex, base64url, UUID, time, decimal. */
#include "base/codec.h"

#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/clock.h"

static const char hex_digits[] = "0123456789abcdef";

void random_bytes(void *p, size_t n)
{
	char *at = p;

	while (n > 0) {
		ssize_t k = getrandom(at, n, 0);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0) {
			perror("getrandom");
			abort();
		}
		at += k;
		n -= (size_t)k;
	}
}

static EVP_MD *sha256_algorithm;

static void sha256_fetch(void)
{
	sha256_algorithm = EVP_MD_fetch(NULL, "SHA256", NULL);
}

/* EVP_sha256() would be looked up again by each call, which costs more than a short text's hash. */
void sha256(const void *p, size_t n, uint8_t out[32])
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, sha256_fetch);
	if (EVP_Digest(p, n, out, NULL, sha256_algorithm, NULL) != 1)
		abort();
}

void hex_encode(const void *p, size_t n, char *out)
{
	const uint8_t *b = p;

	for (size_t i = 0; i < n; i++) {
		*out++ = hex_digits[b[i] >> 4];
		*out++ = hex_digits[b[i] & 15];
	}
	*out = 0;
}

/* The digit's value plus one; 0: it is none. A table, because every id of every request passes here. */
static const uint8_t hex_values[256] = {
	['0'] = 1, ['1'] = 2, ['2'] = 3, ['3'] = 4, ['4'] = 5, ['5'] = 6, ['6'] = 7, ['7'] = 8, ['8'] = 9, ['9'] = 10,
	['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
	['A'] = 11, ['B'] = 12, ['C'] = 13, ['D'] = 14, ['E'] = 15, ['F'] = 16,
};

static int hex_value(char c)
{
	return hex_values[(uint8_t)c] - 1;
}

bool hex_decode(struct str s, uint8_t *out, size_t n)
{
	if (s.n != 2 * n)
		return false;
	for (size_t i = 0; i < n; i++) {
		int hi = hex_value(s.p[2 * i]), lo = hex_value(s.p[2 * i + 1]);

		if (hi < 0 || lo < 0)
			return false;
		out[i] = (uint8_t)(hi << 4 | lo);
	}
	return true;
}

void uuid_from_bytes(const uint8_t b[16], char out[UUID_TEXT + 1])
{
	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*out++ = '-';
		*out++ = hex_digits[b[i] >> 4];
		*out++ = hex_digits[b[i] & 15];
	}
	*out = 0;
}

bool uuid_to_bytes(struct str s, uint8_t out[16])
{
	size_t at = 0;

	if (s.n != UUID_TEXT)
		return false;
	for (int i = 0; i < 16; i++) {
		int hi, lo;

		if (i == 4 || i == 6 || i == 8 || i == 10) {
			if (s.p[at++] != '-')
				return false;
		}
		hi = hex_value(s.p[at]);
		lo = hex_value(s.p[at + 1]);
		if (hi < 0 || lo < 0)
			return false;
		at += 2;
		out[i] = (uint8_t)(hi << 4 | lo);
	}
	return true;
}

bool uuid_parse(struct str s, char out[UUID_TEXT + 1])
{
	uint8_t b[16];

	if (!uuid_to_bytes(s, b))
		return false;
	if (out)
		uuid_from_bytes(b, out);
	return true;
}

/* Random bits are drawn from the kernel in blocks per thread: one system call for 32 ids. */
void uuid7(char out[UUID_TEXT + 1])
{
	static __thread uint8_t pool[320];
	static __thread size_t left;
	uint64_t ms = (uint64_t)(clock_us() / 1000);
	uint8_t b[16];

	if (left < 10) {
		random_bytes(pool, sizeof(pool));
		left = sizeof(pool);
	}
	left -= 10;
	for (int i = 0; i < 6; i++)
		b[i] = (uint8_t)(ms >> (40 - 8 * i));
	memcpy(b + 6, pool + left, 10);
	b[6] = (b[6] & 0x0F) | 0x70;
	b[8] = (b[8] & 0x3F) | 0x80;
	uuid_from_bytes(b, out);
}

static const char b64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

size_t b64url_encode(const void *p, size_t n, char *out)
{
	const uint8_t *s = p;
	char *start = out;
	uint32_t acc = 0;
	int bits = 0;

	for (size_t i = 0; i < n; i++) {
		acc = acc << 8 | s[i];
		bits += 8;
		while (bits >= 6) {
			bits -= 6;
			*out++ = b64_digits[acc >> bits & 63];
		}
	}
	if (bits)
		*out++ = b64_digits[acc << (6 - bits) & 63];
	*out = 0;
	return (size_t)(out - start);
}

static int b64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '-' ? 62 : c == '_' ? 63 : -1;
}

long b64url_decode(struct str s, uint8_t *out)
{
	uint32_t acc = 0;
	int bits = 0;
	long n = 0;

	if (s.n % 4 == 1)
		return -1;
	for (size_t i = 0; i < s.n; i++) {
		int v = b64_value(s.p[i]);

		if (v < 0)
			return -1;
		acc = acc << 6 | (uint32_t)v;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			out[n++] = (uint8_t)(acc >> bits);
		}
	}
	return acc & ((1u << bits) - 1) ? -1 : n;
}

/* Days since 1970-01-01 of a proleptic Gregorian date, and back (H. Hinnant, "chrono-compatible low-level date algorithms"). */
static int64_t days_of(int64_t y, unsigned m, unsigned d)
{
	int64_t era;
	unsigned yoe, doy, doe;

	y -= m <= 2;
	era = (y >= 0 ? y : y - 399) / 400;
	yoe = (unsigned)(y - era * 400);
	doy = (153 * (m + (m > 2 ? -3u : 9u)) + 2) / 5 + d - 1;
	doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
	return era * 146097 + (int64_t)doe - 719468;
}

static void date_of(int64_t days, int *year, unsigned *month, unsigned *day)
{
	int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097;
	unsigned doe = (unsigned)(z - era * 146097);
	unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	unsigned mp = (5 * doy + 2) / 153;

	*day = doy - (153 * mp + 2) / 5 + 1;
	*month = mp + (mp < 10 ? 3 : -9u);
	*year = (int)((int64_t)yoe + era * 400 + (*month <= 2));
}

static void put_digits(struct buf *b, unsigned v, int width)
{
	char d[8];

	for (int i = width - 1; i >= 0; i--, v /= 10)
		d[i] = (char)('0' + v % 10);
	buf_put(b, d, (size_t)width);
}

void date_print(struct buf *b, int64_t us)
{
	int64_t days = us / 86400000000 - (us % 86400000000 < 0);
	unsigned m, d;
	int y;

	date_of(days, &y, &m, &d);
	put_digits(b, (unsigned)y, 4);
	buf_c(b, '-');
	put_digits(b, m, 2);
	buf_c(b, '-');
	put_digits(b, d, 2);
}

void time_print(struct buf *b, int64_t us)
{
	int64_t days = us / 86400000000 - (us % 86400000000 < 0);
	int64_t rest = us - days * 86400000000;
	unsigned sec = (unsigned)(rest / 1000000), frac = (unsigned)(rest % 1000000);

	date_print(b, us);
	buf_c(b, 'T');
	put_digits(b, sec / 3600, 2);
	buf_c(b, ':');
	put_digits(b, sec / 60 % 60, 2);
	buf_c(b, ':');
	put_digits(b, sec % 60, 2);
	if (frac) {
		buf_c(b, '.');
		put_digits(b, frac, 6);
	}
	buf_c(b, 'Z');
}

/* Reads exactly n digits. */
static bool digits(struct str *s, unsigned n, unsigned *out)
{
	unsigned v = 0;

	if (s->n < n)
		return false;
	for (unsigned i = 0; i < n; i++) {
		unsigned d = (unsigned char)s->p[i] - '0';

		if (d > 9)
			return false;
		v = v * 10 + d;
	}
	s->p += n;
	s->n -= n;
	*out = v;
	return true;
}

static bool literal(struct str *s, char c)
{
	if (s->n == 0 || s->p[0] != c)
		return false;
	s->p++;
	s->n--;
	return true;
}

static bool date_part(struct str *s, int64_t *us)
{
	static const unsigned length[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	unsigned y, m, d, max;

	if (!digits(s, 4, &y) || !literal(s, '-') || !digits(s, 2, &m) || !literal(s, '-') || !digits(s, 2, &d))
		return false;
	if (y < 1 || m < 1 || m > 12 || d < 1)
		return false;
	max = length[m - 1] + (m == 2 && (y % 4 == 0 && (y % 100 != 0 || y % 400 == 0)));
	if (d > max)
		return false;
	*us = days_of(y, m, d) * 86400000000;
	return true;
}

bool date_parse(struct str s, int64_t *us)
{
	return date_part(&s, us) && s.n == 0;
}

static bool offset_part(struct str *s, int64_t *us)
{
	unsigned h, m;
	int sign;

	if (literal(s, 'Z') || literal(s, 'z'))
		return true;
	sign = literal(s, '+') ? -1 : literal(s, '-') ? 1 : 0;
	if (!sign || !digits(s, 2, &h) || !literal(s, ':') || !digits(s, 2, &m) || h > 23 || m > 59)
		return false;
	*us += sign * (int64_t)(h * 3600 + m * 60) * 1000000;
	return true;
}

bool time_parse(struct str s, bool date_ok, int64_t *us)
{
	unsigned h, m, sec, frac = 0, scale = 100000, d;

	if (!date_part(&s, us))
		return false;
	if (s.n == 0)
		return date_ok;
	if (!literal(&s, 'T') && !literal(&s, 't') && !literal(&s, ' '))
		return false;
	if (!digits(&s, 2, &h) || !literal(&s, ':') || !digits(&s, 2, &m) || !literal(&s, ':') || !digits(&s, 2, &sec))
		return false;
	if (h > 23 || m > 59 || sec > 60)
		return false;
	if (literal(&s, '.')) {
		if (!digits(&s, 1, &d))
			return false;
		frac = d * scale;
		while (digits(&s, 1, &d)) {
			scale /= 10;
			frac += d * scale;
		}
	}
	*us += (int64_t)(h * 3600 + m * 60 + sec) * 1000000 + frac;
	return offset_part(&s, us) && s.n == 0;
}

bool decimal_is_valid(struct str s)
{
	size_t whole = 0, frac = 0;

	literal(&s, '-');
	while (s.n && s.p[0] >= '0' && s.p[0] <= '9') {
		whole++;
		s.p++;
		s.n--;
	}
	if (whole == 0 || whole > 18)
		return false;
	if (literal(&s, '.')) {
		while (s.n && s.p[0] >= '0' && s.p[0] <= '9') {
			frac++;
			s.p++;
			s.n--;
		}
		if (frac == 0 || frac > 6)
			return false;
	}
	return s.n == 0;
}
