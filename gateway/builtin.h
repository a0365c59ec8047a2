/* Paths that the gateway serves itself: a start page, OpenAPI documents, the explorer. */
#ifndef CRM_GATEWAY_BUILTIN_H
#define CRM_GATEWAY_BUILTIN_H

#include "gateway/request.h"

struct builtin {
	const char *path;
	bool prefix; /* everything below path, too */
	enum step_result (*serve)(struct request *r);
};

/* NULL: none. */
const struct builtin *builtin_find(struct str path);

#endif
