/* The dialects as they are declared: routes, requests to payloads, replies to bodies, errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/wire.h"
#include "gateway/dialect/dialect.h"
#include "gateway/dialect/plan.h"
#include "gateway/dialect/testing.h"
#include "json/json.h"

#define LEAD_UUID "018f0000-0000-7000-8000-000000000001"
#define USER_UUID "018f0000-0000-7000-8000-000000000002"
#define NOW INT64_C(1705314600000000) /* 2024-01-15T10:30:00Z */

static struct dialects *ds;

struct exchange {
	struct arena arena;
	struct route_match match;
	struct decoded decoded;
	enum status status;
	struct buf out;
	struct encoded encoded;
};

static enum ref_state ref_get(void *arg, const struct ref_key *key, struct ref_value *out)
{
	int *asked = arg;

	if (asked)
		++*asked;
	if (!str_eq(key->entity, STR("user")))
		return REF_UNKNOWN;
	if (key->seq != 7 && !str_eq(key->id, STR(USER_UUID)))
		return REF_ABSENT;
	*out = (struct ref_value){ STR(USER_UUID), STR("Ann Agent"), STR("ann@example.com"), 7 };
	return REF_FOUND;
}

static enum status match(struct exchange *x, const char *dialect, const char *method, const char *path)
{
	struct str allow;
	const struct dialect *d = dialects_find(ds, str_of(dialect));

	assert_non_null(d);
	return dialect_match(d, str_of(method), str_of(path), &x->arena, &x->match, &allow);
}

static enum status decode_as(struct exchange *x, const char *dialect, const char *method, const char *path, const char *query, const char *type, const char *body)
{
	struct decode_input in = { .match = &x->match, .query = str_of(query), .body = str_of(body), .content_type = str_of(type),
		.refs = { NULL, ref_get }, .arena = &x->arena };

	memset(x, 0, sizeof(*x));
	x->status = match(x, dialect, method, path);
	if (x->status != STATUS_OK)
		fail_msg("%s %s is no route", method, path);
	x->status = route_decode(&in, &x->decoded);
	return x->status;
}

static enum status decode(struct exchange *x, const char *dialect, const char *method, const char *path, const char *body)
{
	return decode_as(x, dialect, method, path, "", "application/json", body);
}

static struct encode_input encode_input(struct exchange *x, const char *path, const char *query)
{
	return (struct encode_input){ .match = &x->match, .who = { STR("t"), STR(USER_UUID), 3, 7 }, .page = x->decoded.page, .base_url = STR("http://h:5000"),
		.path = str_of(path), .query = str_of(query), .trace = STR("tr"), .request = STR("rq"), .now_us = NOW, .refs = { NULL, ref_get }, .arena = &x->arena };
}

static void done(struct exchange *x)
{
	buf_fini(&x->decoded.payload);
	buf_fini(&x->out);
	arena_fini(&x->arena);
}

/* Wire bytes as text: numbers, "text", [message]. Guesses nothing: the numbers in `messages` are messages. */
static void dump(struct buf *b, struct str wire, const char *messages)
{
	struct wire_reader r = wire_read(wire);
	struct wire_field w;

	while (wire_next(&r, &w)) {
		char tag[16];

		snprintf(tag, sizeof(tag), ",%u,", w.number);
		buf_printf(b, "%s%u:", b->n && b->p[b->n - 1] != '[' ? " " : "", w.number);
		if (w.type != WIRE_BYTES) {
			buf_u64(b, w.value);
		} else if (strstr(messages, tag)) {
			buf_c(b, '[');
			dump(b, w.bytes, messages);
			buf_c(b, ']');
		} else {
			buf_json_str(b, w.bytes);
		}
	}
	assert_false(r.bad);
}

static const char *text_of(struct exchange *x, const char *messages)
{
	struct buf b = { 0 };
	const char *s;

	dump(&b, buf_view(&x->decoded.payload), messages);
	s = arena_strdup(&x->arena, buf_view(&b));
	buf_fini(&b);
	return s;
}

static struct str field(struct str wire, uint32_t number)
{
	struct wire_reader r = wire_read(wire);
	struct wire_field w;
	struct str out = { NULL, 0 };

	while (wire_next(&r, &w)) {
		if (w.number == number && w.type == WIRE_BYTES)
			out = w.bytes;
	}
	return out;
}

static const char *entity_of(struct exchange *x, const char *messages)
{
	struct buf b = { 0 };
	const char *s;

	dump(&b, field(buf_view(&x->decoded.payload), 2), messages);
	s = arena_strdup(&x->arena, buf_view(&b));
	buf_fini(&b);
	return s;
}

static const char *mask_of(struct exchange *x)
{
	struct str mask = field(buf_view(&x->decoded.payload), 3);
	const char *s = "";

	for (size_t i = 0; i < mask.n; i++)
		s = arena_printf(&x->arena, "%s%s%u", s, *s ? " " : "", (unsigned char)mask.p[i]);
	return s;
}

