/* Users, Tenants, ApiKeys and principals, against a real PostgreSQL. */
#include "harness.h"

static Crm__V1__ListReply *list(const char *rpc, const struct rpc_principal *who, const Crm__V1__ListRequest *r)
{
	return reply_of(invoke(rpc, who, r), &crm__v1__list_reply__descriptor);
}

static Crm__V1__User *user_at(const Crm__V1__ListReply *l, size_t i)
{
	Crm__V1__User *u = crm__v1__user__unpack(NULL, l->item[i].len, l->item[i].data);
	Crm__V1__User *copy = ARENA_NEW(&arena, Crm__V1__User);

	assert_non_null(u);
	*copy = *u;
	copy->email = arena_strdup(&arena, str_of(u->email));
	copy->display = arena_strdup(&arena, str_of(u->display));
	copy->id = arena_strdup(&arena, str_of(u->id));
	crm__v1__user__free_unpacked(u, NULL);
	return copy;
}

/* A tenant with an admin and 25 members: u01 … u25, every third a manager, u25 inactive. */
static struct rpc_principal crowd(const char *admin)
{
	struct rpc_principal who = principal_of(register_person(admin, "The Admin"));

	pg_fixture_sql(pg, arena_printf(&arena,
					"WITH t AS (SELECT '%.*s'::uuid AS id), p AS (INSERT INTO auth.person (id, email, display)"
					" SELECT gen_random_uuid(), 'u' || to_char(i, 'FM00') || '-' || (SELECT left(md5(id::text), 8) FROM t) || '@example.com',"
					" 'Member ' || to_char(i, 'FM00') FROM generate_series(1, 25) i RETURNING id, display)"
					" INSERT INTO auth.membership (tenant_id, user_id, seq, role, status) SELECT t.id, p.id, right(display, 2)::int + 1,"
					" CASE WHEN right(display, 2)::int %% 3 = 0 THEN 'manager' ELSE 'agent' END,"
					" CASE WHEN display = 'Member 25' THEN 'inactive' ELSE 'active' END FROM t, p",
					STR_FMT(who.tenant_id)));
	return who;
}

static void test_users_list_pages_by_cursor_without_gap_or_repeat(void **state)
{
	struct rpc_principal who = crowd("boss@pages.example");
	Crm__V1__ListRequest r = CRM__V1__LIST_REQUEST__INIT;
	Crm__V1__Sort by_role = CRM__V1__SORT__INIT, by_name = CRM__V1__SORT__INIT, *sort[] = { &by_role, &by_name };
	Crm__V1__ListReply *l;
	size_t seen = 0, pages = 0;
	const char *last = "";

	by_role.has_field = by_name.has_field = by_role.has_desc = 1;
	by_role.field = 20;
	by_role.desc = 1;
	by_name.field = 17;
	r.n_sort = 2;
	r.sort = sort;
	r.has_limit = r.has_want_total = 1;
	r.limit = 7;
	r.want_total = 1;
	do {
		l = list("Users.List", &who, &r);
		assert_int_equal(l->total, 26);
		for (size_t i = 0; i < l->n_item; i++, seen++) {
			if (seen == 0 || seen == 8 || seen == 25) /* manager ×8, agent ×17, admin ×1 */
				last = "";
			assert_true(strcmp(user_at(l, i)->display, last) > 0);
			last = user_at(l, i)->display;
		}
		r.cursor = l->next_cursor;
		pages++;
	} while (r.cursor && pages < 10);
	assert_int_equal(seen, 26);
	assert_int_equal(pages, 4);
}

static void test_users_list_filters_and_searches(void **state)
{
	struct rpc_principal who = crowd("boss@filters.example");
	Crm__V1__ListRequest r = CRM__V1__LIST_REQUEST__INIT;
	Crm__V1__Filter role = CRM__V1__FILTER__INIT, status = CRM__V1__FILTER__INIT, *filters[] = { &role, &status };
	char *roles[] = { "MANAGER", "admin" }, *states[] = { "active" };

	role.has_field = status.has_field = r.has_want_total = r.want_total = 1;
	role.field = 20;
	role.value = roles;
	role.n_value = 2;
	status.field = 22;
	status.value = states;
	status.n_value = 1;
	r.filter = filters;
	r.n_filter = 2;
	assert_int_equal(list("Users.List", &who, &r)->total, 9);
	roles[0] = "agent";
	role.n_value = 1;
	assert_int_equal(list("Users.List", &who, &r)->total, 16);
	r.n_filter = 0;
	r.search = "ember 1";
	assert_int_equal(list("Users.List", &who, &r)->total, 10);
	r.search = "BOSS@FILTERS";
	assert_int_equal(list("Users.List", &who, &r)->total, 1);
	r.search = "%";
	assert_int_equal(list("Users.List", &who, &r)->total, 0);
}

