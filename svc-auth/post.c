/* Mail of svc-auth: what it says, and how its secrets are sealed. The queue is lib/mail's. */
#include "post.h"

#include "base/codec.h"
#include "mail/queue.h"
#include "seal.h"

#define PURPOSE "mail-queue"

static const char *const templates[] = { "invitation", "password-reset", "welcome", "password-changed" };

static struct post_settings settings;

const char *post_link(struct rpc_call *call, const char *page, const char *token)
{
	return arena_printf(&call->arena, "%s/%s?token=%s", settings.web_url ? settings.web_url : "", page, token);
}

enum status post_add(struct rpc_call *call, struct db_conn *db, const char *to, const char *template, const struct post_value *values, size_t n)
{
	char id[UUID_TEXT + 1];
	struct buf b = { 0 };
	const char *params[] = { id, to, template, NULL };

	uuid7(id);
	for (size_t i = 0; i < n && i < MAIL_VALUES_MAX; i++)
		mail_value_put(&b, values[i].name, values[i].value);
	params[3] = seal_text(&call->arena, PURPOSE, id, buf_view(&b));
	buf_fini(&b);
	return db_exec(db, NULL, "INSERT INTO mail_queue (id, recipient, template, sealed) VALUES ($1::uuid, $2, $3, $4::bytea)", 4, params);
}

static bool open_values(struct arena *a, const char *id, struct str hex, struct str *values)
{
	return seal_open(a, PURPOSE, id, hex, values);
}

static struct mail_queue_config config(const struct post_settings *s)
{
	settings = *s;
	return (struct mail_queue_config){ .database_url = s->database_url, .mail_url = s->mail_url, .from = s->from, .templates = s->templates,
		.names = templates, .n_names = sizeof(templates) / sizeof(*templates), .open = open_values };
}

void post_init(const struct post_settings *s)
{
	struct mail_queue_config c = config(s);

	mail_queue_init(&c);
}

void post_start(const struct post_settings *s)
{
	struct mail_queue_config c = config(s);

	mail_queue_start(&c);
}

void post_stop(void)
{
	mail_queue_stop();
}

bool post_turn(PGconn *db)
{
	return mail_queue_turn(db);
}
