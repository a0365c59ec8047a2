/* Exports and erasures over all services: the loop's part. */
#include "svc-audit/privacy.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "json/json.h"
#include "proto/audit.pb-c.h"
#include "resource/engine.h"
#include "rpc/client.h"
#include "rpc/handoff.h"
#include "svc-audit/privacy_log.h"

#define SERVICES_MAX 8
#define CALL_TIMEOUT_MS 4000

struct owner {
	const struct schema_method *find, *erase;
	int service; /* of the rpc client */
};

struct privacy {
	struct handoff_node node; /* on its way back to the loop; first */
	struct rpc_call *call;
	const Crm__V1__PrivacyRequest *req;
	bool erase, erasing;
	size_t at;                /* the owner that is asked */
	struct buf replies;       /* of this round: SubjectsReply, appended to each other */
	const char *subjects;     /* JSON [{"entity","id"}] */
	enum status status;
	const char *why;
};

static struct {
	struct privacy_config c;
	struct rpc_client *rpc;
	struct handoff back;
	struct owner owners[SERVICES_MAX];
	size_t n_owners;
} me;

static void ask_next(struct privacy *p);

static void finish(struct privacy *p, enum status s)
{
	rpc_reply_error(p->call, s == STATUS_OK ? STATUS_INTERNAL : s, p->why);
	buf_fini(&p->replies);
}

static Crm__V1__SubjectsReply *replies_of(struct privacy *p)
{
	return handler_unpack(p->call, &crm__v1__subjects_reply__descriptor, arena_str(&p->call->arena, buf_view(&p->replies)));
}

/* -- the last step of each, on a worker */

static void reply(struct privacy *p, struct db_conn *db, enum status s, struct str document, bool more)
{
	Crm__V1__PrivacyReply out = CRM__V1__PRIVACY_REPLY__INIT;
	struct json_error err;
	const struct json *list = json_parse(&p->call->arena, str_of(p->subjects), &err);

	out.has_document = document.n > 0;
	out.document = (ProtobufCBinaryData){ document.n, (uint8_t *)document.p };
	out.has_more = out.has_document;
	out.more = more;
	out.has_generated_us = true;
	out.generated_us = clock_us();
	out.subject = arena_alloc(&p->call->arena, (list ? list->n : 0) * sizeof(*out.subject) + 1);
	for (const struct json *v = list ? list->child : NULL; v; v = v->next) {
		Crm__V1__SubjectRef *ref = arena_alloc(&p->call->arena, sizeof(*ref));

		crm__v1__subject_ref__init(ref);
		ref->entity = arena_strdup(&p->call->arena, json_get(v, STR("entity"), false)->text);
		ref->id = arena_strdup(&p->call->arena, json_get(v, STR("id"), false)->text);
		out.subject[out.n_subject++] = ref;
	}
	buf_fini(&p->replies);
	handler_end(p->call, db, s, &out);
}

static void export_end(struct db_conn *db, void *arg)
{
	struct privacy *p = arg;
	const Crm__V1__SubjectsReply *found = replies_of(p);
	struct buf document = { 0 };
	struct str text;
	bool more = false;
	enum status s = found ? db_begin(db, p->call->who.tenant_id) : STATUS_INTERNAL;

	if (s == STATUS_OK) {
		p->subjects = privacy_subjects(p->call, found);
		s = privacy_document(p->call, db, found, p->subjects, &document, &more);
	}
	text = arena_str(&p->call->arena, buf_view(&document));
	buf_fini(&document);
	reply(p, db, s, text, more);
}

static void erase_end(struct db_conn *db, void *arg)
{
	struct privacy *p = arg;
	enum status s = db_begin(db, p->call->who.tenant_id);

	if (s == STATUS_OK)
		s = privacy_end(p->call, db, me.c.bus_url, p->subjects, p->replies.n > 0);
	reply(p, db, s, STR(""), false);
}

/* -- destroying keys, on a worker; then back to the loop */

static enum status begin(struct privacy *p, struct db_conn *db)
{
	const Crm__V1__SubjectsReply *found = replies_of(p);
	enum status s = found ? db_begin(db, p->call->who.tenant_id) : STATUS_INTERNAL;

	if (s == STATUS_OK)
		s = privacy_begin(p->call, db, privacy_subjects(p->call, found), &p->subjects);
	if (s == STATUS_OK)
		return db_commit(db);
	db_rollback(db);
	if (s == STATUS_CONFLICT)
		p->why = "A legal hold covers what is to be erased";
	return s;
}

static void erase_begin(struct db_conn *db, void *arg)
{
	struct privacy *p = arg;

	p->status = begin(p, db);
	handoff_push(&me.back, &p->node);
}

static void on_back(void *arg)
{
	struct handoff_node *at = handoff_take(&me.back), *next;

	for (; at; at = next) {
		struct privacy *p = (struct privacy *)at;

		next = at->next;
		if (p->status != STATUS_OK) {
			finish(p, p->status);
			continue;
		}
		buf_clear(&p->replies);
		p->erasing = true;
		p->at = 0;
		ask_next(p);
	}
}

/* -- asking services, one after the other */

static void put_subject(struct privacy *p, Crm__V1__SubjectsRequest *q, struct str entity, struct str id)
{
	Crm__V1__SubjectRef *ref = arena_alloc(&p->call->arena, sizeof(*ref));

	crm__v1__subject_ref__init(ref);
	ref->entity = arena_strdup(&p->call->arena, entity);
	ref->id = arena_strdup(&p->call->arena, id);
	q->subject[q->n_subject++] = ref;
}

static struct str question(struct privacy *p)
{
	Crm__V1__SubjectsRequest q = CRM__V1__SUBJECTS_REQUEST__INIT;
	struct json_error err;
	const struct json *list = p->erasing ? json_parse(&p->call->arena, str_of(p->subjects), &err) : NULL;