static void test_users_list_refuses_what_it_does_not_know(void **state)
{
	struct rpc_principal who = crowd("boss@bad.example");
	Crm__V1__ListRequest r = CRM__V1__LIST_REQUEST__INIT;
	Crm__V1__Sort by = CRM__V1__SORT__INIT, *sort[] = { &by };

	r.cursor = "AAAA";
	assert_int_equal(invoke("Users.List", &who, &r)->status, STATUS_BAD_REQUEST);
	r.cursor = NULL;
	by.has_field = 1;
	by.field = 23;
	r.sort = sort;
	r.n_sort = 1;
	assert_int_equal(invoke("Users.List", &who, &r)->status, STATUS_BAD_REQUEST);
}

static void test_users_of_other_tenants_do_not_exist(void **state)
{
	struct rpc_principal mine = crowd("boss@mine.example"), other = principal_of(register_person("else@other.example", "Else"));
	Crm__V1__KeyRequest r = CRM__V1__KEY_REQUEST__INIT;
	Crm__V1__Key key = CRM__V1__KEY__INIT;
	Crm__V1__User *u;

	r.key = &key;
	key.id = arena_strdup(&arena, mine.user_id);
	assert_int_equal(invoke("Users.Get", &other, &r)->status, STATUS_NOT_FOUND);
	u = reply_of(invoke("Users.Get", &mine, &r), &crm__v1__user__descriptor);
	assert_string_equal(u->email, "boss@mine.example");
	key.id = NULL;
	key.has_seq = 1;
	key.seq = 4;
	u = reply_of(invoke("Users.Get", &mine, &r), &crm__v1__user__descriptor);
	assert_string_equal(u->display, "Member 03");
	assert_int_equal(invoke("Users.Get", &other, &r)->status, STATUS_NOT_FOUND);
}

static void test_refs_come_in_the_order_asked(void **state)
{
	struct rpc_principal who = crowd("boss@refs.example");
	Crm__V1__RefsRequest r = CRM__V1__REFS_REQUEST__INIT;
	Crm__V1__Key a = CRM__V1__KEY__INIT, b = CRM__V1__KEY__INIT, c = CRM__V1__KEY__INIT, *keys[] = { &a, &b, &c, &a };
	Crm__V1__RefsReply *out;

	a.has_seq = 1;
	a.seq = 3;
	b.id = "not a uuid at all";
	c.id = arena_strdup(&arena, who.user_id);
	r.key = keys;
	r.n_key = 4;
	out = reply_of(invoke("Users.Refs", &who, &r), &crm__v1__refs_reply__descriptor);
	assert_int_equal(out->n_ref, 4);
	assert_string_equal(out->ref[0]->name, "Member 02");
	assert_null(out->ref[1]->id);
	assert_string_equal(out->ref[2]->email, "boss@refs.example");
	assert_int_equal(out->ref[3]->seq, 3);
	out = reply_of(invoke("Users.Refs", NULL, &r), &crm__v1__refs_reply__descriptor);
	assert_null(out->ref[0]->id);
}

static struct outcome *write_tenant(const char *rpc, const struct rpc_principal *who, const char *id, const Crm__V1__Tenant *t, uint32_t field)
{
	Crm__V1__WriteRequest w = CRM__V1__WRITE_REQUEST__INIT;
	Crm__V1__Key key = CRM__V1__KEY__INIT;
	uint8_t bytes[512];

	key.id = (char *)id;
	w.key = id ? &key : NULL;
	w.has_entity = 1;
	w.entity.data = bytes;
	w.entity.len = crm__v1__tenant__pack(t, bytes);
	w.mask = &field;
	w.n_mask = 1;
	return invoke(rpc, who, &w);
}

static struct outcome *on_tenant(const char *rpc, const struct rpc_principal *who, const char *id)
{
	Crm__V1__KeyRequest r = CRM__V1__KEY_REQUEST__INIT;
	Crm__V1__Key key = CRM__V1__KEY__INIT;

	key.id = (char *)id;
	r.key = &key;
	return invoke(rpc, who, &r);
}

