/*
 * Which contract of each service is in force, and the faces that they make together.
 *
 * In force is the oldest contract among a service's living instances, so that a field is served only when every instance knows it; the
 * last known when none lives; the gateway's own files until a service has answered. A contract that cannot be used is refused and
 * counted, and what was in force stays. No network and no clock in here. Threading: the control thread alone.
 */
#ifndef CRM_GATEWAY_CONTRACTS_H
#define CRM_GATEWAY_CONTRACTS_H

#include "gateway/contract.h"
#include "gateway/faces.h"

#define CONTRACT_INSTANCES 64 /* of one service that are looked at; of more, the first */
#define CONTRACT_KNOWN 16     /* contracts of one service that are kept */

struct contracts;

/* services and listeners are kept, not copied. */
struct contracts *contracts_new(const struct service_spec *services, size_t n_services, const struct listen_spec *listeners, size_t n_listeners);
void contracts_free(struct contracts *c);

/* Takes the gateway's own files; what services have said stays on top. The caller gets a reference. NULL: *why (heap), and all stays as it was. */
struct faces *contracts_load(struct contracts *c, const char *descriptor_dir, const char *dialect_dir, const char **why);

enum contracts_news {
	CONTRACTS_SAME,    /* nothing new */
	CONTRACTS_CHANGED, /* contracts_decide is due */
	CONTRACTS_WANTED,  /* the instance has one that is not known: contracts_take it */
};
/* service: of SERVICES; another one is passed over. An instance is able to serve and has this contract (0: it says none). */
enum contracts_news contracts_seen(struct contracts *c, const char *service, uint64_t instance, uint64_t hash);
/* It gets no calls any more. True: contracts_decide is due. */
bool contracts_gone(struct contracts *c, const char *service, uint64_t instance);
/* The bytes that belong to the hash. */
void contracts_take(struct contracts *c, const char *service, uint64_t hash, struct str bytes);
/* Puts into force what is due, and logs it. The caller gets a reference to new faces, or NULL when what is served does not change. */
struct faces *contracts_decide(struct contracts *c);

/* Has an instance of it been seen, and are the contracts of all that were seen known? */
bool contracts_settled(const struct contracts *c, const char *service);

struct contracts_row {
	const char *service;
	const struct contract *now; /* NULL: there is none */
	bool own;                   /* of the gateway's files */
	uint64_t refused;           /* contracts refused so far */
};
/* A row per service, those of the gateway's files too. */
size_t contracts_rows(const struct contracts *c, struct contracts_row rows[SERVICES_MAX]);

#endif
