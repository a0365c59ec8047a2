/* Names and e-mail addresses of people: one spelling for comparison, and the two ways to write a name kept together. */
#ifndef CRM_AUTH_NAMES_H
#define CRM_AUTH_NAMES_H

#include "base/arena.h"

struct names {
	const char *display, *given, *family; /* NULL or "": not given */
};

/*
 * Fills what is missing: display from given and family, or given (first token) and family (the rest) from display.
 * What was given stays as it was written. Results live in the arena.
 */
void names_complete(struct arena *a, struct names *n);

/* Trimmed, ASCII letters in lower case. NULL when it cannot be an address: no or several '@', spaces, controls, over 254 bytes. */
char *email_normalise(struct arena *a, struct str s);
/* What stands behind the '@'. */
const char *email_domain(const char *email);

#endif
