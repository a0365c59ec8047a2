/*
 * multipart/form-data (RFC 7578), strictly and streaming: bytes in, parts out, nothing of a part's body is kept.
 * No threads, no files: where the data goes is the caller's business. File names are what the client claims; never use
 * one as a path.
 */
#ifndef CRM_HTTP_MULTIPART_H
#define CRM_HTTP_MULTIPART_H

#include "base/str.h"
#include "http/limits.h"

struct multipart_part {
	struct str name;         /* UTF-8 without control characters */
	struct str filename;     /* likewise */
	bool is_file;            /* there was a filename, maybe empty */
	struct str content_type; /* empty when absent */
};

/* Called in the order part, data*, end for each part. Slices live until the callback returns. False stops the parsing. */
struct multipart_sink {
	void *arg;
	bool (*part)(void *arg, const struct multipart_part *part);
	bool (*data)(void *arg, struct str data);
	bool (*end)(void *arg);
};

struct multipart {
	struct multipart_sink sink;
	int state;
	char delimiter[MULTIPART_BOUNDARY_MAX + 4]; /* CR LF - - boundary */
	size_t delimiter_n, matched;
	char head[MULTIPART_HEAD_MAX];
	size_t head_n, parts;
};

/* The boundary of a Content-Type value; false when it is not multipart/form-data with a legal boundary. Points into it. */
bool multipart_boundary(struct str content_type, struct str *boundary);

/* boundary as multipart_boundary gave it. Nothing to free. */
void multipart_init(struct multipart *m, struct str boundary, const struct multipart_sink *sink);

/* False: malformed, over a limit, or the sink said stop; *text says which and feeding must end. */
bool multipart_feed(struct multipart *m, struct str in, const char **text);

/* True when the closing delimiter has been seen. Ask at the end of the body: a cut-off one is not done. */
bool multipart_is_done(const struct multipart *m);

#endif