static void test_tenants_belong_to_their_members(void **state)
{
	struct rpc_principal who = principal_of(register_person("owner@tenants.example", "Owner")),
			     other = principal_of(register_person("stranger@tenants.example", "Stranger"));
	Crm__V1__Tenant in = CRM__V1__TENANT__INIT, *t;
	Crm__V1__ListRequest r = CRM__V1__LIST_REQUEST__INIT;

	in.name = "Second";
	t = reply_of(write_tenant("Tenants.Create", &who, NULL, &in, 16), &crm__v1__tenant__descriptor);
	assert_string_equal(t->role, "admin");
	assert_int_equal(list("Tenants.List", &who, &r)->n_item, 2);
	assert_int_equal(list("Tenants.List", &other, &r)->n_item, 1);
	assert_int_equal(on_tenant("Tenants.Get", &other, t->id)->status, STATUS_NOT_FOUND);
	assert_int_equal(on_tenant("Tenants.Delete", &other, t->id)->status, STATUS_NOT_FOUND);
	in.name = "Renamed";
	t = reply_of(write_tenant("Tenants.Update", &who, t->id, &in, 16), &crm__v1__tenant__descriptor);
	assert_string_equal(t->name, "Renamed");
	assert_int_equal(t->version, 2);
	assert_string_equal(valuef("SELECT string_agg(type, ',' ORDER BY xid, id) FROM auth.outbox WHERE tenant_id = '?'", t->id),
			    "auth.tenant.created,auth.tenant.updated");
}

static void test_only_an_admin_of_it_changes_a_tenant(void **state)
{
	Crm__V1__Session *s = register_person("demoted@tenants.example", "Demoted");
	struct rpc_principal who = principal_of(s);
	Crm__V1__Tenant in = CRM__V1__TENANT__INIT;

	in.name = "Mine";
	pg_fixture_sql(pg, arena_printf(&arena, "UPDATE auth.membership SET role = 'manager' WHERE user_id = '%s'", s->user->id));
	assert_int_equal(write_tenant("Tenants.Update", &who, s->tenant->id, &in, 16)->status, STATUS_PERMISSION_DENIED);
	assert_int_equal(on_tenant("Tenants.Delete", &who, s->tenant->id)->status, STATUS_PERMISSION_DENIED);
}

static void test_an_api_key_reaches_no_other_tenant_of_its_creator(void **state)
{
	struct rpc_principal who = principal_of(register_person("two@tenants.example", "Two")), key = who;
	Crm__V1__Tenant in = CRM__V1__TENANT__INIT, *second;
	Crm__V1__ListRequest all = CRM__V1__LIST_REQUEST__INIT;
	Crm__V1__WriteRequest w = CRM__V1__WRITE_REQUEST__INIT;
	const char *own = arena_strdup(&arena, who.tenant_id);

	in.name = "Second";
	second = reply_of(write_tenant("Tenants.Create", &who, NULL, &in, 16), &crm__v1__tenant__descriptor);
	key.api_key_id = STR("0190a0a0-0000-7000-8000-000000000001");
	assert_int_equal(list("Tenants.List", &key, &all)->n_item, 1);
	assert_int_equal(on_tenant("Tenants.Get", &key, own)->status, STATUS_OK);
	assert_int_equal(on_tenant("Tenants.Get", &key, second->id)->status, STATUS_NOT_FOUND);
	assert_int_equal(write_tenant("Tenants.Update", &key, second->id, &in, 16)->status, STATUS_NOT_FOUND);
	assert_int_equal(on_tenant("Tenants.Delete", &key, second->id)->status, STATUS_NOT_FOUND);
	assert_int_equal(write_tenant("Tenants.Create", &key, NULL, &in, 16)->status, STATUS_PERMISSION_DENIED);
	assert_int_equal(invoke("Auth.UpdateProfile", &key, &w)->status, STATUS_PERMISSION_DENIED);
}

static void test_an_admin_without_the_permission_changes_no_tenant(void **state)
{
	Crm__V1__Session *s = register_person("denied@tenants.example", "Denied");
	struct rpc_principal who = principal_of(s);
	Crm__V1__Tenant in = CRM__V1__TENANT__INIT;

	in.name = "Mine";
	pg_fixture_sql(pg, arena_printf(&arena, "UPDATE auth.membership SET denied = '{tenants.delete}' WHERE user_id = '%s'", s->user->id));
	assert_int_equal(write_tenant("Tenants.Update", &who, s->tenant->id, &in, 16)->status, STATUS_OK);
	assert_int_equal(on_tenant("Tenants.Delete", &who, s->tenant->id)->status, STATUS_PERMISSION_DENIED);
}

