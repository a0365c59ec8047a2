/*
 * The dialects as the gateway serves them: one immutable, counted snapshot with what selection needs precomputed.
 * SIGHUP makes a new one; a request keeps the one it started with.
 */
#ifndef CRM_GATEWAY_FACES_H
#define CRM_GATEWAY_FACES_H

#include <pthread.h>
#include <stdatomic.h>

#include "gateway/dialect/dialect.h"
#include "gateway/settings.h"

#define FACES_MAX 32

struct face {
	const struct dialect *dialect;
	const char *const *templates; /* of its routes */
	size_t n_templates;
	struct str base;              /* what all templates begin with, up to a '/' */
	bool slash;                   /* every template ends in '/' */
};

struct group {
	const struct face *members[GROUP_MAX]; /* in the order of LISTEN, native last */
	size_t n;
};

/* Entities that other services refer to, and the method that answers for them. */
struct ref_owner {
	struct str entity;
	const struct schema_method *method;
};

typedef enum status (*face_match)(const struct dialect *d, struct str method, struct str path, struct arena *a, struct route_match *m,
    struct str *allow);

struct faces {
	atomic_uint refs;
	struct dialects *dialects;
	face_match match; /* dialect_match */
	struct face rows[FACES_MAX];
	size_t n;
	const struct face *native; /* NULL when there is none */
	struct group groups[LISTENERS_MAX];
	size_t n_groups;
	struct ref_owner owners[FACES_MAX];
	size_t n_owners;
	struct arena arena;
	pthread_mutex_t openapi_lock;
	struct {
		char *server;
		struct buf text;
	} openapi[FACES_MAX + 1]; /* by row, the last is AsyncAPI: the document last made */
};

/* Takes the caller's reference to ds, also on failure. NULL: *why (in a, or static) names the listener and the dialect. */
struct faces *faces_new(struct dialects *ds, const struct listen_spec *listeners, size_t n, struct arena *a, const char **why);
void faces_hold(struct faces *f);
void faces_rele(struct faces *f);

/* Fills base and slash from the templates. */
void face_measure(struct face *face);
const struct face *faces_find(const struct faces *f, struct str name);
const struct face *faces_by_host(const struct faces *f, struct str host);
/* Appends the OpenAPI document. Any thread. */
void faces_openapi(struct faces *f, const struct face *face, struct str server, struct buf *out);
/* The same for AsyncAPI; server "http://host:5000". False: there is no feed. */
bool faces_asyncapi(struct faces *f, struct str scheme, struct str authority, struct buf *out);
const struct schema_method *faces_owner(const struct faces *f, struct str entity);

#endif
