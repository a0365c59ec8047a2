/* The version of this build, the only text that changes with every commit. */
#include "base/version.h"

/* the only file that is compiled with CRM_VERSION, so that a commit does not rebuild everything */
const char crm_version[] = CRM_VERSION;
