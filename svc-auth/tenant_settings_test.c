/* Settings of a tenant, against a real PostgreSQL. */
#include "harness.h"

enum { KEY = 16, TYPE = 17, VALUE = 18, SECRET = 19, DESCRIPTION = 20 };

static struct rpc_principal person(const char *email)
{
	return principal_of(register_person(email, "Ada Lovelace"));
}

static Crm__V1__Setting setting(const char *key, const char *type, const char *json, bool secret)
{
	Crm__V1__Setting m = CRM__V1__SETTING__INIT;

	m.key = (char *)key;
	m.type = (char *)type;
	m.has_value = json != NULL;
	if (json)
		m.value = (ProtobufCBinaryData){ strlen(json), (uint8_t *)json };
	m.has_secret = m.secret = secret;
	return m;
}

static struct outcome *write_setting(const char *rpc, const struct rpc_principal *who, const char *id, uint64_t version, const Crm__V1__Setting *m, uint32_t *mask, size_t n)
{
	Crm__V1__WriteRequest w = CRM__V1__WRITE_REQUEST__INIT;
	Crm__V1__Key key = CRM__V1__KEY__INIT;
	size_t size = crm__v1__setting__get_packed_size(m);

	key.id = (char *)id;
	w.key = id ? &key : NULL;
	w.has_entity = 1;
	w.entity.data = arena_alloc(&arena, size + 1);
	w.entity.len = crm__v1__setting__pack(m, w.entity.data);
	w.mask = mask;
	w.n_mask = n;
	w.has_expected_version = version > 0;
	w.expected_version = version;
	return invoke(rpc, who, &w);
}

static struct outcome *try_create(const struct rpc_principal *who, const char *key, const char *type, const char *json, bool secret)
{
	Crm__V1__Setting m = setting(key, type, json, secret);

	return write_setting("Settings.Create", who, NULL, 0, &m, NULL, 0);
}

static Crm__V1__Setting *setting_of(struct outcome *o)
{
	return reply_of(o, &crm__v1__setting__descriptor);
}

static const char *json_of(const Crm__V1__Setting *m)
{
	return m->has_value ? arena_strdup(&arena, (struct str){ (char *)m->value.data, m->value.len }) : "nothing";
}

static struct outcome *by_id(const char *rpc, const struct rpc_principal *who, const char *id, int64_t seq)
{
	Crm__V1__KeyRequest r = CRM__V1__KEY_REQUEST__INIT;
	Crm__V1__Key key = CRM__V1__KEY__INIT;

	key.id = (char *)id;
	key.has_seq = !id;
	key.seq = seq;
	r.key = &key;
	return invoke(rpc, who, &r);
}

static void test_values_are_of_their_type(void **state)
{
	static const struct {
		const char *type, *json;
		bool ok;
	} rows[] = {
		{ "string", "\"a\"", true }, { "string", "\"\"", true }, { "string", "1", false }, { "string", "{}", false }, { NULL, "\"a\"", true }, { NULL, "1", false },
		{ "integer", "7", true }, { "integer", "-9223372036854775808", true }, { "integer", "9223372036854775808", false }, { "integer", "1.5", false },
		{ "integer", "1e3", false }, { "integer", "\"7\"", false }, { "decimal", "1.50", true }, { "decimal", "7", true }, { "decimal", "1e400", false },
		{ "decimal", "\"1.5\"", false }, { "boolean", "true", true }, { "boolean", "false", true }, { "boolean", "\"true\"", false }, { "boolean", "0", false },
		{ "json", "{\"a\":[1,null]}", true }, { "json", "[]", true }, { "json", "5", true }, { "json", "null", false }, { "json", "[1e999999]", false },
		{ "emperor", "1", false },
	};
	struct rpc_principal who = person("types@settings.example");

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct outcome *o = try_create(&who, arena_printf(&arena, "types.%zu", i), rows[i].type, rows[i].json, false);

		if (rows[i].ok)
			assert_int_equal(setting_of(o)->seq > 100, true);
		else
			assert_int_equal(o->status, STATUS_VALIDATION_ERROR);
	}
	assert_violation(try_create(&who, "no.value", "string", NULL, false), STATUS_VALIDATION_ERROR, "value");
	assert_violation(try_create(&who, "Not a key", "string", "\"a\"", false), STATUS_VALIDATION_ERROR, "key");
	assert_violation(try_create(&who, "types.0", "string", "\"a\"", false), STATUS_DUPLICATE, "key");
	assert_violation(try_create(&who, "security.mfa_required", "boolean", "true", false), STATUS_DUPLICATE, "key");
	assert_violation(try_create(&who, "long", "string", arena_printf(&arena, "\"%016000d\"", 0), false), STATUS_VALIDATION_ERROR, "value");
}

