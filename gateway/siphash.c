/* SipHash-1-3 under a random key. */
#include "gateway/siphash.h"

#include <string.h>

#include "base/codec.h"

static uint64_t key[2];

struct sip {
	uint64_t a, b, c, d;
};

static inline uint64_t rotate(uint64_t x, int n)
{
	return x << n | x >> (64 - n);
}

static inline void sip_round(struct sip *s)
{
	s->a += s->b, s->b = rotate(s->b, 13) ^ s->a, s->a = rotate(s->a, 32);
	s->c += s->d, s->d = rotate(s->d, 16) ^ s->c;
	s->a += s->d, s->d = rotate(s->d, 21) ^ s->a;
	s->c += s->b, s->b = rotate(s->b, 17) ^ s->c, s->c = rotate(s->c, 32);
}

void siphash_init(void)
{
	random_bytes(key, sizeof(key));
}

uint64_t siphash(const void *p, size_t n)
{
	return siphash_with(key, p, n);
}

uint64_t siphash_with(const uint64_t k[2], const void *p, size_t n)
{
	struct sip s = { k[0] ^ 0x736f6d6570736575, k[1] ^ 0x646f72616e646f6d, k[0] ^ 0x6c7967656e657261, k[1] ^ 0x7465646279746573 };
	const uint8_t *at = p;
	uint64_t word, last = (uint64_t)n << 56;

	for (; n >= 8; n -= 8, at += 8) {
		memcpy(&word, at, 8);
		s.d ^= word;
		sip_round(&s);
		s.a ^= word;
	}
	word = 0;
	if (n)
		memcpy(&word, at, n);
	last |= word;
	s.d ^= last;
	sip_round(&s);
	s.a ^= last;
	s.c ^= 0xff;
	sip_round(&s);
	sip_round(&s);
	sip_round(&s);
	return s.a ^ s.b ^ s.c ^ s.d;
}
