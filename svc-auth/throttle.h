/*
 * Guessing limits: attempts per (address, account) and per address in a sliding window, in bounded memory.
 *
 * An attempt is counted when it starts and given back when it succeeds, so parallel guesses cannot outrun the count. Only
 * the caller's own address is ever refused: nobody can lock somebody else out. Addresses of IPv6 count by /64.
 * Threading: any thread.
 */
#ifndef CRM_AUTH_THROTTLE_H
#define CRM_AUTH_THROTTLE_H

#include "base/str.h"

#define THROTTLE_WINDOW_US (900LL * 1000000)
#define THROTTLE_PER_ACCOUNT 10
#define THROTTLE_PER_ADDRESS 100

/* 0: go on, the attempt is counted. Otherwise: refused and not counted; milliseconds until it is worth trying again. */
uint32_t throttle_take(struct str ip, struct str account, int64_t now_us);
/* Counts this address and what it does on its own, apart from logins: neither uses up the other's attempts. */
uint32_t throttle_take_apart(struct str ip, struct str what, uint32_t limit, int64_t now_us);
void throttle_give_back_apart(struct str ip, struct str what, int64_t now_us);
/* The attempt succeeded (or never happened): forget it. */
void throttle_give_back(struct str ip, struct str account, int64_t now_us);
/* For tests: forget everything. */
void throttle_reset(void);

#endif