static void test_secrets_go_in_and_never_come_out(void **state)
{
	struct rpc_principal who = person("secret@settings.example");
	Crm__V1__Setting *m = setting_of(try_create(&who, "mail.password", "string", "\"hush-4711\"", true)), patch = setting(NULL, NULL, "\"hush-4712\"", false), open = setting(NULL, NULL, NULL, false);
	uint32_t value_only = VALUE, secret_only = SECRET;

	assert_string_equal(json_of(m), "nothing");
	assert_true(m->secret);
	assert_string_equal(json_of(setting_of(by_id("Settings.Get", &who, m->id, 0))), "nothing");
	m = setting_of(write_setting("Settings.Update", &who, m->id, 0, &patch, &value_only, 1));
	assert_string_equal(json_of(m), "nothing");
	assert_true(m->secret);
	assert_violation(write_setting("Settings.Update", &who, m->id, 0, &open, &secret_only, 1), STATUS_VALIDATION_ERROR, "value");
	assert_string_equal(value("SELECT count(*) FROM auth.outbox o WHERE o::text LIKE '%hush%'"), "0");
	assert_string_equal(value("SELECT count(*) FROM auth.setting s WHERE s::text LIKE '%hush%'"), "0");
	assert_string_equal(value("SELECT count(*) FROM auth.idempotency s WHERE s::text LIKE '%hush%'"), "0");
	assert_string_equal(valuef("SELECT count(*) FROM auth.outbox WHERE entity = 'setting' AND entity_id = '?' AND NOT jsonb_exists(after, 'sealed')", m->id), "2");
}

static void test_a_change_has_to_fit(void **state)
{
	struct rpc_principal who = person("change@settings.example");
	Crm__V1__Setting *m = setting_of(try_create(&who, "limit", "integer", "5", false)), *s = setting_of(try_create(&who, "token", "string", "\"abc\"", true));
	Crm__V1__Setting text = setting(NULL, "string", NULL, false), both = setting(NULL, "string", "\"five\"", false), other = setting("another", NULL, NULL, false),
		hide = setting(NULL, NULL, NULL, true), number = setting(NULL, "integer", NULL, false), old = setting(NULL, NULL, "6", false);
	uint32_t type = TYPE, key = KEY, secret = SECRET, value_only = VALUE, two[] = { TYPE, VALUE };

	assert_violation(write_setting("Settings.Update", &who, m->id, 0, &text, &type, 1), STATUS_VALIDATION_ERROR, "value");
	assert_string_equal(json_of(setting_of(write_setting("Settings.Update", &who, m->id, 0, &both, two, 2))), "\"five\"");
	assert_violation(write_setting("Settings.Update", &who, m->id, 0, &other, &key, 1), STATUS_VALIDATION_ERROR, "key");
	assert_int_equal(write_setting("Settings.Update", &who, m->id, 1, &old, &value_only, 1)->status, STATUS_PRECONDITION_FAILED);
	assert_string_equal(json_of(setting_of(write_setting("Settings.Update", &who, m->id, 2, &hide, &secret, 1))), "nothing");
	assert_violation(write_setting("Settings.Update", &who, s->id, 0, &number, &type, 1), STATUS_VALIDATION_ERROR, "value"); /* what is sealed is checked, too */
	assert_int_equal(by_id("Settings.Delete", &who, s->id, 0)->status, STATUS_OK);
	assert_int_equal(by_id("Settings.Get", &who, s->id, 0)->status, STATUS_NOT_FOUND);
}

static void test_what_the_product_knows_is_always_there(void **state)
{
	struct rpc_principal who = person("known@settings.example");
	Crm__V1__Setting *m = setting_of(by_id("Settings.Get", &who, NULL, 1)), text = setting(NULL, "string", "\"yes\"", false), hide = setting(NULL, NULL, "true", true),
		wrong = setting(NULL, NULL, "1", false);
	uint32_t two[] = { TYPE, VALUE }, secret[] = { SECRET, VALUE }, value_only = VALUE;

	assert_string_equal(m->key, "security.mfa_required");
	assert_string_equal(json_of(m), "false");
	assert_true(m->known);
	assert_violation(write_setting("Settings.Update", &who, m->id, 0, &text, two, 2), STATUS_VALIDATION_ERROR, "type");
	assert_violation(write_setting("Settings.Update", &who, m->id, 0, &hide, secret, 2), STATUS_VALIDATION_ERROR, "secret");
	assert_violation(write_setting("Settings.Update", &who, m->id, 0, &wrong, &value_only, 1), STATUS_VALIDATION_ERROR, "value");
	assert_int_equal(by_id("Settings.Delete", &who, m->id, 0)->status, STATUS_OK);
	assert_string_equal(setting_of(by_id("Settings.Get", &who, NULL, 1))->id, m->id);
}

static void test_settings_of_others_are_not_there(void **state)
{
	struct rpc_principal a = person("a@apart.example"), b = person("b@apart.example");
	Crm__V1__Setting *m = setting_of(try_create(&a, "colour", "string", "\"red\"", false)), blue = setting(NULL, NULL, "\"blue\"", false);
	uint32_t value_only = VALUE;

	assert_int_equal(by_id("Settings.Get", &b, m->id, 0)->status, STATUS_NOT_FOUND);
	assert_int_equal(by_id("Settings.Delete", &b, m->id, 0)->status, STATUS_NOT_FOUND);
	assert_int_equal(write_setting("Settings.Update", &b, m->id, 0, &blue, &value_only, 1)->status, STATUS_NOT_FOUND);
	assert_int_equal(try_create(&b, "colour", "string", "\"green\"", false)->status, STATUS_OK);
	assert_string_equal(json_of(setting_of(by_id("Settings.Get", &a, m->id, 0))), "\"red\"");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_values_are_of_their_type, fresh),
		cmocka_unit_test_setup(test_secrets_go_in_and_never_come_out, fresh),
		cmocka_unit_test_setup(test_a_change_has_to_fit, fresh),
		cmocka_unit_test_setup(test_what_the_product_knows_is_always_there, fresh),
		cmocka_unit_test_setup(test_settings_of_others_are_not_there, fresh),
	};

	return cmocka_run_group_tests(tests, harness_start, harness_stop);
}
