/* The product's own contracts, as the descriptor sets hold them, and the rules applied to messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/wire.h"
#include "schema/schema.h"
#include "schema/validate.h"

static const char *const files[] = { "build/gen/descriptors/common.pb", "build/gen/descriptors/auth.pb", "build/gen/descriptors/customers.pb", "build/gen/descriptors/audit.pb" };
static struct schema *s;
static struct arena arena;
static char found[2000];

static void note(void *arg, const char *path, const char *rule, const char *message, const char *param)
{
	size_t n = strlen(found);

	assert_non_null(message);
	snprintf(found + n, sizeof(found) - n, "%s%s:%s%s%s", n ? " " : "", path, rule, param ? "=" : "", param ? param : "");
}

static const char *violations(const char *message, const struct buf *wire, bool create)
{
	found[0] = 0;
	if (!schema_validate(schema_message_find(s, str_of(message)), buf_view(wire), create, &arena, note, NULL))
		return "malformed";
	return found;
}

static void messages_and_fields_have_their_options(void **state)
{
	const struct schema_message *lead = schema_message_find(s, STR("crm.v1.Lead"));
	const struct schema_field *f;

	assert_non_null(lead);
	assert_string_equal(lead->entity, "lead");
	assert_string_equal(lead->rows, "leads");
	assert_string_equal(lead->owner->name, "owner");
	assert_null(schema_message_find(s, STR("crm.v1.Tag"))->rows);
	assert_string_equal(schema_row_kind(s, 1), "customers");
	assert_null(schema_row_kind(s, 0));
	assert_null(schema_row_kind(s, SCHEMA_ROW_KINDS));
	f = schema_field_find(lead, STR("email"));
	assert_int_equal(f->number, 19);
	assert_int_equal(f->format, FORMAT_EMAIL);
	assert_int_equal(f->max_len, 254);
	assert_true(f->personal);
	assert_ptr_equal(lead->by_number[19], f);
	f = schema_field_find(lead, STR("created_us"));
	assert_true(f->read_only);
	assert_string_equal(f->column, "created_at");
	f = schema_field_find(lead, STR("owner"));
	assert_string_equal(f->ref, "user");
	assert_string_equal(f->message->name, "crm.v1.Ref");
	f = schema_field_find(schema_message_find(s, STR("crm.v1.User")), STR("status"));
	assert_int_equal(f->n_in, 2);
	assert_string_equal(f->in[1], "inactive");
	f = schema_field_find(schema_message_find(s, STR("crm.v1.Account")), STR("rating"));
	assert_true(f->has_gte && f->has_lte && f->gte == 0 && f->lte == 5);
	assert_null(schema_message_find(s, STR("crm.v1.Nope")));
	assert_null(schema_message_find(s, STR("crm.v1.Lea")));
}

static void comments_become_documentation(void **state)
{
	const struct schema_message *m = schema_message_find(s, STR("crm.v1.Filter"));

	assert_string_equal(schema_field_find(m, STR("field"))->doc, "field number in the entity");
	assert_string_equal(schema_message_find(s, STR("crm.v1.Key"))->doc, "One of the two keys of an entity.");
}

static void methods_know_their_service_and_rule(void **state)
{
	const struct schema_method *m = schema_method_find(s, STR("Leads.Create"));

	assert_non_null(m);
	assert_string_equal(m->service, "customers");
	assert_string_equal(m->input->name, "crm.v1.WriteRequest");
	assert_string_equal(m->entity->name, "crm.v1.Lead");
	assert_string_equal(m->event, "customers.lead.created");
	assert_string_equal(schema_permission_name(s, m->permission), "leads.write");
	assert_int_equal(m->lane, 1);
	assert_string_equal(schema_method_find(s, STR("Users.Refs"))->refs_of, "user");
	assert_null(schema_method_find(s, STR("Leads.Nope")));
}

static void every_method_has_a_known_permission_and_every_bit_one_word(void **state)
{
	const struct schema_method *m;
	const struct schema_permission *p;
	size_t n = schema_methods(s, &m), k = schema_permissions(s, &p);

	assert_true(n > 30);
	for (size_t i = 0; i < n; i++)
		assert_true(m[i].permission <= 2 || schema_permission_name(s, m[i].permission));
	for (size_t i = 0; i < k; i++)
		assert_true(p[i].bit > 2 && p[i].bit < 128 && strchr(p[i].name, '.'));
	assert_string_equal(schema_permission_name(s, 33), "api_keys.read");
	assert_null(schema_permission_name(s, 0));
}

static void broken_files_are_refused_with_a_reason(void **state)
{
	const char *none[] = { "/nonexistent.pb" }, *odd[] = { "Makefile" };
	const char *why = NULL;

	assert_null(schema_try(none, 1, &why));
	assert_string_equal(why, "/nonexistent.pb: cannot be read");
	free((void *)why);
	assert_null(schema_try(odd, 1, &why));
	assert_string_equal(why, "Makefile: is not a descriptor set");
	free((void *)why);
}

static void required_fields_are_needed_on_create_only(void **state)
{
	struct buf b = { 0 };

	assert_string_equal(violations("crm.v1.Territory", &b, true), "name:required");
	assert_string_equal(violations("crm.v1.Territory", &b, false), "");
	wire_put_bytes(&b, 16, STR(""));
	assert_string_equal(violations("crm.v1.Territory", &b, true), "name:required");
	assert_string_equal(violations("crm.v1.Territory", &b, false), "name:min_len=1");
	buf_fini(&b);
}

static void rules_are_applied_by_field(void **state)
{
	struct buf b = { 0 };
	char x[300];
	size_t at;

	memset(x, 'x', sizeof(x));
	wire_put_bytes(&b, 16, (struct str){ x, 201 });
	wire_put_bytes(&b, 18, STR("not an address"));
	wire_put_bytes(&b, 20, STR("ftp://x"));
	wire_put_bytes(&b, 30, STR("5.01"));
	wire_put_bytes(&b, 8, STR("[1]"));
	at = wire_open(&b, 21);
	wire_put_bytes(&b, 4, (struct str){ x, 21 });
	wire_close(&b, at);
	at = wire_open(&b, 26);
	wire_put_bytes(&b, 17, STR("red"));
	wire_close(&b, at);
	assert_string_equal(violations("crm.v1.Account", &b, false),
	    "name:max_len=200 email:email website:url rating:lte=5 custom_fields:json_object address.zip:max_len=20 tags.0.color:color");
	buf_fini(&b);
}

static void code_points_count_not_bytes(void **state)
{
	struct buf name = { 0 }, b = { 0 };

	for (int i = 0; i < 200; i++)
		buf_z(&name, "\xc3\xa9");
	wire_put_bytes(&b, 16, buf_view(&name));
	assert_string_equal(violations("crm.v1.Account", &b, true), "");
	buf_clear(&b);
	wire_put_bytes(&b, 16, STR("\xff"));
	assert_string_equal(violations("crm.v1.Account", &b, true), "name:utf8");
	buf_fini(&b);
	buf_fini(&name);
}

static void sets_and_bounds_hold(void **state)
{
	struct buf b = { 0 };

	wire_put_bytes(&b, 22, STR("gone"));
	assert_string_equal(violations("crm.v1.User", &b, false), "status:in=active, inactive");
	buf_clear(&b);
	wire_put_varint(&b, 22, 0);
	assert_string_equal(violations("crm.v1.AlertRule", &b, false), "threshold:gte=1");
	buf_fini(&b);
}

static void malformed_messages_are_seen(void **state)
{
	struct buf b = { 0 };

	buf_z(&b, "\x82\x01\x7f");
	assert_string_equal(violations("crm.v1.Lead", &b, false), "malformed");
	buf_clear(&b);
	wire_put_varint(&b, 19, 1);
	assert_string_equal(violations("crm.v1.Lead", &b, false), "malformed");
	buf_fini(&b);
}

static void a_mask_may_not_clear_what_is_required(void **state)
{
	const struct schema_message *m = schema_message_find(s, STR("crm.v1.Territory"));
	uint32_t mask[] = { 16, 17 };
	struct buf b = { 0 };

	found[0] = 0;
	assert_true(schema_validate_mask(m, buf_view(&b), mask, 2, note, NULL));
	assert_string_equal(found, "name:required");
	wire_put_bytes(&b, 16, STR("x"));
	found[0] = 0;
	assert_true(schema_validate_mask(m, buf_view(&b), mask, 2, note, NULL));
	assert_string_equal(found, "");
	buf_fini(&b);
}

static void formats_accept_and_refuse(void **state)
{
	static const struct {
		enum schema_format format;
		const char *text;
		bool ok;
	} rows[] = {
		{ FORMAT_EMAIL, "a@b.co", true }, { FORMAT_EMAIL, "o'neil+x@sub.example.com", true }, { FORMAT_EMAIL, "a@b", false },
		{ FORMAT_EMAIL, "a b@c.co", false }, { FORMAT_EMAIL, "@c.co", false }, { FORMAT_EMAIL, "a..b@c.co", false }, { FORMAT_EMAIL, "a@-c.co", false },
		{ FORMAT_EMAIL, "a@c.co.", false }, { FORMAT_URL, "https://example.com/x?y#z", true }, { FORMAT_URL, "http://localhost:80/", true },
		{ FORMAT_URL, "javascript:alert(1)", false }, { FORMAT_URL, "https://", false }, { FORMAT_URL, "https://a b", false },
		{ FORMAT_PHONE, "+1 (555) 123-4567", true }, { FORMAT_PHONE, "+1-555-0123", true }, { FORMAT_PHONE, "call me", false }, { FORMAT_PHONE, "12", false },
		{ FORMAT_COLOR, "#1a2B3c", true }, { FORMAT_COLOR, "#123", false }, { FORMAT_SLUG, "not_started-2", true }, { FORMAT_SLUG, "Not", false },
		{ FORMAT_DECIMAL, "-0.50", true }, { FORMAT_DECIMAL, "1e3", false }, { FORMAT_JSON_OBJECT, "{}", true }, { FORMAT_JSON_OBJECT, "[]", false },
		{ FORMAT_JSON_VALUE, "[]", true }, { FORMAT_UUID, "018f0000-0000-7000-8000-000000000001", true }, { FORMAT_UUID, "018f", false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		if (schema_format_ok(rows[i].format, str_of(rows[i].text)) != rows[i].ok)
			fail_msg("%s", rows[i].text);
	}
}

static int load(void **state)
{
	s = schema_load(files, sizeof(files) / sizeof(*files));
	return 0;
}

static int unload(void **state)
{
	schema_free(s);
	arena_fini(&arena);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_and_fields_have_their_options),
		cmocka_unit_test(comments_become_documentation),
		cmocka_unit_test(methods_know_their_service_and_rule),
		cmocka_unit_test(every_method_has_a_known_permission_and_every_bit_one_word),
		cmocka_unit_test(broken_files_are_refused_with_a_reason),
		cmocka_unit_test(required_fields_are_needed_on_create_only),
		cmocka_unit_test(rules_are_applied_by_field),
		cmocka_unit_test(code_points_count_not_bytes),
		cmocka_unit_test(sets_and_bounds_hold),
		cmocka_unit_test(malformed_messages_are_seen),
		cmocka_unit_test(a_mask_may_not_clear_what_is_required),
		cmocka_unit_test(formats_accept_and_refuse),
	};

	return cmocka_run_group_tests(tests, load, unload);
}
