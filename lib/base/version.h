/* Which build this is: `git describe` of the tree that it was made from. */
#ifndef CRM_BASE_VERSION_H
#define CRM_BASE_VERSION_H

extern const char crm_version[];
extern const char crm_revision[]; /* the whole hash of the commit, "unknown" outside a working copy */
extern const char crm_compiler[]; /* "gcc 12.2.0" */

#endif
