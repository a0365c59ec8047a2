/* Headers of pictures, whole and cut off anywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "image.h"

struct sample {
	const char *type, *extension;
	uint32_t width, height;
	struct str bytes;
};

static const struct sample samples[] = {
	{ "image/png", "png", 300, 2, STR("\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x01\x2c\0\0\0\x02\x08\x02\0\0\0\0\0\0\0") },
	{ "image/gif", "gif", 300, 2, STR("GIF89a\x2c\x01\x02\0\0\0\0") },
	{ "image/jpeg", "jpg", 300, 2, STR("\xff\xd8\xff\xe1\0\x06" "abcd\xff\xff\xc2\0\x11\x08\0\x02\x01\x2c\x03\x01\x11\0") },
	{ "image/webp", "webp", 300, 2, STR("RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\x2b\x01\0\x01\0\0") },
	{ "image/webp", "webp", 300, 2, STR("RIFF\x20\0\0\0WEBPVP8L\x0a\0\0\0\x2f\x2b\x41\0\0\0\0\0\0\0") },
	{ "image/webp", "webp", 300, 2, STR("RIFF\x20\0\0\0WEBPVP8 \x0a\0\0\0\0\0\0\x9d\x01\x2a\x2c\x01\x02\0") },
};

static void sizes_are_read(void **state)
{
	for (size_t i = 0; i < sizeof(samples) / sizeof(*samples); i++) {
		const struct sample *s = &samples[i];
		struct image got;
		const char *why;

		if (!image_read(s->bytes, s->bytes.n, &got, &why))
			fail_msg("sample %zu: %s", i, why);
		assert_string_equal(got.type, s->type);
		assert_string_equal(got.extension, s->extension);
		if (got.width != s->width || got.height != s->height)
			fail_msg("sample %zu: %u x %u", i, got.width, got.height);
	}
}

/* Each cut is a block of its own, so that a step beyond it is seen. */
static void nothing_is_read_behind_the_end(void **state)
{
	for (size_t i = 0; i < sizeof(samples) / sizeof(*samples); i++) {
		for (size_t n = 0; n < samples[i].bytes.n; n++) {
			char *cut = malloc(n + 1);
			struct image got;
			const char *why;

			memcpy(cut, samples[i].bytes.p, n);
			cut = realloc(cut, n ? n : 1);
			if (image_read((struct str){ cut, n }, n, &got, &why))
				assert_int_equal(got.width, 300);
			else
				assert_non_null(why);
			free(cut);
		}
	}
}

static void every_flipped_byte_is_survived(void **state)
{
	char bytes[64];

	for (size_t i = 0; i < sizeof(samples) / sizeof(*samples); i++) {
		for (size_t k = 0; k < samples[i].bytes.n * 256; k++) {
			struct image got;
			const char *why;

			memcpy(bytes, samples[i].bytes.p, samples[i].bytes.n);
			bytes[k / 256] = (char)k;
			if (image_read((struct str){ bytes, samples[i].bytes.n }, samples[i].bytes.n, &got, &why))
				assert_true(got.width && got.height && got.width <= IMAGE_SIDE_MAX && got.height <= IMAGE_SIDE_MAX);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_read),
		cmocka_unit_test(nothing_is_read_behind_the_end),
		cmocka_unit_test(every_flipped_byte_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
