/*
 * Guessing limits: attempts per (address, account) and per address, counted by lib/counters in this process or together with the
 * other instances. A bucket holds so many attempts and refills evenly over THROTTLE_WINDOW_US.
 *
 * An attempt is counted when it starts and given back when it succeeds, so parallel guesses cannot outrun the count. Only
 * the caller's own address is ever refused: nobody can lock somebody else out. Addresses of IPv6 count by /64.
 * Threading: throttle_start first and keys_init before it; then any thread.
 */
#ifndef CRM_AUTH_THROTTLE_H
#define CRM_AUTH_THROTTLE_H

#include "base/str.h"

#define THROTTLE_WINDOW_US (900LL * 1000000)
#define THROTTLE_PER_ACCOUNT 10
#define THROTTLE_PER_ADDRESS 100

/* url: as COUNTERS_URL. False: *why says what is wrong with it. */
bool throttle_start(const char *url, const char **why);
void throttle_stop(void);

/* wait_ms 0: go on, the attempt is counted. Otherwise: refused and not counted; milliseconds until it is worth trying again. */
typedef void (*throttle_next)(void *arg, uint32_t wait_ms);

/* For loops: next is called now or, from another thread, once the shared counters have answered. */
void throttle_ask(struct str ip, struct str account, throttle_next next, void *arg);
/* The same for threads that may wait COUNTERS_TIMEOUT_MS; returns wait_ms. */
uint32_t throttle_take(struct str ip, struct str account, int64_t now_us);
/* Counts this address and what it does on its own, apart from logins: neither uses up the other's attempts. */
uint32_t throttle_take_apart(struct str ip, struct str what, uint32_t limit, int64_t now_us);
/* limit: as it was taken. */
void throttle_give_back_apart(struct str ip, struct str what, uint32_t limit, int64_t now_us);
/* Two such limits at once, for loops: both are charged, or neither. */
struct throttle_limit {
	struct str what;
	uint32_t limit;
};
void throttle_ask_apart(struct str ip, const struct throttle_limit limits[2], throttle_next next, void *arg);
/* The attempt succeeded (or never happened): forget it. */
void throttle_give_back(struct str ip, struct str account, int64_t now_us);
/* For tests: forget everything. */
void throttle_reset(void);

#endif