static const char *violations_of(struct exchange *x)
{
	const char *s = "";

	for (size_t i = 0; i < x->decoded.n_violations; i++)
		s = arena_printf(&x->arena, "%s%s%.*s:%.*s", s, *s ? " " : "", STR_FMT(x->decoded.violations[i].field), STR_FMT(x->decoded.violations[i].rule));
	return s;
}

static const char *encode(struct exchange *x, struct str reply, const char *path, const char *query)
{
	struct encode_input in = encode_input(x, path, query);

	assert_true(route_encode(&in, reply, &x->out, &x->encoded));
	return buf_cstr(&x->out);
}

/* -- routes */

static void routes_are_exact_and_static_beats_parameter(void **state)
{
	struct exchange x = { 0 };
	struct str allow;

	assert_int_equal(match(&x, "backend", "GET", "/api/v1/customers/stats"), STATUS_OK);
	assert_string_equal(x.match.route->rpc->name, "Accounts.Stats");
	assert_int_equal(match(&x, "backend", "GET", "/api/v1/customers/a%20b"), STATUS_OK);
	assert_true(str_eq(x.match.params[0], STR("a b")));
	assert_int_equal(match(&x, "backend", "PUT", "/api/v1/customers/stats"), STATUS_OK);
	assert_string_equal(x.match.route->rpc->name, "Accounts.Update");
	assert_int_equal(match(&x, "backend", "GET", "/api/v1/customers/"), STATUS_NOT_FOUND);
	assert_int_equal(match(&x, "system", "GET", "/api/crm/leads"), STATUS_NOT_FOUND);
	assert_int_equal(match(&x, "system", "GET", "/api/crm/leads/"), STATUS_OK);
	assert_int_equal(match(&x, "mvp", "HEAD", "/api/leads"), STATUS_OK);
	assert_int_equal(match(&x, "mvp", "GET", "/api/leads/a%2Fb"), STATUS_BAD_REQUEST);
	assert_int_equal(match(&x, "mvp", "GET", "/api/leads/%00"), STATUS_BAD_REQUEST);
	assert_int_equal(match(&x, "mvp", "GET", "/api/leads/%zz"), STATUS_BAD_REQUEST);
	assert_int_equal(match(&x, "mvp", "GET", "/api//leads"), STATUS_NOT_FOUND);
	assert_int_equal(dialect_match(dialects_find(ds, STR("mvp")), STR("PATCH"), STR("/api/leads/1"), &x.arena, &x.match, &allow), STATUS_METHOD_NOT_ALLOWED);
	assert_true(str_eq(allow, STR("GET, HEAD, PUT, DELETE")));
	done(&x);
}

static void documents_of_one_origin_do_not_collide(void **state)
{
	const struct dialect *a[] = { dialects_find(ds, STR("backend")), dialects_find(ds, STR("saas")), dialects_find(ds, STR("system")), dialects_find(ds, STR("native")) };
	const struct dialect *b[] = { dialects_find(ds, STR("elevate")), dialects_find(ds, STR("mvp")), dialects_find(ds, STR("native")) };
	const struct dialect *c[] = { dialects_find(ds, STR("saas")), dialects_find(ds, STR("mvp")) };
	const char *why = NULL;

	assert_true(dialects_may_share(a, 4, &why));
	assert_true(dialects_may_share(b, 3, &why));
	assert_false(dialects_may_share(c, 2, &why));
	assert_non_null(strstr(why, "/api/"));
	free((void *)why);
}

/* -- requests */

static void create_writes_what_is_given(void **state)
{
	struct exchange x;

	assert_int_equal(decode(&x, "mvp", "POST", "/api/leads", "{\"name\":\"John Smith Jr.\",\"email\":\"j@example.com\",\"status\":\"Not Started\",\"value\":5000.50,\"notes\":null,\"id\":\"lead_9\"}"), STATUS_OK);
	assert_string_equal(entity_of(&x, ""), "16:\"John Smith Jr.\" 19:\"j@example.com\" 24:\"not_started\" 25:\"5000.50\"");
	assert_string_equal(mask_of(&x), "16 19 24 25");
	done(&x);
}

static void all_violations_come_at_once_in_the_dialects_names(void **state)
{
	struct exchange x;

	assert_int_equal(decode(&x, "mvp", "POST", "/api/leads", "{\"email\":\"nope\",\"phone\":5,\"value\":\"x\"}"), STATUS_VALIDATION_ERROR);
	assert_string_equal(violations_of(&x), "phone:type value:decimal name:required email:email");
	done(&x);
	assert_int_equal(decode(&x, "saas", "POST", "/api/leads", "{\"firstName\":\"A\"}"), STATUS_VALIDATION_ERROR);
	assert_non_null(strstr(violations_of(&x), "lastName:required"));
	done(&x);
}