	const Crm__V1__SubjectsReply *found = p->erasing ? NULL : replies_of(p);

	q.subject = arena_alloc(&p->call->arena, ((list ? list->n : 0) + (found ? found->n_subject : 0) + 1) * sizeof(*q.subject));
	for (const struct json *v = list ? list->child : NULL; v; v = v->next)
		put_subject(p, &q, json_get(v, STR("entity"), false)->text, json_get(v, STR("id"), false)->text);
	if (!p->erasing) {
		q.email = p->req->email;
		q.has_to_erase = q.to_erase = p->erase;
		if (p->req->id)
			put_subject(p, &q, str_of(p->req->entity), str_of(p->req->id));
		/* what is about them may be another service's: it is told who was found */
		for (size_t i = 0; found && i < found->n_subject; i++)
			put_subject(p, &q, str_of(found->subject[i]->entity), str_of(found->subject[i]->id));
	}
	return handler_pack(p->call, &q);
}

static struct str principal(struct rpc_call *call)
{
	Crm__V1__Principal who = CRM__V1__PRINCIPAL__INIT;

	who.tenant_id = arena_strdup(&call->arena, call->who.tenant_id);
	who.user_id = arena_strdup(&call->arena, call->who.user_id);
	who.has_tenant_seq = who.has_user_seq = who.has_permissions_low = who.has_permissions_high = true;
	who.tenant_seq = call->who.tenant_seq;
	who.user_seq = call->who.user_seq;
	who.permissions_low = call->who.permissions[0];
	who.permissions_high = call->who.permissions[1];
	if (call->who.api_key_id.n)
		who.api_key_id = arena_strdup(&call->arena, call->who.api_key_id);
	return handler_pack(call, &who);
}

static void on_answer(void *arg, const struct rpc_result *result)
{
	struct privacy *p = arg;

	if (result->status != STATUS_OK) {
		if (p->erasing)
			p->why = "The erasure is not complete: ask for it again";
		finish(p, result->status);
		return;
	}
	buf_str(&p->replies, result->payload);
	p->at++;
	ask_next(p);
}

static void work(struct privacy *p, void (*job)(struct db_conn *db, void *arg))
{
	if (!db_work(me.c.db, job, p))
		finish(p, STATUS_UNAVAILABLE);
}

static void ask_next(struct privacy *p)
{
	const struct owner *o = &me.owners[p->at];
	struct rpc_call *call = p->call;
	struct rpc_request q = { .request_id = call->request_id, .traceparent = call->traceparent, .dialect = call->dialect, .client_ip = call->client_ip,
		.user_agent = call->user_agent, .timeout_ms = CALL_TIMEOUT_MS, .may_retry = true, .done = on_answer, .arg = p };

	if (p->at == me.n_owners) {
		work(p, !p->erase ? export_end : p->erasing ? erase_end : erase_begin);
		return;
	}
	q.service = o->service;
	q.lane = p->erasing ? RPC_WRITE : RPC_READ;
	q.rpc = str_of(p->erasing ? o->erase->name : o->find->name);
	q.principal = principal(call);
	q.payload = question(p);
	rpc_client_call(me.rpc, &q);
}

static void start(struct rpc_call *call, bool erase)
{
	const Crm__V1__PrivacyRequest *req = handler_request(call, &crm__v1__privacy_request__descriptor);
	struct privacy *p;

	if (!req)
		return;
	if ((!req->email || !*req->email) == (!req->id || !*req->id) || (req->id && !req->entity)) {
		rpc_violate(call, "email", "required", "is required, or an entity with its id", NULL);
		rpc_reply_error(call, STATUS_VALIDATION_ERROR, NULL);
		return;
	}
	p = ARENA_NEW(&call->arena, struct privacy);
	p->call = call;
	p->req = req;
	p->erase = erase;
	p->subjects = "[]";
	ask_next(p);
}

void privacy_export(struct rpc_call *call)
{
	start(call, false);
}

void privacy_erase(struct rpc_call *call)
{
	start(call, true);
}

/* -- start */

static void services_add(const char *text)
{
	char *copy = xstrdup(text), *rest = NULL;

	for (char *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
		char *url = strchr(word, '=');

		if (!url)
			log_die("SETTINGS", "SERVICES: `%s` is not of the form name=url,url", word);
		*url++ = 0;
		rpc_client_add(me.rpc, xstrdup(word), url);
	}
	free(copy);
}

static void owner_add(const struct schema_method *find)
{
	struct owner *o = &me.owners[me.n_owners];
	char name[100];

	snprintf(name, sizeof(name), "%.*s.Erase", (int)(strlen(find->name) - strlen(".Find")), find->name);
	*o = (struct owner){ find, schema_method_find(me.c.contracts, str_of(name)), rpc_client_find(me.rpc, str_of(find->service)) };
	if (!o->erase || o->service < 0)
		log_die("PRIVACY-SERVICE", "%s: there is no %s, or SERVICES does not name %s", find->name, name, find->service);
	if (++me.n_owners == SERVICES_MAX)
		log_die("PRIVACY-SERVICE", "more than %d services", SERVICES_MAX - 1);
}

void privacy_start(const struct privacy_config *c)
{
	const struct schema_method *methods;
	size_t n = schema_methods(c->contracts, &methods);

	me.c = *c;
	rpc_names_file(c->hosts_file);
	me.rpc = rpc_client_new(c->base, c->keys);
	handoff_init(&me.back, c->base, on_back, NULL);
	services_add(c->services);
	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(methods[i].name);

		if (len > 13 && !strcmp(methods[i].name + len - 13, "Subjects.Find"))
			owner_add(&methods[i]);
	}
}
