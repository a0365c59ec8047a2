/*
 * Imports: a table becomes entities by a job. The gateway reads the table as its dialect and writes the rows to the blob store (crm.v1.ImportRow,
 * each with its length in front); a step takes up to JOBS_STEP of them, checks each as a create would, looks for those that are there already,
 * and writes them with what each came to and how far it got, in one transaction.
 */
#ifndef CRM_RESOURCE_IMPORT_H
#define CRM_RESOURCE_IMPORT_H

#include "blob/blob.h"

/* Where the rows are. NULL: there is no store, imports are UNAVAILABLE. Before jobs_start. */
void import_store(struct blob_store *store);

#endif