static void pascal_case_and_text_bodies_are_read_where_declared(void **state)
{
	struct exchange x;

	assert_int_equal(decode_as(&x, "saas", "POST", "/api/leads", "", "text/plain;charset=UTF-8", "{\"FirstName\":\"A\",\"LastName\":\"B\",\"Email\":\"a@b.co\",\"Company\":null}"), STATUS_OK);
	assert_string_equal(entity_of(&x, ""), "17:\"A\" 18:\"B\" 19:\"a@b.co\"");
	done(&x);
	assert_int_equal(decode_as(&x, "mvp", "POST", "/api/leads", "", "text/plain", "{\"name\":\"A\"}"), STATUS_UNSUPPORTED_MEDIA_TYPE);
	done(&x);
	assert_int_equal(decode(&x, "mvp", "POST", "/api/leads", "{\"name\":"), STATUS_BAD_REQUEST);
	assert_non_null(strstr(x.decoded.text, "at byte 8"));
	done(&x);
	assert_int_equal(decode_as(&x, "system", "POST", "/api/auth/login/", "", "application/x-www-form-urlencoded", "email=a%40b.co&password=p+w"), STATUS_OK);
	assert_true(str_eq(field(buf_view(&x.decoded.payload), 2), STR("p w")));
	done(&x);
}

static void partial_update_masks_what_is_present_and_null_clears(void **state)
{
	struct exchange x;

	assert_int_equal(decode(&x, "mvp", "PUT", "/api/leads/lead_123", "{\"status\":\"won\",\"notes\":null}"), STATUS_OK);
	assert_string_equal(entity_of(&x, ""), "24:\"won\"");
	assert_string_equal(mask_of(&x), "24 26");
	assert_true(str_eq(field(buf_view(&x.decoded.payload), 1), STR("\x10\x7b")));
	done(&x);
}

static void replacement_clears_what_is_missing_and_needs_what_is_required(void **state)
{
	struct exchange x;

	assert_int_equal(decode(&x, "system", "PUT", "/api/territories/territories/5/", "{\"name\":\"N\"}"), STATUS_OK);
	assert_string_equal(entity_of(&x, ""), "16:\"N\"");
	assert_non_null(strstr(mask_of(&x), "16 17"));
	done(&x);
	assert_int_equal(decode(&x, "system", "PUT", "/api/territories/territories/5/", "{}"), STATUS_VALIDATION_ERROR);
	assert_string_equal(violations_of(&x), "name:required");
	done(&x);
	assert_int_equal(decode(&x, "system", "PATCH", "/api/territories/territories/5/", "{}"), STATUS_OK);
	assert_string_equal(mask_of(&x), "");
	done(&x);
}

static void dotted_members_meet_in_one_submessage(void **state)
{
	struct exchange x;

	assert_int_equal(decode(&x, "backend", "PUT", "/api/v1/customers/" LEAD_UUID, "{\"address\":\"1 Main St\",\"city\":null,\"country\":\"NL\"}"), STATUS_OK);
	assert_string_equal(entity_of(&x, ",21,"), "21:[1:\"1 Main St\" 2:\"\" 5:\"NL\"]");
	assert_string_equal(mask_of(&x), "21");
	done(&x);
}

static void references_of_other_services_are_resolved(void **state)
{
	struct exchange x;

	assert_int_equal(decode(&x, "saas", "PUT", "/api/leads/" LEAD_UUID, "{\"assignedTo\":\"user_7\"}"), STATUS_OK);
	assert_string_equal(entity_of(&x, ",27,"), "27:[1:\"" USER_UUID "\" 2:7]");
	done(&x);
	assert_int_equal(decode(&x, "saas", "PUT", "/api/leads/" LEAD_UUID, "{\"assignedTo\":\"user_8\"}"), STATUS_VALIDATION_ERROR);
	assert_string_equal(violations_of(&x), "assignedTo:exists");
	done(&x);
	assert_int_equal(decode(&x, "saas", "PUT", "/api/leads/" LEAD_UUID, "{\"assignedTo\":\"lead_8\"}"), STATUS_VALIDATION_ERROR);
	assert_string_equal(violations_of(&x), "assignedTo:id");
	done(&x);
	assert_int_equal(decode(&x, "saas", "GET", "/api/leads/contact_1", ""), STATUS_NOT_FOUND);
	done(&x);
	assert_int_equal(decode(&x, "system", "GET", "/api/crm/leads/9007199254740992/", ""), STATUS_NOT_FOUND);
	done(&x);
}

static void lists_take_filters_order_and_paging(void **state)
{
	struct exchange x;

	assert_int_equal(decode_as(&x, "backend", "GET", "/api/v1/customers", "page=3&limit=500&status=Active&tags=1,2&sort=createdAt&order=desc&search=a%20b&foo=1&industry=", "", ""), STATUS_OK);
	assert_string_equal(text_of(&x, ",1,2,"), "1:[1:24 2:0 3:\"active\"] 1:[1:26 2:0 4:\"\\u0010\\u0001\" 4:\"\\u0010\\u0002\"] 3:\"a b\" 2:[1:4 2:1] 4:100 5:200 7:1");
	assert_int_equal(x.decoded.page.page, 3);
	assert_int_equal(x.decoded.page.offset, 200);
	done(&x);
}

