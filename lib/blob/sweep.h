/*
 * What a service that has blobs runs: the thread that empties its table blob_queue (docs/adr/0017-blobs.md). One per process.
 */
#ifndef CRM_BLOB_SWEEP_H
#define CRM_BLOB_SWEEP_H

#include "blob/blob.h"

/* Opens the store and starts the thread; NULL without a URL. Exits with a sentence when it cannot. The store stays open. */
struct blob_store *blob_sweep_start(const struct blob_options *o, const char *database_url);
void blob_sweep_stop(void);

#endif
