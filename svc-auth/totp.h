/* One-time codes by time (RFC 6238 over RFC 4226): SHA-1, 6 digits, 30 s. No clock, no state. Threading: any thread. */
#ifndef CRM_AUTH_TOTP_H
#define CRM_AUTH_TOTP_H

#include "base/arena.h"

#define TOTP_SECRET 20 /* bytes: as many as SHA-1 has, RFC 4226 section 4 */
#define TOTP_STEP_S 30
#define TOTP_DIGITS 6
#define TOTP_SKEW 1    /* steps before and after now that count, too */

/* The HOTP value of a step, at most 8 digits of it. */
uint32_t totp_value(const uint8_t *secret, size_t n, uint64_t step, unsigned digits);
/*
 * The step that this code belongs to, within TOTP_SKEW of now and after last_step; 0: none. The same time is spent whatever
 * the code is.
 */
uint64_t totp_check(const uint8_t secret[TOTP_SECRET], struct str code, int64_t now_s, uint64_t last_step);

/* RFC 4648 base32 without padding: what authenticator apps read. */
char *base32(struct arena *a, const uint8_t *p, size_t n);
/* otpauth://totp/<issuer>:<account>?secret=…: what the QR code of an enrolment holds. */
char *totp_uri(struct arena *a, const char *issuer, const char *account, const char *secret);

#endif