static void bad_paging_is_a_violation(void **state)
{
	struct exchange x;

	assert_int_equal(decode_as(&x, "backend", "GET", "/api/v1/customers", "page=0&limit=abc&sort=nope&order=up", "", ""), STATUS_VALIDATION_ERROR);
	assert_string_equal(violations_of(&x), "sort:in order:in page:gte limit:type");
	done(&x);
	assert_int_equal(decode_as(&x, "backend", "GET", "/api/v1/customers", "page=99999999999&limit=100", "", ""), STATUS_VALIDATION_ERROR);
	assert_string_equal(violations_of(&x), "page:lte");
	done(&x);
}

static void dates_in_filters_cover_the_whole_day(void **state)
{
	struct exchange x;

	assert_int_equal(decode_as(&x, "system", "GET", "/api/crm/leads/", "created_after=2024-01-15&created_before=2024-01-15", "", ""), STATUS_OK);
	assert_non_null(strstr(text_of(&x, ",1,"), "1:[1:4 2:2 3:\"1705276800000000\"] 1:[1:4 2:4 3:\"1705363199999999\"]"));
	done(&x);
}

static void strict_dialect_refuses_unknown_members(void **state)
{
	struct exchange x;

	assert_int_equal(decode(&x, "native", "POST", "/v1/api-keys", "{\"name\":\"k\",\"nmae\":1}"), STATUS_VALIDATION_ERROR);
	assert_string_equal(violations_of(&x), "nmae:unknown");
	done(&x);
	assert_int_equal(decode(&x, "mvp", "POST", "/api/leads", "{\"name\":\"k\",\"nmae\":1,\"x\":2}"), STATUS_OK);
	assert_true(str_eq(x.decoded.unknown_fields, STR("nmae,x")));
	done(&x);
}

static void bulk_items_go_through_the_body_resource(void **state)
{
	struct exchange x;

	assert_int_equal(decode(&x, "saas", "POST", "/api/leads/bulk", "{\"leads\":[{\"firstName\":\"A\",\"lastName\":\"B\",\"email\":\"a@b.co\"},{\"firstName\":\"C\",\"lastName\":\"D\",\"email\":\"c@d.co\"}]}"), STATUS_OK);
	assert_string_equal(text_of(&x, ",1,"), "1:[17:\"A\" 18:\"B\" 19:\"a@b.co\"] 1:[17:\"C\" 18:\"D\" 19:\"c@d.co\"]");
	done(&x);
	assert_int_equal(decode(&x, "saas", "POST", "/api/leads/bulk", "{\"leads\":[{\"firstName\":5,\"lastName\":\"B\",\"email\":\"a@b.co\"}]}"), STATUS_VALIDATION_ERROR);
	assert_string_equal(violations_of(&x), "leads.0.firstName:type");
	done(&x);
	assert_int_equal(decode(&x, "saas", "POST", "/api/leads/bulk", "{}"), STATUS_VALIDATION_ERROR);
	assert_string_equal(violations_of(&x), "leads:required");
	done(&x);
}

static void constants_of_the_route_win(void **state)
{
	struct exchange x;

	assert_int_equal(decode(&x, "backend", "POST", "/api/v1/auth/login", "{\"email\":\"a@b.co\",\"password\":\"secret\",\"rememberMe\":true}"), STATUS_OK);
	assert_string_equal(text_of(&x, ",15,"), "1:\"a@b.co\" 2:\"secret\" 3:1 15:[1:3600 2:604800]");
	done(&x);
}

/* -- replies */

static void put_ref(struct buf *b, uint32_t number, const char *id, uint64_t seq, const char *name)
{
	size_t at = wire_open(b, number);

	if (id)
		wire_put_bytes(b, 1, str_of(id));
	if (seq)
		wire_put_varint(b, 2, seq);
	if (name)
		wire_put_bytes(b, 3, str_of(name));
	wire_close(b, at);
}

static void put_lead(struct buf *b)
{
	wire_put_bytes(b, 1, STR(LEAD_UUID));
	wire_put_varint(b, 2, 123);
	wire_put_varint(b, 3, 4);
	wire_put_varint(b, 4, NOW);
	put_ref(b, 6, USER_UUID, 0, NULL);
	wire_put_bytes(b, 16, STR("John Smith Jr."));
	wire_put_bytes(b, 17, STR("John"));
	wire_put_bytes(b, 18, STR("Smith Jr."));
	wire_put_bytes(b, 19, STR("j@example.com"));
	wire_put_bytes(b, 23, STR("website"));
	wire_put_bytes(b, 24, STR("not_started"));
	wire_put_bytes(b, 25, STR("5000.00"));
	put_ref(b, 27, USER_UUID, 0, NULL);
	put_ref(b, 28, "018f0000-0000-7000-8000-000000000009", 9, "North Territory");
}

