/*
 * What one service offers, as it says itself or as the gateway's own files have it, and what of those files is no service's.
 * Immutable once made; counted. Threading: one thread, the control thread.
 */
#ifndef CRM_GATEWAY_CONTRACT_H
#define CRM_GATEWAY_CONTRACT_H

#include "base/arena.h"
#include "base/files.h"
#include "gateway/dialect/dialect.h"
#include "gateway/settings.h"

#define CONTRACT_FACES 64
#define CONTRACT_MOST_BYTES (8u << 20)

struct contract_face {
	const char *dialect;
	struct str fragment;
};

struct contract {
	unsigned refs;
	struct arena arena; /* of everything below */
	const char *service, *version;
	int64_t built;      /* seconds since 1970 */
	uint64_t hash;      /* as in Health.Check; 0: made of the gateway's own files */
	uint64_t content;   /* of descriptors and faces: two with the same need no new snapshot */
	const char *broken; /* why it cannot be used at all; NULL: it could be read */
	struct str descriptors;
	struct contract_face faces[CONTRACT_FACES];
	size_t n_faces;
};

/* Never NULL: one that cannot be read, or is another service's, is broken. bytes are copied. */
struct contract *contract_parse(const char *service, uint64_t hash, struct str bytes);
struct contract *contract_hold(struct contract *c);
void contract_rele(struct contract *c);
const struct contract_face *contract_face(const struct contract *c, const char *dialect);
/* The older build; of one commit, the smaller hash. */
bool contract_is_older(const struct contract *a, const struct contract *b);

/* The gateway's own files: whole dialects, cut by service, and descriptor sets. */
struct own {
	struct arena arena;
	struct contract *services[SERVICES_MAX];
	size_t n_services;
	struct file_text shared[FILES_MOST];   /* descriptor sets of no service */
	size_t n_shared;
	struct file_text dialects[FILES_MOST]; /* what stays of each when the services' parts are cut off */
	size_t n_dialects;
};

/* NULL: *why, heap. */
struct own *own_load(const char *descriptor_dir, const char *dialect_dir, const char **why);
void own_free(struct own *o);
/* NULL: there are no files of such a service. Borrowed. */
struct contract *own_of(const struct own *o, const char *service);

#endif
