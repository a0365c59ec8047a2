/* Headers of PNG (ISO 15948), JPEG (T.81), GIF89a and WebP (RFC 9649). */
#include "image.h"

static uint32_t be16(const uint8_t *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}

static uint32_t le16(const uint8_t *p)
{
	return (uint32_t)p[1] << 8 | p[0];
}

static uint32_t le24(const uint8_t *p)
{
	return (uint32_t)p[2] << 16 | le16(p);
}

static uint32_t be32(const uint8_t *p)
{
	return be16(p) << 16 | be16(p + 2);
}

static bool png(struct str s, struct image *out)
{
	const uint8_t *p = (const uint8_t *)s.p;

	if (s.n < 33 || memcmp(p, "\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", 16) != 0)
		return false;
	*out = (struct image){ "image/png", "png", be32(p + 16), be32(p + 20) };
	return true;
}

static bool gif(struct str s, struct image *out)
{
	const uint8_t *p = (const uint8_t *)s.p;

	if (s.n < 13 || (memcmp(p, "GIF87a", 6) != 0 && memcmp(p, "GIF89a", 6) != 0))
		return false;
	*out = (struct image){ "image/gif", "gif", le16(p + 6), le16(p + 8) };
	return true;
}

static bool webp(struct str s, struct image *out)
{
	const uint8_t *p = (const uint8_t *)s.p;

	if (s.n < 30 || memcmp(p, "RIFF", 4) != 0 || memcmp(p + 8, "WEBP", 4) != 0)
		return false;
	*out = (struct image){ "image/webp", "webp", 0, 0 };
	if (memcmp(p + 12, "VP8X", 4) == 0) {
		out->width = le24(p + 24) + 1;
		out->height = le24(p + 27) + 1;
	} else if (memcmp(p + 12, "VP8L", 4) == 0 && p[20] == 0x2f) {
		uint32_t bits = le16(p + 21) | le16(p + 23) << 16;

		out->width = (bits & 0x3fff) + 1;
		out->height = (bits >> 14 & 0x3fff) + 1;
	} else if (memcmp(p + 12, "VP8 ", 4) == 0 && memcmp(p + 23, "\x9d\x01\x2a", 3) == 0) {
		out->width = le16(p + 26) & 0x3fff;
		out->height = le16(p + 28) & 0x3fff;
	}
	return true;
}

/* SOF0 to SOF15 without DHT, JPG and DAC. */
static bool is_frame(uint8_t marker)
{
	return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
}

/* From segment to segment until the frame tells the size. */
static bool jpeg(struct str s, struct image *out)
{
	const uint8_t *p = (const uint8_t *)s.p;
	size_t at = 2;

	if (s.n < 4 || memcmp(p, "\xff\xd8\xff", 3) != 0)
		return false;
	*out = (struct image){ "image/jpeg", "jpg", 0, 0 };
	while (at + 9 < s.n && p[at] == 0xff) {
		uint8_t marker = p[at + 1];

		if (marker == 0xff) { /* fill */
			at++;
			continue;
		}
		if (is_frame(marker)) {
			out->height = be16(p + at + 5);
			out->width = be16(p + at + 7);
			break;
		}
		if (marker == 0xd9 || marker == 0xda || be16(p + at + 2) < 2)
			break;
		at += 2 + be16(p + at + 2);
	}
	return true;
}

bool image_read(struct str head, uint64_t size, struct image *out, const char **why)
{
	*why = "must be a PNG, JPEG, GIF or WebP picture";
	if (head.n > size || (!png(head, out) && !jpeg(head, out) && !gif(head, out) && !webp(head, out)))
		return false;
	*why = "is a picture without a size";
	if (out->width == 0 || out->height == 0)
		return false;
	*why = "must be at most 8192 pixels wide and high, and 25 million in all";
	return out->width <= IMAGE_SIDE_MAX && out->height <= IMAGE_SIDE_MAX && (uint64_t)out->width * out->height <= IMAGE_PIXELS_MAX;
}