static void contains(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("%s\nis not in\n%s", part, text);
}

static void one_record_has_a_face_in_each_dialect(void **state)
{
	struct buf lead = { 0 };
	struct exchange x;
	const char *out;

	put_lead(&lead);
	assert_int_equal(decode(&x, "mvp", "GET", "/api/leads/lead_123", ""), STATUS_OK);
	out = encode(&x, buf_view(&lead), "/api/leads/lead_123", "");
	contains(out, "{\"id\":\"lead_123\",\"name\":\"John Smith Jr.\"");
	contains(out, "\"status\":\"not_started\"");
	contains(out, "\"value\":5000.00");
	contains(out, "\"createdAt\":\"2024-01-15T10:30:00Z\"");
	contains(out, "\"updatedAt\":null");
	assert_int_equal(x.encoded.version, 4);
	assert_true(str_eq(x.encoded.id, STR("lead_123")));
	done(&x);
	assert_int_equal(decode(&x, "saas", "GET", "/api/leads/lead_123", ""), STATUS_OK);
	out = encode(&x, buf_view(&lead), "/api/leads/lead_123", "");
	contains(out, "\"firstName\":\"John\",\"lastName\":\"Smith Jr.\"");
	contains(out, "\"status\":\"Not Started\"");
	contains(out, "\"createdBy\":\"user_7\"");
	contains(out, "\"tenantId\":\"tenant_3\"");
	done(&x);
	assert_int_equal(decode(&x, "system", "GET", "/api/crm/leads/123/", ""), STATUS_OK);
	out = encode(&x, buf_view(&lead), "/api/crm/leads/123/", "");
	contains(out, "{\"id\":123,");
	contains(out, "\"territory\":{\"id\":9,\"name\":\"North Territory\"}");
	done(&x);
	buf_fini(&lead);
}

static void lists_are_wrapped_and_linked(void **state)
{
	struct buf lead = { 0 }, list = { 0 };
	struct exchange x;
	const char *out;

	put_lead(&lead);
	wire_put_bytes(&list, 1, buf_view(&lead));
	wire_put_bytes(&list, 1, buf_view(&lead));
	wire_put_varint(&list, 2, 45);
	wire_put_bytes(&list, 3, STR("c/1"));
	assert_int_equal(decode_as(&x, "system", "GET", "/api/crm/leads/", "search=a%20b&page=2", "", ""), STATUS_OK);
	out = encode(&x, buf_view(&list), "/api/crm/leads/", "search=a%20b&page=2");
	contains(out, "{\"count\":45,\"next\":\"http://h:5000/api/crm/leads/?search=a%20b&page=3\",\"previous\":\"http://h:5000/api/crm/leads/?search=a%20b&page=1\",\"results\":[{\"id\":123,");
	assert_true(str_eq(x.encoded.next, STR("http://h:5000/api/crm/leads/?search=a%20b&cursor=c%2F1")));
	done(&x);
	assert_int_equal(decode_as(&x, "mvp", "GET", "/api/leads", "limit=2&offset=44", "", ""), STATUS_OK);
	list.n -= 5; /* without the cursor: the last page */
	out = encode(&x, buf_view(&list), "/api/leads", "limit=2&offset=44");
	contains(out, "\"total\":45,\"pagination\":{\"limit\":2,\"offset\":44,\"hasMore\":false}}");
	done(&x);
	buf_fini(&lead);
	buf_fini(&list);
}

static void members_of_the_item_and_empty_replies_have_shapes(void **state)
{
	struct buf b = { 0 };
	struct exchange x;

	wire_put_bytes(&b, 1, STR("read"));
	wire_put_bytes(&b, 1, STR("write"));
	assert_int_equal(decode(&x, "backend", "GET", "/api/v1/auth/permissions", ""), STATUS_OK);
	assert_string_equal(encode(&x, buf_view(&b), "/", ""), "{\"success\":true,\"data\":[\"read\",\"write\"],\"message\":\"Operation completed successfully\",\"errors\":[]}");
	done(&x);
	assert_int_equal(decode(&x, "elevate", "DELETE", "/api/v1/customers/5", ""), STATUS_OK);
	assert_string_equal(encode(&x, STR(""), "/", ""), "{\"message\":\"Customer deleted successfully\"}");
	done(&x);
	buf_fini(&b);
}

static const char *login_printed(const char *dialect, const char *path, uint32_t flag, int status)
{
	static struct arena kept;
	struct buf b = { 0 };
	struct exchange x;
	const char *text;

	wire_put_bytes(&b, 7, STR("c-1"));
	wire_put_varint(&b, 8, 300);
	wire_put_varint(&b, 9, flag == 9);
	wire_put_varint(&b, 10, flag == 10);
	assert_int_equal(decode(&x, dialect, "POST", path, "{\"email\":\"a@b.example\",\"password\":\"password123\"}"), STATUS_OK);
	text = arena_strdup(&kept, str_of(encode(&x, buf_view(&b), path, "")));
	assert_int_equal(x.encoded.status, status);
	done(&x);
	buf_fini(&b);
	if (!flag)
		arena_fini(&kept);
	return flag ? text : NULL;
}

