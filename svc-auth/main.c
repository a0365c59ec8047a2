/* svc-auth: tenants, people, sessions, tokens, keys. `svc-auth keys` shows and rotates the signing keys. */
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "auth.h"
#include "base/log.h"
#include "blob/sweep.h"
#include "common.h"
#include "keeper.h"
#include "keys.h"
#include "keys_command.h"
#include "mfa.h"
#include "password.h"
#include "pool.h"
#include "post.h"
#include "roles.h"
#include "service/service.h"
#include "throttle.h"
#include "token.h"

static struct {
	const char *issuer, *key_file, *common, *mfa_issuer, *counters_url;
	struct post_settings post;
	struct blob_options blob;
} settings;

static const struct setting rows[] = {
	{ .name = "ISSUER", .type = SETTING_TEXT, .offset = offsetof(__typeof__(settings), issuer), .fallback = "https://crm.local",
	    .doc = "iss claim of access tokens; the gateway's must be the same" },
	{ .name = "KEY_ENCRYPTION_KEY_FILE", .type = SETTING_TEXT, .offset = offsetof(__typeof__(settings), key_file), .fallback = NULL,
	    .doc = "file with 64 hex digits: encrypts signing keys, derives refresh-token successors" },
	{ .name = "COMMON_PASSWORDS_FILE", .type = SETTING_TEXT, .offset = offsetof(__typeof__(settings), common),
	    .fallback = "/usr/share/crm/common-passwords.txt", .doc = "passwords that nobody may choose: one a line, lower case, in the order of LC_ALL=C sort -u" },
	{ .name = "MFA_ISSUER", .type = SETTING_TEXT, .offset = offsetof(__typeof__(settings), mfa_issuer), .fallback = "CRM",
	    .doc = "name that authenticator apps show beside the account" },
	{ .name = "COUNTERS_URL", .type = SETTING_TEXT, .offset = offsetof(__typeof__(settings), counters_url), .fallback = "memory:",
	    .doc = "where attempts are counted: memory: (this process alone) or redis://[user:password@]host[:port][/db]", .secret = true },
	{ .name = "MAIL_URL", .type = SETTING_TEXT, .offset = offsetof(__typeof__(settings), post.mail_url), .fallback = "folder:.run/outbox",
	    .doc = "where mail goes: folder:/path, smtp://[user:password@]host[:port][?tls=required] or smtps://…", .secret = true },
	{ .name = "MAIL_FROM", .type = SETTING_TEXT, .offset = offsetof(__typeof__(settings), post.from), .fallback = "crm@crm.local",
	    .doc = "sender's address of all mail" },
	{ .name = "MAIL_TEMPLATE_DIR", .type = SETTING_TEXT, .offset = offsetof(__typeof__(settings), post.templates), .fallback = "/usr/share/crm/mail",
	    .doc = "folder of the texts" },
	BLOB_SETTINGS(__typeof__(settings), blob),
	{ .name = "WEB_URL", .type = SETTING_TEXT, .offset = offsetof(__typeof__(settings), post.web_url), .fallback = "https://crm.local",
	    .doc = "where the links in mails lead: <WEB_URL>/accept-invitation?token=…, /reset-password?token=…" },
};

static void key_load(const char *path)
{
	uint8_t kek[32];

	rpc_key_load(path, kek);
	keys_init(kek);
	explicit_bzero(kek, sizeof(kek));
}

#define TRIM_SECONDS 10

/* Memory of hashes is kept for the next one, and not for ever. */
static void on_trim(evutil_socket_t fd, short what, void *arg)
{
	password_trim();
	malloc_trim(0);
}

static void trim_start(struct event_base *base)
{
	struct timeval every = { TRIM_SECONDS, 0 };
	struct event *timer = event_new(base, -1, EV_PERSIST, on_trim, NULL);

	if (!timer || event_add(timer, &every) != 0)
		log_die("AUTH-START", "no memory for a timer");
}

static void start(const struct service_settings *s, struct event_base *base, struct db *db)
{
	const struct schema_permission *permissions;
	const char *why = NULL;
	size_t n = schema_permissions(service_schema(), &permissions);

	(void)db;
	roles_init(permissions, n);
	token_init(settings.issuer);
	key_load(settings.key_file);
	common_open(settings.common);
	mfa_init(settings.mfa_issuer);
	if (!throttle_start(settings.counters_url, &why))
		log_die("SETTINGS", "COUNTERS_URL: %s", why);
	keeper_start(s->database_url);
	pool_start();
	settings.post.database_url = s->database_url;
	post_start(&settings.post);
	blob_sweep_start(&settings.blob, s->database_url);
	trim_start(base);
}

static void stop(void)
{
	pool_stop();
	post_stop();
	blob_sweep_stop();
	keeper_stop();
}

static const char *database_url(void)
{
	return service_setting("DATABASE_URL");
}

static void load_own_key(void)
{
	key_load(settings_one(rows, sizeof(rows) / sizeof(*rows), "KEY_ENCRYPTION_KEY_FILE"));
}

static const struct service service = {
	.name = "auth",
	.commands = "svc-auth keys list [-o json]    the keys that sign access tokens\n"
	    "svc-auth keys rotate            publishes the next one; it signs two minutes later",
	.settings = rows,
	.n_settings = sizeof(rows) / sizeof(*rows),
	.settings_at = &settings,
	.start = start,
	.stop = stop,
};

int main(int argc, char **argv)
{
	struct service s = service;

	if (argc >= 2 && strcmp(argv[1], "keys") == 0) {
		log_init("svc-auth", "auto", "warn");
		return keys_command(argc, argv, database_url, load_own_key);
	}
	s.ops = auth_ops;
	s.n_ops = auth_n_ops;
	return service_main(&s, argc, argv);
}