static void test_a_deleted_tenant_lets_nobody_in(void **state)
{
	Crm__V1__Session *s = register_person("gone@tenants.example", "Gone");
	struct rpc_principal who = principal_of(s);
	Crm__V1__RefreshRequest r = CRM__V1__REFRESH_REQUEST__INIT;

	r.refresh_token = s->refresh_token;
	assert_int_equal(on_tenant("Tenants.Delete", &who, s->tenant->id)->status, STATUS_OK);
	assert_int_equal(invoke("Auth.Refresh", NULL, &r)->status, STATUS_INVALID_TOKEN);
	assert_int_equal(try_login("gone@tenants.example", PASSWORD, STR("192.0.2.1"))->status, STATUS_AUTH_FAILED);
	assert_string_equal(valuef("SELECT revoked AND epoch_us IS NOT NULL FROM auth.change WHERE kind = 'tenant' AND id = '?'", s->tenant->id), "t");
	pg_fixture_sql(pg, "SELECT auth.purge()");
	assert_string_equal(valuef("SELECT status FROM auth.tenant WHERE id = '?'", s->tenant->id), "deleted");
	pg_fixture_sql(pg, "UPDATE auth.tenant SET deleted_at = now() - interval '31 days' WHERE status = 'deleted'; SELECT auth.purge()");
	assert_string_equal(valuef("SELECT count(*) FROM auth.tenant WHERE id = '?'", s->tenant->id), "0");
}

static void test_create_with_an_idempotency_key_happens_once(void **state)
{
	struct rpc_principal who = principal_of(register_person("again@tenants.example", "Again"));
	Crm__V1__WriteRequest w = CRM__V1__WRITE_REQUEST__INIT;
	Crm__V1__Tenant in = CRM__V1__TENANT__INIT;
	struct outcome *o[2];
	uint8_t bytes[64];

	in.name = "Once only";
	w.has_entity = 1;
	w.entity.data = bytes;
	w.entity.len = crm__v1__tenant__pack(&in, bytes);
	for (int i = 0; i < 2; i++) {
		o[i] = call_new("Tenants.Create", &who, &w);
		o[i]->call.idempotency_key = STR("key-1");
		o[i]->call.idempotency_hash = STR("0123456789abcdef0123456789abcdef");
		call_start(o[i]);
		call_wait(o[i]);
		assert_int_equal(o[i]->status, STATUS_OK);
	}
	assert_true(o[1]->replayed && str_eq(o[0]->payload, o[1]->payload));
	assert_string_equal(value("SELECT count(*) FROM auth.tenant WHERE name = 'Once only'"), "1");
}

static struct outcome *keyed(const char *rpc, const struct rpc_principal *who, const void *message, struct str key)
{
	struct outcome *o = call_new(rpc, who, message);

	o->call.idempotency_key = key;
	o->call.idempotency_hash = STR("0123456789abcdef0123456789abcdef");
	call_start(o);
	call_wait(o);
	return o;
}

static void test_changes_with_an_idempotency_key_happen_once(void **state)
{
	Crm__V1__Session *s = register_person("keyed@tenants.example", "Keyed");
	struct rpc_principal who = principal_of(s);
	Crm__V1__WriteRequest w = CRM__V1__WRITE_REQUEST__INIT, p = w;
	Crm__V1__Tenant in = CRM__V1__TENANT__INIT;
	Crm__V1__User me = CRM__V1__USER__INIT;
	Crm__V1__Key key = CRM__V1__KEY__INIT;
	uint32_t name = 16, display = 17;
	uint8_t bytes[64], more[64];
	struct outcome *o[2];

	in.name = "Once";
	key.id = s->tenant->id;
	w = (Crm__V1__WriteRequest){ w.base, .key = &key, .has_entity = 1, .mask = &name, .n_mask = 1 };
	w.entity = (ProtobufCBinaryData){ crm__v1__tenant__pack(&in, bytes), bytes };
	me.display = "Once Only";
	p.mask = &display;
	p.n_mask = p.has_entity = 1;
	p.entity = (ProtobufCBinaryData){ crm__v1__user__pack(&me, more), more };
	for (int i = 0; i < 2; i++)
		o[i] = keyed("Tenants.Update", &who, &w, STR("t"));
	assert_true(o[1]->replayed && str_eq(o[0]->payload, o[1]->payload));
	assert_string_equal(valuef("SELECT version FROM auth.tenant WHERE id = '?'", s->tenant->id), "2");
	for (int i = 0; i < 2; i++)
		o[i] = keyed("Auth.UpdateProfile", &who, &p, STR("p"));
	assert_true(o[1]->replayed && str_eq(o[0]->payload, o[1]->payload));
	assert_string_equal(valuef("SELECT version FROM auth.person WHERE id = '?'", s->user->id), "2");
}