static void outcomes_of_another_kind_have_a_status_and_a_shape_of_their_own(void **state)
{
	contains(login_printed("backend", "/api/v1/auth/login", 9, 401), "{\"success\":false,\"data\":{\"mfaRequired\":true,\"challenge\":\"c-1\",\"expiresIn\":300}");
	contains(login_printed("backend", "/api/v1/auth/login", 10, 403), "\"code\":\"MFA_ENROLMENT_REQUIRED\"");
	contains(login_printed("saas", "/api/auth/login", 9, 401), "{\"error\":{\"code\":\"MFA_REQUIRED\"");
	contains(login_printed("mvp", "/api/auth/login", 9, 401), "\"mfaRequired\":true,\"challenge\":\"c-1\"");
	contains(login_printed("system", "/api/auth/login/", 9, 401), "\"mfa_required\":true,\"challenge\":\"c-1\",\"expires_in\":300");
	contains(login_printed("elevate", "/api/v1/auth/login", 10, 403), "\"mfa_enrolment_required\":true");
	login_printed("elevate", "/api/v1/auth/login", 0, 200);
}

static void malformed_replies_are_refused(void **state)
{
	struct exchange x;
	struct encode_input in;

	assert_int_equal(decode(&x, "mvp", "GET", "/api/leads/lead_123", ""), STATUS_OK);
	in = encode_input(&x, "/", "");
	assert_false(route_encode(&in, STR("\x82\x01\xff"), &x.out, &x.encoded));
	assert_false(route_encode(&in, STR("\x80\x01\x05"), &x.out, &x.encoded)); /* 16 as a varint */
	assert_int_equal(x.out.n, 0);
	done(&x);
}

/* -- errors */

static void errors_have_the_documents_shapes(void **state)
{
	struct exchange x;
	struct encode_input in;
	const struct dialect *d;

	decode(&x, "saas", "POST", "/api/leads", "{\"firstName\":\"A\",\"lastName\":\"B\",\"email\":\"x\"}");
	in = encode_input(&x, "/api/leads", "");
	assert_int_equal(dialect_error(x.match.dialect, x.match.route, &in, x.status, STR("Invalid email format"), STR(""), x.decoded.violations, x.decoded.n_violations, &x.out), 422);
	assert_string_equal(buf_cstr(&x.out), "{\"error\":{\"code\":\"VALIDATION_ERROR\",\"message\":\"Invalid email format\",\"details\":[{\"field\":\"email\",\"message\":\"Email must be a valid email address\"}]},\"timestamp\":\"2024-01-15T10:30:00Z\",\"path\":\"/api/leads\",\"traceId\":\"tr\"}");
	done(&x);
	decode(&x, "system", "POST", "/api/territories/territories/", "{}");
	in = encode_input(&x, "/", "");
	assert_int_equal(dialect_error(x.match.dialect, x.match.route, &in, x.status, STR(""), STR(""), x.decoded.violations, x.decoded.n_violations, &x.out), 400);
	assert_string_equal(buf_cstr(&x.out), "{\"error\":{\"type\":\"ValidationError\",\"message\":\"Validation failed\",\"timestamp\":\"2024-01-15T10:30:00Z\",\"status_code\":400,\"details\":{\"name\":[\"This field is required.\"]}}}");
	done(&x);
	d = dialects_find(ds, STR("backend"));
	memset(&x, 0, sizeof(x));
	assert_int_equal(dialect_error(d, NULL, &in, STATUS_NOT_FOUND, STR(""), STR(""), NULL, 0, &x.out), 404);
	assert_string_equal(buf_cstr(&x.out), "{\"success\":false,\"message\":\"Not found\",\"errors\":[{\"code\":\"NOT_FOUND\",\"message\":\"Not found\"}]}");
	done(&x);
}

static void service_violations_get_the_dialects_names(void **state)
{
	struct buf status = { 0 };
	struct exchange x;
	struct encode_input in;
	size_t at;

	wire_put_varint(&status, 1, STATUS_VALIDATION_ERROR);
	at = wire_open(&status, 3);
	wire_put_bytes(&status, 1, STR("family"));
	wire_put_bytes(&status, 2, STR("required"));
	wire_close(&status, at);
	decode(&x, "saas", "PUT", "/api/leads/1", "{\"firstName\":\"A\"}");
	in = encode_input(&x, "/", "");
	dialect_error(x.match.dialect, x.match.route, &in, STATUS_VALIDATION_ERROR, STR(""), buf_view(&status), NULL, 0, &x.out);
	contains(buf_cstr(&x.out), "{\"field\":\"lastName\",\"message\":\"Last name is required\"}");
	done(&x);
	buf_fini(&status);
}

