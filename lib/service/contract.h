/* Inside lib/service: what this service says of itself to the gateway (crm.v1.Contract). */
#ifndef CRM_SERVICE_CONTRACT_H
#define CRM_SERVICE_CONTRACT_H

#include "base/buf.h"

/*
 * Appends the contract: <descriptor_dir>/<service>.pb without what nobody reads, and the fragments in dialect_dir, of which there may
 * be none. False: *why (heap) says which file cannot be read.
 */
bool contract_make(const char *service, const char *descriptor_dir, const char *dialect_dir, struct buf *out, const char **why);

#endif
