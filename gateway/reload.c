/* The gateway's own contracts and dialects: loaded at start and on SIGHUP, all or nothing; and publishing faces to the threads. */
#include "base/log.h"
#include "gateway/gateway.h"

static bool has_service(const struct gateway *g, const char *name)
{
	for (size_t i = 0; i < g->n_services; i++) {
		if (strcmp(g->services[i].name, name) == 0)
			return true;
	}
	return false;
}

/* A route whose service is not run answers 503; whoever runs the gateway should know. */
static void warn_of_absent_services(const struct gateway *g, const struct faces *f)
{
	const struct schema_method *methods;
	size_t n = schema_methods(dialects_schema(f->dialects), &methods);
	const char *last = "";

	for (size_t i = 0; i < n; i++) {
		if (has_service(g, methods[i].service) || strcmp(methods[i].service, last) == 0)
			continue;
		last = methods[i].service;
		log_warn("SERVICE-ABSENT", "SERVICES has no `%s`: its routes answer 503", last);
	}
}

struct faces *reload_faces(struct gateway *g, const char **why)
{
	struct faces *f = contracts_load(g->contracts, g->settings.descriptor_dir, g->settings.dialect_dir, why);

	if (f)
		warn_of_absent_services(g, f);
	return f;
}

void reload_publish(struct gateway *g, struct faces *f)
{
	struct faces *old;

	pthread_mutex_lock(&g->faces_lock);
	old = g->faces;
	g->faces = f;
	atomic_fetch_add(&g->faces_generation, 1);
	pthread_mutex_unlock(&g->faces_lock);
	faces_rele(old);
	for (size_t i = 0; i < g->n_workers; i++)
		worker_wake(&g->workers[i]);
}