/* The answer to a body with one mistake; freed by done(). */
static const char *refusal(struct exchange *x, const char *dialect, const char *method, const char *path, const char *query, const char *body)
{
	struct encode_input in;

	decode_as(x, dialect, method, path, query, "application/json", body);
	in = encode_input(x, "/", "");
	dialect_error(x->match.dialect, x->match.route, &in, x->status, STR(""), STR(""), x->decoded.violations, x->decoded.n_violations, &x->out);
	return buf_cstr(&x->out);
}

static void sentences_are_those_of_the_documents(void **state)
{
	static const struct {
		const char *dialect, *method, *path, *query, *body, *expected;
	} rows[] = {
		{ "saas", "POST", "/api/leads", "", "{\"firstName\":\"A\",\"lastName\":\"B\",\"email\":\"x\"}", "\"message\":\"Invalid email format\",\"details\":[{\"field\":\"email\",\"message\":\"Email must be a valid email address\"}]" },
		{ "saas", "POST", "/api/leads", "", "{\"firstName\":\"A\"}", "\"message\":\"Last name is required\",\"details\":[{\"field\":\"lastName\",\"message\":\"Last name is required\"}]" },
		{ "mvp", "POST", "/api/leads", "", "{\"name\":\"A\",\"email\":\"x\"}", "\"message\":\"Invalid request data\",\"details\":{\"field\":\"email\",\"reason\":\"Invalid email format\"}" },
		{ "mvp", "POST", "/api/contacts", "", "{\"name\":\"A\",\"tags\":[true]}", "\"reason\":\"Tags must be" },
		{ "elevate", "POST", "/api/v1/customers", "", "{\"name\":\"A\",\"rating\":9}", "\"message\":\"Invalid input data\",\"details\":[{\"field\":\"rating\",\"message\":\"Rating must be at most 5\"}]" },
		{ "backend", "POST", "/api/v1/auth/login", "", "{\"password\":\"x\"}", "\"message\":\"Validation failed\",\"errors\":[{\"code\":\"VALIDATION_ERROR\",\"message\":\"Email is required\",\"field\":\"email\"}]" },
		{ "system", "GET", "/api/crm/accounts/", "territory=north", "", "\"message\":\"Validation failed\"" },
		{ "system", "GET", "/api/crm/accounts/", "territory=north", "", "{\"territory\":[\"This field is not a valid id.\"]}" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct exchange x;

		contains(refusal(&x, rows[i].dialect, rows[i].method, rows[i].path, rows[i].query, rows[i].body), rows[i].expected);
		done(&x);
	}
}

static void an_order_the_service_lacks_names_the_parameter(void **state)
{
	struct buf status = { 0 };
	struct exchange x;
	struct encode_input in;
	size_t at;

	at = wire_open(&status, 3);
	wire_put_bytes(&status, 1, STR("created_us"));
	wire_put_bytes(&status, 2, STR("sort"));
	wire_close(&status, at);
	decode_as(&x, "saas", "GET", "/api/leads", "sortBy=createdAt", "", "");
	in = encode_input(&x, "/", "");
	dialect_error(x.match.dialect, x.match.route, &in, STATUS_VALIDATION_ERROR, STR(""), buf_view(&status), NULL, 0, &x.out);
	contains(buf_cstr(&x.out), "{\"field\":\"sortBy\",\"message\":\"Sort by cannot be createdAt\"}");
	done(&x);
	buf_fini(&status);
}

static void brackets_behind_a_name_make_a_list(void **state)
{
	static const char *const queries[] = { "tags[]=a&tags[]=b", "tags%5B%5D=a&tags%5B%5D=b", "tags[0]=a&tags[17]=b", "tags=a&tags=b", "tags=a,b" };
	struct exchange first, x;

	decode_as(&first, "mvp", "GET", "/api/contacts", queries[0], "", "");
	for (size_t i = 0; i < sizeof(queries) / sizeof(*queries); i++) {
		assert_int_equal(decode_as(&x, "mvp", "GET", "/api/contacts", queries[i], "", ""), STATUS_OK);
		assert_true(x.decoded.payload.n > 10 && str_eq(buf_view(&x.decoded.payload), buf_view(&first.decoded.payload)));
		done(&x);
	}
	done(&first);
	assert_int_equal(decode_as(&x, "mvp", "GET", "/api/contacts", "[]=a&[0]=b&]=c&tags[x]=d&tags=a", "", ""), STATUS_OK);
	done(&x);
}

static void amounts_have_the_digits_of_the_document(void **state)
{
	static const struct {
		const char *stored, *printed;
	} rows[] = { { "0", "\"total_value\":0.00," }, { "45000.5", "\"total_value\":45000.50," }, { "1.234", "\"total_value\":1.234," } };
	const struct schema_message *account = schema_message_find(dialects_schema(ds), STR("crm.v1.Account"));
	uint32_t number = schema_field_find(account, STR("total_value"))->number;

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct buf wire = { 0 };
		struct exchange x;
		struct encode_input in;

		decode(&x, "elevate", "GET", "/api/v1/customers/5", "");
		in = encode_input(&x, "/", "");
		wire_put_bytes(&wire, number, str_of(rows[i].stored));
		assert_true(route_encode(&in, buf_view(&wire), &x.out, &x.encoded));
		contains(buf_cstr(&x.out), rows[i].printed);
		done(&x);
		buf_fini(&wire);
	}
}

