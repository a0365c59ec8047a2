/*
 * The table in an upload (Route.import): bytes of a file go in, ImportRows for the blob store come out. Bytes are parsed on a job thread, rows
 * are read as the dialect on the request's loop, a few at a time; what they refer to in other services is asked there, as for a POST.
 */
#ifndef CRM_GATEWAY_IMPORT_H
#define CRM_GATEWAY_IMPORT_H

#include "gateway/request.h"

struct import;

/* payload: the ImportRequest as far as it is known; lives as long as the request. */
struct import *import_new(struct request *r, struct str payload);
void import_free(struct import *m);

/* Job thread: the next piece of the file; last: there is no more. False: import_refusal. */
bool import_parse(struct import *m, struct str piece, bool last);
/* Job thread has been given everything, but there are rows to come: call import_parse again, without a piece. */
bool import_has_more(const struct import *m);

/*
 * Loop: the rows that were parsed, appended to out. AGAIN: there are more, call it in the next turn. WAIT: done(arg) will be called.
 * REFUSED: import_refusal.
 */
enum import_turn { IMPORT_DONE, IMPORT_AGAIN, IMPORT_WAIT, IMPORT_REFUSED };
enum import_turn import_decode(struct import *m, struct buf *out, void (*done)(void *arg), void *arg);

struct import_refusal {
	enum status status;
	struct field_violation violation; /* of a VALIDATION_ERROR */
};
const struct import_refusal *import_refusal(const struct import *m);

/* Loop, after all rows: what the service is told of them, appended to the request. False: there are none; import_refusal. */
bool import_close(struct import *m, struct buf *out);
/* Two imports are the same when the request and the rows are. hash: in and out. */
void import_hash(const struct import *m, uint8_t hash[32]);

#endif
