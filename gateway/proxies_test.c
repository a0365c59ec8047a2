/* Trusted proxies and what they may say; and the two languages of the settings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "gateway/proxies.h"
#include "gateway/settings.h"

static struct arena arena;
static const char *why;

static struct proxies parsed(const char *text)
{
	struct proxies p;

	assert_true(proxies_parse(&p, text, &arena, &why));
	return p;
}

static void test_networks_are_matched_by_prefix(void **state)
{
	struct proxies p = parsed("10.0.0.0/8, 192.168.1.7,2001:db8::/33");

	assert_true(proxies_trust(&p, STR("10.255.0.1")));
	assert_true(proxies_trust(&p, STR("192.168.1.7")));
	assert_true(proxies_trust(&p, STR("2001:db8:7fff::1")));
	assert_true(proxies_trust(&p, STR("::ffff:10.1.1.1")));
	assert_false(proxies_trust(&p, STR("11.0.0.1")));
	assert_false(proxies_trust(&p, STR("192.168.1.8")));
	assert_false(proxies_trust(&p, STR("2001:db8:8000::1")));
	assert_false(proxies_trust(&p, STR("nonsense")));
	p = parsed("");
	assert_false(proxies_trust(&p, STR("127.0.0.1")));
}

static void test_bad_networks_are_refused(void **state)
{
	static const char *const bad[] = { "10.0.0.0/33", "x", "::/129", "10.0.0.0/", "1.2.3.4/-1" };
	struct proxies p;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(proxies_parse(&p, bad[i], &arena, &why));
}

static struct origin origin_of(const struct proxies *p, const char *peer, const char *forwarded_for, const char *proto, const char *host)
{
	struct http_header headers[] = {
		{ STR("X-Forwarded-For"), str_of(forwarded_for) }, { STR("x-forwarded-proto"), str_of(proto) }, { STR("X-Forwarded-Host"), str_of(host) },
	};
	struct http_request req = { .client_ip = str_of(peer), .authority = STR("direct:5000"), .headers = headers, .n_headers = 3 };

	return proxies_origin(p, &req, STR("fallback:1"));
}

static void is_ip(struct origin o, const char *ip)
{
	assert_true(str_eq(o.client_ip, str_of(ip)));
}

static void test_only_our_proxies_are_believed(void **state)
{
	struct proxies p = parsed("10.0.0.0/8");
	struct origin o = origin_of(&p, "198.51.100.9", "203.0.113.1", "https", "evil.example");

	is_ip(o, "198.51.100.9");
	assert_true(str_eq(o.scheme, STR("http")) && str_eq(o.authority, STR("direct:5000")));
	o = origin_of(&p, "10.0.0.1", "203.0.113.1", "https", "api.example");
	is_ip(o, "203.0.113.1");
	assert_true(str_eq(o.scheme, STR("https")) && str_eq(o.authority, STR("api.example")));
}

static void test_the_last_foreign_address_is_the_client(void **state)
{
	struct proxies p = parsed("10.0.0.0/8");

	is_ip(origin_of(&p, "10.0.0.1", "1.1.1.1, 203.0.113.1, 10.0.0.2", "", ""), "203.0.113.1");
	is_ip(origin_of(&p, "10.0.0.1", "10.0.0.3, 10.0.0.2", "", ""), "10.0.0.3");
	is_ip(origin_of(&p, "10.0.0.1", "1.1.1.1, garbage", "", ""), "10.0.0.1");
	is_ip(origin_of(&p, "10.0.0.1", "", "", ""), "10.0.0.1");
}

static void test_a_host_that_is_none_is_replaced(void **state)
{
	struct proxies p = parsed("10.0.0.0/8");

	assert_true(str_eq(origin_of(&p, "10.0.0.1", "", "", "a\"b").authority, STR("fallback:1")));
	assert_true(str_eq(origin_of(&p, "10.0.0.1", "", "javascript", "a b").scheme, STR("http")));
}

static void test_listeners_and_services_are_read(void **state)
{
	struct listen_spec l[LISTENERS_MAX];
	struct service_spec s[SERVICES_MAX];

	assert_int_equal(settings_listen(&arena, "127.0.0.1:5000=backend,saas,system  [::1]:8000=elevate,mvp", l, &why), 2);
	assert_string_equal(l[1].address, "[::1]:8000");
	assert_int_equal(l[0].n_dialects, 3);
	assert_string_equal(l[0].dialects[2], "system");
	assert_int_equal(settings_services(&arena, "auth=tcp://a:1 customers=tcp://b:1,tcp://c:1", s, &why), 2);
	assert_string_equal(s[1].urls, "tcp://b:1,tcp://c:1");
	assert_int_equal(settings_listen(&arena, "", l, &why), 0);
	assert_int_equal(settings_listen(&arena, "127.0.0.1:5000", l, &why), 0);
	assert_int_equal(settings_listen(&arena, "a=1,2,3,4,5,6,7,8", l, &why), 0);
	assert_int_equal(settings_services(&arena, "auth=", s, &why), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_networks_are_matched_by_prefix),
		cmocka_unit_test(test_bad_networks_are_refused),
		cmocka_unit_test(test_only_our_proxies_are_believed),
		cmocka_unit_test(test_the_last_foreign_address_is_the_client),
		cmocka_unit_test(test_a_host_that_is_none_is_replaced),
		cmocka_unit_test(test_listeners_and_services_are_read),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	arena_fini(&arena);
	return failed;
}
