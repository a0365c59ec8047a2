/*
 * OP_REPORT: a read that is one statement. Its parameters are the request's fields, $N for field number N, as text (times in
 * microseconds, messages as JSON objects, NULL when absent); its one column is the reply as a JSON object by the contract's names.
 */
#ifndef CRM_RESOURCE_REPORT_H
#define CRM_RESOURCE_REPORT_H

#include "resource/internal.h"

#define REPORT_MAX_PARAMS 16

/* Loop thread. */
void report_run(const struct bound *b, struct rpc_call *call);

#endif
