/* Guessing limits as buckets of lib/counters. */
#include "throttle.h"

#include <arpa/inet.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "counters/counters.h"
#include "keys.h"

/* More than all attempts that can be hashed in a window, so that a flood cannot push anyone's count out. */
#define MOST 131072

static struct counters *counters;

bool throttle_start(const char *url, const char **why)
{
	struct counters_config config = { .url = url, .name = "crm:auth", .most = MOST };

	counters = counters_open(&config, why);
	return counters != NULL;
}

void throttle_stop(void)
{
	counters_close(counters);
	counters = NULL;
}

static struct str address_key(struct str ip, char out[INET6_ADDRSTRLEN])
{
	struct in6_addr a6;
	char text[INET6_ADDRSTRLEN];

	if (ip.n == 0 || ip.n >= sizeof(text))
		return ip;
	memcpy(text, ip.p, ip.n);
	text[ip.n] = '\0';
	if (inet_pton(AF_INET6, text, &a6) != 1 || IN6_IS_ADDR_V4MAPPED(&a6))
		return ip;
	memset(a6.s6_addr + 8, 0, 8);
	inet_ntop(AF_INET6, &a6, out, INET6_ADDRSTRLEN);
	return str_of(out);
}

/* The id is a MAC: what is in Redis names neither address nor account, and nobody can aim at a bucket. */
static struct counter row_of(struct str ip, struct str what, uint32_t quota)
{
	struct counter row = { .limit = { quota, THROTTLE_WINDOW_US, 0 } };
	char text[INET6_ADDRSTRLEN];
	struct buf b = { 0 };
	uint8_t mac[32];

	buf_str(&b, address_key(ip, text));
	buf_c(&b, 0);
	buf_str(&b, what);
	keys_mac("throttle", buf_view(&b), mac);
	memcpy(&row.id, mac, sizeof(row.id));
	buf_fini(&b);
	return row;
}

static void login_rows(struct str ip, struct str account, struct counter rows[2])
{
	rows[0] = row_of(ip, account, THROTTLE_PER_ACCOUNT);
	rows[1] = row_of(ip, (struct str){ NULL, 0 }, THROTTLE_PER_ADDRESS);
}

static uint32_t wait_ms(const struct counter *rows, size_t n, const struct counter_answer *a, int64_t now_us)
{
	int64_t most = 0;

	if (!a->refused)
		return 0;
	for (size_t i = 0; i < n; i++) {
		int64_t wait = a->full_us[i] + counter_interval_us(&rows[i].limit) - now_us - rows[i].limit.window_us;

		most = wait > most ? wait : most;
	}
	return (uint32_t)(most / 1000) + 1000;
}

static uint32_t take(const struct counter *rows, size_t n, int64_t now_us)
{
	struct counter_answer a;

	if (!counters_take(counters, rows, n, now_us, &a))
		counters_wait(counters, rows, n, &a);
	return wait_ms(rows, n, &a, now_us);
}

struct question {
	struct counter rows[2];
	throttle_next next;
	void *arg;
};

static void on_answer(void *arg, const struct counter_answer *a)
{
	struct question q = *(struct question *)arg;

	free(arg);
	q.next(q.arg, wait_ms(q.rows, 2, a, clock_us()));
}

static void ask(const struct counter rows[2], throttle_next next, void *arg)
{
	int64_t now = clock_us();
	struct counter_answer a;
	struct question *q;

	if (counters_take(counters, rows, 2, now, &a)) {
		next(arg, wait_ms(rows, 2, &a, now));
		return;
	}
	q = xcalloc(1, sizeof(*q));
	*q = (struct question){ { rows[0], rows[1] }, next, arg };
	counters_ask(counters, q->rows, 2, on_answer, q);
}

void throttle_ask(struct str ip, struct str account, throttle_next next, void *arg)
{
	struct counter rows[2];

	login_rows(ip, account, rows);
	ask(rows, next, arg);
}

void throttle_ask_apart(struct str ip, const struct throttle_limit limits[2], throttle_next next, void *arg)
{
	struct counter rows[2] = { row_of(ip, limits[0].what, limits[0].limit), row_of(ip, limits[1].what, limits[1].limit) };

	ask(rows, next, arg);
}

uint32_t throttle_take(struct str ip, struct str account, int64_t now_us)
{
	struct counter rows[2];

	login_rows(ip, account, rows);
	return take(rows, 2, now_us);
}

uint32_t throttle_take_apart(struct str ip, struct str what, uint32_t limit, int64_t now_us)
{
	struct counter row = row_of(ip, what, limit);

	return take(&row, 1, now_us);
}

void throttle_give_back(struct str ip, struct str account, int64_t now_us)
{
	struct counter rows[2];

	login_rows(ip, account, rows);
	counters_give_back(counters, rows, 2, now_us);
}

void throttle_give_back_apart(struct str ip, struct str what, uint32_t limit, int64_t now_us)
{
	struct counter row = row_of(ip, what, limit);

	counters_give_back(counters, &row, 1, now_us);
}

void throttle_reset(void)
{
	counters_forget(counters);
}
