/* Reads whose reply one statement makes. */
#include "resource/report.h"

#include <inttypes.h>

#include "base/log.h"
#include "base/wire.h"
#include "db/row.h"
#include "resource/wire.h"
#include "schema/rows.h"
#include "schema/validate.h"

struct report {
	const struct bound *b;
	struct rpc_call *call;
};

/* NULL: the value cannot be a parameter. */
static const char *param_of(struct arena *a, const struct schema_field *f, const struct wire_field *w)
{
	struct buf b = { 0 };
	const char *out = NULL;

	if (f->type == TYPE_STRING && w->type == WIRE_BYTES)
		return text_param(a, w->bytes);
	if (f->type == TYPE_MESSAGE && w->type == WIRE_BYTES) {
		if (message_to_json(&b, f->message, w->bytes, true))
			out = arena_strdup(a, buf_view(&b));
		buf_fini(&b);
		return out;
	}
	if (w->type != WIRE_VARINT)
		return NULL;
	return f->type == TYPE_BOOL ? (w->value ? "true" : "false") : arena_printf(a, "%" PRId64, (int64_t)w->value);
}

static bool params_read(const struct bound *b, struct rpc_call *call, const char **params)
{
	struct wire_reader r = wire_read(call->payload);
	struct wire_field w;

	while (wire_next(&r, &w)) {
		const struct schema_field *f = w.number <= b->input->max_number ? b->input->by_number[w.number] : NULL;

		if (!f)
			continue;
		params[w.number - 1] = param_of(&call->arena, f, &w);
		if (!params[w.number - 1])
			return false;
	}
	return !r.bad;
}

static void violate(void *arg, const char *path, const char *rule, const char *message, const char *param)
{
	rpc_violate(arg, path, rule, message, param);
}

static void report_done(void *arg, const struct db_result *r)
{
	struct report *p = arg;
	struct json_error error;
	struct json *reply;

	if (r->status != STATUS_OK) {
		enum status s = r->said ? said_explain(p->call, r->said, r->status) : r->status;

		rpc_reply_error(p->call, s == STATUS_INTERNAL && strncmp(r->sqlstate, "22", 2) == 0 ? STATUS_VALIDATION_ERROR : s, NULL);
		return;
	}
	if (PQntuples(r->res[0]) == 0 || PQgetisnull(r->res[0], 0, 0)) {
		rpc_reply_error(p->call, STATUS_NOT_FOUND, NULL);
		return;
	}
	reply = json_parse(&p->call->arena, cell_json(r->res[0], 0, 0), &error);
	buf_clear(&engine.reply);
	if (!reply || !message_of_json(&engine.reply, p->b->output, reply)) {
		log_error("RESOURCE-REPORT", "%s: the statement's result is no %s: %s", p->b->op->rpc, p->b->output->name, reply ? "a member has another type" : error.text);
		rpc_reply_error(p->call, STATUS_INTERNAL, NULL);
		return;
	}
	rpc_reply_ok(p->call, buf_view(&engine.reply));
}

void report_run(const struct bound *b, struct rpc_call *call)
{
	const char **params = arena_zalloc(&call->arena, REPORT_MAX_PARAMS * sizeof(*params));
	struct report *p = ARENA_NEW(&call->arena, struct report);
	struct db_stmt stmt = { .sql = str_of(b->op->sql), .params = params, .n_params = (int)b->input->max_number };

	if (!params_read(b, call, params) || !schema_validate(b->input, call->payload, true, &call->arena, violate, call)) {
		rpc_reply_error(call, STATUS_BAD_REQUEST, NULL);
		return;
	}
	if (call->n_violations) {
		rpc_reply_error(call, STATUS_VALIDATION_ERROR, NULL);
		return;
	}
	*p = (struct report){ b, call };
	db_submit_as(engine.db, DB_READ, call->who.tenant_id, call->who.scope, &stmt, 1, call->deadline_us, report_done, p);
}
