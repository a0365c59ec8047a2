/* Which build this is: `git describe` of the tree that it was made from. */
#ifndef CRM_BASE_VERSION_H
#define CRM_BASE_VERSION_H

extern const char crm_version[];
extern const char crm_revision[]; /* the whole hash of the commit, "unknown" outside a working copy */
extern const char crm_compiler[]; /* "gcc 12.2.0" */
/* When the commit of that tree was made, seconds since 1970; 0: not known. Says which of two builds is the older one. */
extern const long long crm_built;

#endif
