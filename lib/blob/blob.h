/*
 * Bytes too large for a row: pictures, files, through one of two drivers, chosen by URL.
 *
 *   file:/path                                     a folder; each blob is a file, complete as soon as it is there
 *   s3://bucket?endpoint=http://host:port[&region=us-east-1]   S3 and what speaks like it, by libcurl, signed with SigV4
 *
 * A key is made by the program (blob_key), never taken from a client. A blob is written once and then only read or deleted.
 *
 * Errors: false, and why holds a sentence for the log without secrets. BLOB_ABSENT is no error of the store.
 * Threading: every function blocks (up to 15 s per request of the S3 driver, which tries up to four times) and may be called from any
 * thread at once; a blob_put belongs to one thread at a time. blob_open once before other threads start: it initialises libcurl.
 */
#ifndef CRM_BLOB_BLOB_H
#define CRM_BLOB_BLOB_H

#include "base/buf.h"
#include "base/settings.h"
#include "base/str.h"

#define BLOB_WHY 200
#define BLOB_KEY_MAX 160

struct blob_store;
struct blob_put;

enum blob_outcome {
	BLOB_OK,
	BLOB_ABSENT, /* there is no blob of this key */
	BLOB_FAILED, /* the store cannot be reached or refuses; it was tried again where that helps */
};

struct blob_options {
	const char *url;
	const char *access_key;      /* S3; NULL or empty: requests are not signed */
	const char *secret_key_file; /* S3: its first line is the secret key */
};

/* Rows for the settings table of a program; into has a struct blob_options called member. Without BLOB_URL there is no store. */
#define BLOB_SETTINGS(into, member) \
	{ .name = "BLOB_URL", .type = SETTING_TEXT, .offset = offsetof(into, member.url), .fallback = "", \
	    .doc = "where files are kept: file:/path or s3://bucket?endpoint=https://host&region=name; the same for all programs; empty: nowhere" }, \
	{ .name = "BLOB_ACCESS_KEY", .type = SETTING_TEXT, .offset = offsetof(into, member.access_key), .fallback = "", .doc = "S3: id of the access key" }, \
	{ .name = "BLOB_SECRET_KEY_FILE", .type = SETTING_TEXT, .offset = offsetof(into, member.secret_key_file), .fallback = "", \
	    .doc = "S3: file with the secret key" }

/* NULL: *why says what is wrong with the options. */
struct blob_store *blob_open(const struct blob_options *o, const char **why);
void blob_close(struct blob_store *s);

/* "<tenant>/<kind>/<id>": tenant and id are UUIDs in lower case, kind is of a-z, 0-9 and '-'. False: they are not. */
bool blob_key(char out[BLOB_KEY_MAX], struct str tenant, struct str kind, struct str id);

/*
 * Writing: begin, write as often as there is something, then end or abort (each gives the memory back). Nobody can read the blob before end
 * has answered true; after abort, or a false of end, there is none. Memory: what one write is given (file), 5 MiB (S3).
 */
struct blob_put *blob_put_begin(struct blob_store *s, const char *key, char why[BLOB_WHY]);
bool blob_put_write(struct blob_put *p, struct str data, char why[BLOB_WHY]);
bool blob_put_end(struct blob_put *p, char why[BLOB_WHY]);
void blob_put_abort(struct blob_put *p);

/*
 * Appends up to n bytes from offset on to out; fewer (or none) at the end of the blob. To stream a blob, ask range after range:
 * no thread and no connection is held while its reader is slow.
 */
enum blob_outcome blob_get(struct blob_store *s, const char *key, uint64_t offset, size_t n, struct buf *out, char why[BLOB_WHY]);
enum blob_outcome blob_head(struct blob_store *s, const char *key, uint64_t *size, char why[BLOB_WHY]);
/* BLOB_OK also when there was none. */
enum blob_outcome blob_delete(struct blob_store *s, const char *key, char why[BLOB_WHY]);

#endif
