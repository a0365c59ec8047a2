/* The .pb files of a folder, read into memory. */
#ifndef CRM_BASE_FILES_H
#define CRM_BASE_FILES_H

#include "base/arena.h"
#include "base/str.h"

#define FILES_MOST 64
#define FILE_MOST_BYTES (8u << 20)

struct file_text {
	const char *name; /* "customers", of customers.pb */
	struct str bytes;
};

/* In the order of their names, in a. 0: *why, for there is none or one cannot be read. */
size_t files_read(struct arena *a, const char *dir, struct file_text rows[FILES_MOST], const char **why);

/* One file of at most FILE_MOST_BYTES, in a. */
bool file_read(struct arena *a, const char *path, struct str *out);

#endif
