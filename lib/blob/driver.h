/* What a driver of lib/blob offers. The caller has checked the key. */
#ifndef CRM_BLOB_DRIVER_H
#define CRM_BLOB_DRIVER_H

#include "blob/blob.h"

struct blob_driver {
	const char *scheme; /* "s3:" */
	void *(*open)(const struct blob_options *o, const char **why);
	void (*close)(void *driver);
	void *(*put_begin)(void *driver, const char *key, char why[BLOB_WHY]);
	bool (*put_write)(void *put, struct str data, char why[BLOB_WHY]);
	bool (*put_end)(void *put, char why[BLOB_WHY]); /* gives put back whatever the answer */
	void (*put_abort)(void *put);
	enum blob_outcome (*get)(void *driver, const char *key, uint64_t offset, size_t n, struct buf *out, char why[BLOB_WHY]);
	enum blob_outcome (*head)(void *driver, const char *key, uint64_t *size, char why[BLOB_WHY]);
	enum blob_outcome (*delete)(void *driver, const char *key, char why[BLOB_WHY]);
};

extern const struct blob_driver blob_folder, blob_s3;

#endif