static void test_an_api_key_is_made_once_and_its_secret_is_not_kept(void **state)
{
	struct rpc_principal who = principal_of(register_person("keyed@keys.example", "Keyed"));
	Crm__V1__WriteRequest w = CRM__V1__WRITE_REQUEST__INIT;
	Crm__V1__ApiKey in = CRM__V1__API_KEY__INIT, *first, *again;
	uint8_t bytes[64];

	in.name = "robot";
	w.has_entity = 1;
	w.entity = (ProtobufCBinaryData){ crm__v1__api_key__pack(&in, bytes), bytes };
	first = reply_of(keyed("ApiKeys.Create", &who, &w, STR("k")), &crm__v1__api_key__descriptor);
	again = reply_of(keyed("ApiKeys.Create", &who, &w, STR("k")), &crm__v1__api_key__descriptor);
	assert_non_null(first->key);
	assert_null(again->key);
	assert_string_equal(first->id, again->id);
	assert_string_equal(value("SELECT count(*) FROM auth.idempotency WHERE encode(reply, 'escape') ~ 'crm_live'"), "0");
}

static struct outcome *make_key(const struct rpc_principal *who, char **scope, size_t n)
{
	Crm__V1__WriteRequest w = CRM__V1__WRITE_REQUEST__INIT;
	Crm__V1__ApiKey in = CRM__V1__API_KEY__INIT;
	uint8_t bytes[512];

	in.name = "robot";
	in.scope = scope;
	in.n_scope = n;
	w.has_entity = 1;
	w.entity.data = bytes;
	w.entity.len = crm__v1__api_key__pack(&in, bytes);
	return invoke("ApiKeys.Create", who, &w);
}

static struct outcome *resolve(const char *user, const char *tenant, const char *key)
{
	Crm__V1__PrincipalRequest r = CRM__V1__PRINCIPAL_REQUEST__INIT;
	Crm__V1__Key k = CRM__V1__KEY__INIT;

	k.id = (char *)tenant;
	r.user_id = (char *)user;
	r.tenant = tenant ? &k : NULL;
	r.api_key = (char *)key;
	return invoke("Auth.ResolvePrincipal", NULL, &r);
}

static void test_api_key_may_what_its_scopes_say_until_revoked(void **state)
{
	struct rpc_principal who = principal_of(register_person("keys@example.com", "Keys"));
	char *scope[] = { "customers.read", "leads.write" };
	Crm__V1__ApiKey *k = reply_of(make_key(&who, scope, 2), &crm__v1__api_key__descriptor);
	Crm__V1__Principal *p = reply_of(resolve(NULL, NULL, k->key), &crm__v1__principal__descriptor);
	Crm__V1__ListRequest all = CRM__V1__LIST_REQUEST__INIT;
	Crm__V1__ListReply *l;

	assert_string_equal(p->api_key_id, k->id);
	assert_string_equal(p->tenant_id, arena_strdup(&arena, who.tenant_id));
	assert_int_equal(p->permissions_low, 1ull << CRM__V1__PERMISSION__CUSTOMERS_READ | 1ull << CRM__V1__PERMISSION__LEADS_WRITE);
	l = list("ApiKeys.List", &who, &all);
	assert_int_equal(l->n_item, 1);
	assert_null(memmem(l->item[0].data, l->item[0].len, "crm_live_", 9));
	assert_string_equal(valuef("SELECT last_used_at IS NOT NULL FROM auth.api_key WHERE id = '?'", k->id), "t");
	assert_int_equal(on_tenant("ApiKeys.Revoke", &who, k->id)->status, STATUS_OK);
	assert_int_equal(on_tenant("ApiKeys.Revoke", &who, k->id)->status, STATUS_NOT_FOUND);
	assert_int_equal(resolve(NULL, NULL, k->key)->status, STATUS_INVALID_TOKEN);
	assert_string_equal(valuef("SELECT revoked FROM auth.change WHERE kind = 'api_key' AND id = '?'", k->id), "t");
	assert_string_equal(value("SELECT count(*) FROM auth.outbox o WHERE o::text ~ 'crm_live|key_hash'"), "0");
}

