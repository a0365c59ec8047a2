/* A service that is made of rows: its resources' operations, with the blob store, imports and jobs that these need. */
#ifndef CRM_RESOURCE_ROW_SERVICE_H
#define CRM_RESOURCE_ROW_SERVICE_H

#include "service/service.h"

/*
 * As service_main. own: name, ops, and start, stop, metrics of what the service does besides (usually its consumer of other services'
 * events); its settings stay empty, BLOB_URL and the like come along. Called once, from main.
 */
int row_service_main(const struct service *own, int argc, char **argv);

#endif