static enum ref_state ref_unknown(void *arg, const struct ref_key *key, struct ref_value *out)
{
	++*(int *)arg;
	return REF_UNKNOWN;
}

static void references_that_are_not_known_yet_are_wished_for_and_local_ones_are_not(void **state)
{
	struct buf lead = { 0 };
	struct exchange x;
	struct encode_input in;
	int asked = 0;

	put_lead(&lead);
	assert_int_equal(decode(&x, "saas", "GET", "/api/leads/1", ""), STATUS_OK);
	in = encode_input(&x, "/", "");
	in.refs = (struct ref_lookup){ &asked, ref_unknown };
	assert_true(route_encode(&in, buf_view(&lead), &x.out, &x.encoded));
	assert_int_equal(asked, 2); /* owner and created_by; the territory is svc-customers' own */
	done(&x);
	buf_fini(&lead);
}

static void openapi_is_json_and_has_every_route(void **state)
{
	const struct dialect *const *rows;
	size_t n = dialects_all(ds, &rows);

	for (size_t i = 0; i < n; i++) {
		struct arena a = { 0 };
		struct json_error err;
		struct buf b = { 0 };
		struct json *v, *path;

		dialect_openapi(ds, rows[i], STR("http://h:5000"), &b);
		v = json_parse(&a, buf_view(&b), &err);
		if (!v)
			fail_msg("%s: %s at %zu", rows[i]->name, err.text, err.offset);
		assert_true(str_eq(json_get(v, STR("openapi"), false)->text, STR("3.1.0")));
		for (size_t k = 0; k < rows[i]->impl->n_routes; k++) {
			const struct route *r = &rows[i]->impl->routes[k].pub;

			path = json_get(json_get(v, STR("paths"), false), str_of(r->template), false);
			if (!json_get(path, r->method, true))
				fail_msg("%s: %.*s %s is missing", rows[i]->name, STR_FMT(r->method), r->template);
		}
		buf_fini(&b);
		arena_fini(&a);
	}
}

static int load(void **state)
{
	const char *why = NULL;

	ds = dialects_load("build/gen/descriptors", "build/gen/dialects", &why);
	if (!ds)
		fprintf(stderr, "%s\n", why);
	return ds ? 0 : -1;
}

static int unload(void **state)
{
	dialects_rele(ds);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(routes_are_exact_and_static_beats_parameter),
		cmocka_unit_test(documents_of_one_origin_do_not_collide),
		cmocka_unit_test(create_writes_what_is_given),
		cmocka_unit_test(all_violations_come_at_once_in_the_dialects_names),
		cmocka_unit_test(pascal_case_and_text_bodies_are_read_where_declared),
		cmocka_unit_test(partial_update_masks_what_is_present_and_null_clears),
		cmocka_unit_test(replacement_clears_what_is_missing_and_needs_what_is_required),
		cmocka_unit_test(dotted_members_meet_in_one_submessage),
		cmocka_unit_test(references_of_other_services_are_resolved),
		cmocka_unit_test(lists_take_filters_order_and_paging),
		cmocka_unit_test(bad_paging_is_a_violation),
		cmocka_unit_test(dates_in_filters_cover_the_whole_day),
		cmocka_unit_test(strict_dialect_refuses_unknown_members),
		cmocka_unit_test(bulk_items_go_through_the_body_resource),
		cmocka_unit_test(constants_of_the_route_win),
		cmocka_unit_test(one_record_has_a_face_in_each_dialect),
		cmocka_unit_test(lists_are_wrapped_and_linked),
		cmocka_unit_test(members_of_the_item_and_empty_replies_have_shapes),
		cmocka_unit_test(outcomes_of_another_kind_have_a_status_and_a_shape_of_their_own),
		cmocka_unit_test(malformed_replies_are_refused),
		cmocka_unit_test(errors_have_the_documents_shapes),
		cmocka_unit_test(service_violations_get_the_dialects_names),
		cmocka_unit_test(sentences_are_those_of_the_documents),
		cmocka_unit_test(an_order_the_service_lacks_names_the_parameter),
		cmocka_unit_test(brackets_behind_a_name_make_a_list),
		cmocka_unit_test(amounts_have_the_digits_of_the_document),
		cmocka_unit_test(references_that_are_not_known_yet_are_wished_for_and_local_ones_are_not),
		cmocka_unit_test(openapi_is_json_and_has_every_route),
	};

	return cmocka_run_group_tests(tests, load, unload);
}
