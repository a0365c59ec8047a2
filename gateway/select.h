/*
 * Which dialect and which route a request means (docs/request.md). In order: path prefix /~name/, header X-CRM-Dialect, Host
 * name, then the dialects of the listener, whose routes do not collide. A path that no dialect has still gets a dialect:
 * the one whose paths look most like it shapes the error. Pure.
 */
#ifndef CRM_GATEWAY_SELECT_H
#define CRM_GATEWAY_SELECT_H

#include "gateway/faces.h"

struct select_input {
	int listener;
	struct str method, path, host, header;
	struct arena *arena;
};

struct selection {
	const struct face *face;  /* never NULL */
	enum status outcome;      /* OK, NOT_FOUND, METHOD_NOT_ALLOWED, BAD_REQUEST */
	const char *text;         /* for BAD_REQUEST; NULL: the status's own */
	struct route_match match; /* OK: filled in */
	struct str allow;         /* METHOD_NOT_ALLOWED */
	struct str path;          /* without /~name */
	bool prefixed;
};

void select_route(const struct faces *f, const struct select_input *in, struct selection *out);

#endif
