/* Guessing limits: a fixed table of sliding-window counters, eight places per bucket, the least useful one gives way. */
#include "throttle.h"

#include <arpa/inet.h>
#include <pthread.h>

#include "base/codec.h"

#define BUCKETS 4096 /* a power of two; 32,768 counters of 40 bytes */
#define WAYS 8

struct counter {
	uint8_t key[16];
	int64_t window;   /* number of the window that `now` counts */
	uint32_t now, before;
};

static struct counter table[BUCKETS][WAYS];
static uint8_t salt[16]; /* so that nobody can aim at a bucket */
static bool salted;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

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

static void counter_key(struct str ip, struct str account, uint8_t key[16])
{
	char text[INET6_ADDRSTRLEN];
	uint8_t in[3][32], out[32];

	if (!salted) {
		random_bytes(salt, sizeof(salt));
		salted = true;
	}
	ip = address_key(ip, text);
	memset(in[0], 0, 32);
	memcpy(in[0], salt, sizeof(salt));
	sha256(ip.p ? ip.p : "", ip.n, in[1]);
	sha256(account.p ? account.p : "", account.n, in[2]);
	sha256(in, sizeof(in), out);
	memcpy(key, out, 16);
}

static void roll(struct counter *c, int64_t window)
{
	if (c->window == window)
		return;
	c->before = c->window == window - 1 ? c->now : 0;
	c->now = 0;
	c->window = window;
}

/* Attempts in the last window, the previous one weighted by how much of it is still inside. */
static uint32_t weight(const struct counter *c, int64_t now_us)
{
	int64_t left = THROTTLE_WINDOW_US - now_us % THROTTLE_WINDOW_US;

	return c->now + (uint32_t)((int64_t)c->before * left / THROTTLE_WINDOW_US);
}

static struct counter *find(const uint8_t key[16], int64_t now_us, bool make)
{
	struct counter *row = table[(key[0] | key[1] << 8) & (BUCKETS - 1)], *worst = &row[0];
	int64_t window = now_us / THROTTLE_WINDOW_US;

	for (int i = 0; i < WAYS; i++) {
		roll(&row[i], window);
		if (memcmp(row[i].key, key, 16) == 0)
			return &row[i];
		if (weight(&row[i], now_us) < weight(worst, now_us))
			worst = &row[i];
	}
	if (!make)
		return NULL;
	memset(worst, 0, sizeof(*worst));
	memcpy(worst->key, key, 16);
	worst->window = window;
	return worst;
}

/* How long until the weighted count is below the limit. */
static uint32_t wait_ms(const struct counter *c, uint32_t limit, int64_t now_us)
{
	int64_t left = THROTTLE_WINDOW_US - now_us % THROTTLE_WINDOW_US;

	if (c->now >= limit)
		return (uint32_t)(left / 1000) + 1000;
	left -= (int64_t)(limit - 1 - c->now) * THROTTLE_WINDOW_US / (c->before ? c->before : 1);
	return (uint32_t)((left > 0 ? left : 0) / 1000) + 1000;
}

uint32_t throttle_take(struct str ip, struct str account, int64_t now_us)
{
	uint8_t pair_key[16], ip_key[16];
	struct counter *pair, *address;
	uint32_t wait = 0;

	pthread_mutex_lock(&lock);
	counter_key(ip, account, pair_key);
	counter_key(ip, (struct str){ NULL, 0 }, ip_key);
	pair = find(pair_key, now_us, false);
	address = find(ip_key, now_us, false);
	if (pair && weight(pair, now_us) >= THROTTLE_PER_ACCOUNT)
		wait = wait_ms(pair, THROTTLE_PER_ACCOUNT, now_us);
	else if (address && weight(address, now_us) >= THROTTLE_PER_ADDRESS)
		wait = wait_ms(address, THROTTLE_PER_ADDRESS, now_us);
	if (!wait) {
		find(pair_key, now_us, true)->now++;
		find(ip_key, now_us, true)->now++;
	}
	pthread_mutex_unlock(&lock);
	return wait;
}

uint32_t throttle_take_apart(struct str ip, struct str what, uint32_t limit, int64_t now_us)
{
	uint8_t key[16];
	struct counter *c;
	uint32_t wait = 0;

	pthread_mutex_lock(&lock);
	counter_key(ip, what, key);
	c = find(key, now_us, true);
	if (weight(c, now_us) >= limit)
		wait = wait_ms(c, limit, now_us);
	else
		c->now++;
	pthread_mutex_unlock(&lock);
	return wait;
}

static void decrease(struct counter *c)
{
	if (c && c->now)
		c->now--;
	else if (c && c->before)
		c->before--;
}

void throttle_give_back(struct str ip, struct str account, int64_t now_us)
{
	uint8_t key[16];

	pthread_mutex_lock(&lock);
	counter_key(ip, account, key);
	decrease(find(key, now_us, false));
	counter_key(ip, (struct str){ NULL, 0 }, key);
	decrease(find(key, now_us, false));
	pthread_mutex_unlock(&lock);
}

void throttle_give_back_apart(struct str ip, struct str what, int64_t now_us)
{
	uint8_t key[16];

	pthread_mutex_lock(&lock);
	counter_key(ip, what, key);
	decrease(find(key, now_us, false));
	pthread_mutex_unlock(&lock);
}

void throttle_reset(void)
{
	pthread_mutex_lock(&lock);
	memset(table, 0, sizeof(table));
	pthread_mutex_unlock(&lock);
}
