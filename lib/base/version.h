/* Which build this is: `git describe` of the tree that it was made from. */
#ifndef CRM_BASE_VERSION_H
#define CRM_BASE_VERSION_H

extern const char crm_version[];

#endif
