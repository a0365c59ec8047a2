/* Hex, base64url (RFC 4648 section 5, no padding), UUIDs (RFC 9562), RFC 3339 times, decimals. */
#ifndef CRM_BASE_CODEC_H
#define CRM_BASE_CODEC_H

#include "base/buf.h"
#include "base/str.h"

#define UUID_TEXT 36

/* A new UUIDv7 as 36 lower-case characters and a NUL. Unique across threads and processes. */
void uuid7(char out[UUID_TEXT + 1]);
/* True for the 8-4-4-4-12 form in either case; out (may be NULL) gets the lower-case form. */
bool uuid_parse(struct str s, char out[UUID_TEXT + 1]);
void uuid_from_bytes(const uint8_t b[16], char out[UUID_TEXT + 1]);
bool uuid_to_bytes(struct str s, uint8_t out[16]);

/* out gets 2n characters and a NUL. */
void hex_encode(const void *p, size_t n, char *out);
bool hex_decode(struct str s, uint8_t *out, size_t n); /* exactly n bytes */

/* out gets ceil(n*4/3) characters and a NUL; returns their number. */
size_t b64url_encode(const void *p, size_t n, char *out);
/* Strict: no padding, no other characters. out needs s.n*3/4 bytes. Returns -1 when malformed. */
long b64url_decode(struct str s, uint8_t *out);

/* "2024-01-15T10:30:00Z", with ".123456" only when there are microseconds. */
void time_print(struct buf *b, int64_t us);
/* RFC 3339 with any offset; also "2024-01-15" (midnight UTC) when date_ok. Years 1 to 9999. */
bool time_parse(struct str s, bool date_ok, int64_t *us);
/* "2024-01-15" */
void date_print(struct buf *b, int64_t us);
bool date_parse(struct str s, int64_t *us);

/* True for a JSON number without exponent, at most 18 digits before and 6 behind the point. */
bool decimal_is_valid(struct str s);

/* Random bytes from the kernel; aborts when there are none. */
void random_bytes(void *p, size_t n);

/* SHA-256 of p. */
void sha256(const void *p, size_t n, uint8_t out[32]);

#endif
