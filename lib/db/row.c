/* Cells of binary PostgreSQL results to C values. */
#include "db/row.h"

#define US_2000 INT64_C(946684800000000) /* PostgreSQL counts from 2000-01-01 */
#define US_DAY INT64_C(86400000000)

static uint64_t big_endian(const void *p, size_t n)
{
	const uint8_t *b = p;
	uint64_t v = 0;

	for (size_t i = 0; i < n; i++)
		v = v << 8 | b[i];
	return v;
}

static int64_t signed_of(struct str s)
{
	switch (s.n) {
	case 2:
		return (int16_t)big_endian(s.p, 2);
	case 4:
		return (int32_t)big_endian(s.p, 4);
	case 8:
		return (int64_t)big_endian(s.p, 8);
	default:
		return 0;
	}
}

int64_t row_i64(const PGresult *r, int row, int col)
{
	return signed_of(row_text(r, row, col));
}

bool row_bool(const PGresult *r, int row, int col)
{
	struct str s = row_text(r, row, col);

	return s.n == 1 && s.p[0] == 1;
}

double row_f64(const PGresult *r, int row, int col)
{
	struct str s = row_text(r, row, col);
	double d = 0;
	float f = 0;

	if (s.n == 8) {
		uint64_t bits = big_endian(s.p, 8);

		memcpy(&d, &bits, sizeof(d));
	} else if (s.n == 4) {
		uint32_t bits = (uint32_t)big_endian(s.p, 4);

		memcpy(&f, &bits, sizeof(f));
		d = (double)f;
	}
	return d;
}

struct str row_jsonb(const PGresult *r, int row, int col)
{
	struct str s = row_text(r, row, col);

	if (s.n == 0 || s.p[0] != 1)
		return (struct str){ "", 0 };
	return (struct str){ s.p + 1, s.n - 1 };
}

int64_t row_us(const PGresult *r, int row, int col)
{
	struct str s = row_text(r, row, col);
	int64_t v = signed_of(s);

	if (s.n == 4) {
		if (v == INT32_MAX || v == INT32_MIN)
			return v > 0 ? INT64_MAX : INT64_MIN;
		return v * US_DAY + US_2000;
	}
	if (s.n != 8)
		return 0;
	if (v > INT64_MAX - US_2000)
		return INT64_MAX;
	return v == INT64_MIN ? v : v + US_2000;
}

void row_uuid(const PGresult *r, int row, int col, char out[UUID_TEXT + 1])
{
	struct str s = row_text(r, row, col);

	out[0] = 0;
	if (s.n == 16)
		uuid_from_bytes((const uint8_t *)s.p, out);
}

/* Layout: dimensions, has-null flag, element oid, then per dimension length and lower bound, then length and bytes of each. */
struct row_array row_array(const PGresult *r, int row, int col)
{
	return row_array_of(row_text(r, row, col));
}

struct row_array row_array_of(struct str s)
{
	struct row_array a = { 0 };

	if (s.n < 20 || big_endian(s.p, 4) != 1)
		return a;
	a.element = (uint32_t)big_endian(s.p + 8, 4);
	a.left = (int32_t)big_endian(s.p + 12, 4);
	a.at = (const uint8_t *)s.p + 20;
	a.end = (const uint8_t *)s.p + s.n;
	if (a.left < 0)
		a.left = 0;
	return a;
}

bool row_array_next(struct row_array *a)
{
	int32_t n;

	if (a->left <= 0 || a->end - a->at < 4)
		return false;
	n = (int32_t)big_endian(a->at, 4);
	a->at += 4;
	if (n > a->end - a->at)
		return false;
	a->left--;
	a->item_null = n < 0;
	a->item = (struct str){ (const char *)a->at, n < 0 ? 0 : (size_t)n };
	a->at += a->item.n;
	return true;
}
