/* What a picture is, by its first bytes alone: nothing is decoded. */
#ifndef CRM_AUTH_IMAGE_H
#define CRM_AUTH_IMAGE_H

#include "base/str.h"

#define IMAGE_SIDE_MAX 8192
#define IMAGE_PIXELS_MAX (25u * 1000 * 1000) /* decoded, 100 MB: what a client's browser has to hold */

struct image {
	const char *type;       /* "image/png"; static */
	const char *extension;  /* "png" */
	uint32_t width, height;
};

/*
 * False: *why (static) says what is wrong: no PNG, JPEG, GIF or WebP, no size within these bytes, or more pixels than the limits. size: of the
 * whole file. Reads within head only. Any thread.
 */
bool image_read(struct str head, uint64_t size, struct image *out, const char **why);

#endif