static void test_api_key_never_exceeds_its_maker(void **state)
{
	Crm__V1__Session *s = register_person("modest@example.com", "Modest");
	struct rpc_principal who = principal_of(s), narrow = who;
	char *scope[] = { "customers.read", "tenants.delete" };
	Crm__V1__ApiKey *k = reply_of(make_key(&who, scope, 2), &crm__v1__api_key__descriptor), *child;
	Crm__V1__Principal *p;

	pg_fixture_sql(pg, arena_printf(&arena, "UPDATE auth.membership SET role = 'agent' WHERE user_id = '%s'", s->user->id));
	p = reply_of(resolve(NULL, NULL, k->key), &crm__v1__principal__descriptor);
	assert_int_equal(p->permissions_low, 1ull << CRM__V1__PERMISSION__CUSTOMERS_READ);
	narrow.permissions[0] = 1ull << CRM__V1__PERMISSION__CUSTOMERS_READ;
	narrow.api_key_id = str_of(k->id);
	assert_violation(make_key(&narrow, scope, 2), STATUS_VALIDATION_ERROR, "scope");
	child = reply_of(make_key(&narrow, NULL, 0), &crm__v1__api_key__descriptor);
	assert_int_equal(child->n_scope, 1);
	scope[0] = "no.such";
	assert_violation(make_key(&who, scope, 1), STATUS_VALIDATION_ERROR, "scope");
}

static void test_another_tenant_is_entered_by_members_only(void **state)
{
	Crm__V1__Session *a = register_person("a@enter.example", "A"), *b = register_person("b@enter.example", "B");
	Crm__V1__Principal *p = reply_of(resolve(a->user->id, a->tenant->id, NULL), &crm__v1__principal__descriptor);

	assert_string_equal(p->role, "admin");
	assert_int_equal(p->tenant_seq, a->tenant->seq);
	assert_int_equal(resolve(a->user->id, b->tenant->id, NULL)->status, STATUS_PERMISSION_DENIED);
	pg_fixture_sql(pg, arena_printf(&arena, "INSERT INTO auth.membership (tenant_id, user_id, seq, role) VALUES ('%s', '%s', 2, 'agent')", b->tenant->id,
					a->user->id));
	p = reply_of(resolve(a->user->id, b->tenant->id, NULL), &crm__v1__principal__descriptor);
	assert_string_equal(p->role, "agent");
	assert_int_equal(p->user_seq, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_users_list_pages_by_cursor_without_gap_or_repeat, fresh),
		cmocka_unit_test_setup(test_users_list_filters_and_searches, fresh),
		cmocka_unit_test_setup(test_users_list_refuses_what_it_does_not_know, fresh),
		cmocka_unit_test_setup(test_users_of_other_tenants_do_not_exist, fresh),
		cmocka_unit_test_setup(test_refs_come_in_the_order_asked, fresh), cmocka_unit_test_setup(test_tenants_belong_to_their_members, fresh),
		cmocka_unit_test_setup(test_only_an_admin_of_it_changes_a_tenant, fresh),
		cmocka_unit_test_setup(test_an_api_key_reaches_no_other_tenant_of_its_creator, fresh),
		cmocka_unit_test_setup(test_an_admin_without_the_permission_changes_no_tenant, fresh),
		cmocka_unit_test_setup(test_a_deleted_tenant_lets_nobody_in, fresh),
		cmocka_unit_test_setup(test_create_with_an_idempotency_key_happens_once, fresh),
		cmocka_unit_test_setup(test_changes_with_an_idempotency_key_happen_once, fresh),
		cmocka_unit_test_setup(test_an_api_key_is_made_once_and_its_secret_is_not_kept, fresh),
		cmocka_unit_test_setup(test_api_key_may_what_its_scopes_say_until_revoked, fresh),
		cmocka_unit_test_setup(test_api_key_never_exceeds_its_maker, fresh),
		cmocka_unit_test_setup(test_another_tenant_is_entered_by_members_only, fresh),
	};

	return cmocka_run_group_tests(tests, harness_start, harness_stop);
}
