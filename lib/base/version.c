/* The version of this build, the only texts that change with every commit. */
#include "base/version.h"

#ifdef __clang__
#define CRM_COMPILER __VERSION__ /* begins with its name */
#else
#define CRM_COMPILER "gcc " __VERSION__
#endif

/* the only file that is compiled with what a commit changes, so that it does not rebuild everything */
const char crm_version[] = CRM_VERSION;
const char crm_revision[] = CRM_REVISION;
const char crm_compiler[] = CRM_COMPILER;
const long long crm_built = CRM_BUILT;
