/* SMTP with TLS, certificates and logins, against a real server and an authority of the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "mail/mail.h"
#include "testing/smtp.h"

#define LOGIN "ann:pass%3Aw%40rd@"

static char dir[] = "/tmp/crm-smtp-XXXXXX";
static struct test_smtp starttls = { dir, "starttls", 0, 0 }, smtps = { dir, "smtps", 0, 0 }, plain = { dir, "plain", 0, 0 };
static char why[MAIL_WHY];

static int run(const char *command)
{
	char text[128];

	snprintf(text, sizeof(text), "%s %s/*", command, dir);
	return system(text);
}

static int start(void **state)
{
	return mkdtemp(dir) && test_smtp_start(&starttls) && test_smtp_start(&smtps) && test_smtp_start(&plain) ? 0 : -1;
}

static int stop(void **state)
{
	test_smtp_stop(&starttls);
	test_smtp_stop(&smtps);
	test_smtp_stop(&plain);
	return run("rm -f") == 0 && rmdir(dir) == 0 ? 0 : -1;
}

/* Every test begins with the good certificate and numbers its messages from where the server is. */
static int calm(void **state)
{
	test_smtp_show(&starttls, "good");
	return 0;
}

static struct mailer *mailer(const char *scheme, const char *login, int port, const char *options)
{
	char url[512];
	const char *bad = NULL;
	struct mailer *m;

	snprintf(url, sizeof(url), "%s://%s127.0.0.1:%d/?ca=%s/ca.pem%s", scheme, login, port, dir, options);
	m = mail_open(url, &bad);
	assert_non_null(m);
	return m;
}

static enum mail_outcome deliver(struct mailer *m, const char *from, const char *to)
{
	struct mail_message message = { .id = "0190aaaa", .from = from, .to = to, .subject = STR("Hello"), .text = STR("Line\n.\nTwo\n") };
	enum mail_outcome outcome = mail_send(m, &message, why);

	mail_close(m);
	assert_int_equal(outcome == MAIL_SENT, *why == 0);
	return outcome;
}

static enum mail_outcome to(const char *scheme, const char *login, int port, const char *options, const char *address)
{
	return deliver(mailer(scheme, login, port, options), "crm@crm.local", address);
}

/* The last one that any of the servers took, by its recipient. */
static bool was_taken(const char *head)
{
	char command[512];

	snprintf(command, sizeof(command), "head -qn1 %s/*.eml | grep -qxF '%s'", dir, head);
	return system(command) == 0;
}

static void test_starttls_with_a_login(void **state)
{
	assert_int_equal(to("smtp", LOGIN, starttls.port, "&tls=required", "one@example.com"), MAIL_SENT);
	assert_true(was_taken("crm@crm.local one@example.com tls=True login=ann"));
	/* TLS is taken where it is offered, asked for or not */
	assert_int_equal(to("smtp", "", starttls.port, "", "two@example.com"), MAIL_SENT);
	assert_true(was_taken("crm@crm.local two@example.com tls=True login="));
}

static void test_tls_from_the_first_byte(void **state)
{
	assert_int_equal(to("smtps", "", smtps.port, "", "three@example.com"), MAIL_SENT);
	assert_true(was_taken("crm@crm.local three@example.com tls=True login="));
	assert_int_equal(to("smtps", "", plain.port, "&timeout=2", "never1@example.com"), MAIL_LATER);
}

static void test_a_certificate_that_is_not_right_stops_it(void **state)
{
	static const char *const bad[] = { "other", "name", "old" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		test_smtp_show(&starttls, bad[i]);
		assert_int_equal(to("smtp", "", starttls.port, "", "never2@example.com"), MAIL_LATER);
		assert_int_equal(to("smtp", LOGIN, starttls.port, "", "never2@example.com"), MAIL_LATER);
	}
	test_smtp_show(&starttls, "good");
	assert_int_equal(to("smtp", "", starttls.port, "", "four@example.com"), MAIL_SENT);
	assert_false(was_taken("crm@crm.local never2@example.com tls=True login="));
}

static void test_the_systems_authorities_do_not_know_ours(void **state)
{
	char url[64];
	const char *bad = NULL;

	snprintf(url, sizeof(url), "smtp://127.0.0.1:%d", starttls.port);
	assert_int_equal(deliver(mail_open(url, &bad), "crm@crm.local", "never3@example.com"), MAIL_LATER);
}

static void test_a_password_never_travels_in_the_clear(void **state)
{
	assert_int_equal(to("smtp", LOGIN, plain.port, "", "never4@example.com"), MAIL_LATER);
	assert_int_equal(to("smtp", "", plain.port, "&tls=required", "never4@example.com"), MAIL_LATER);
	assert_int_equal(to("smtp", "", plain.port, "", "five@example.com"), MAIL_SENT);
	assert_true(was_taken("crm@crm.local five@example.com tls=False login="));
}

static void test_a_wrong_password_is_the_operators_to_mend(void **state)
{
	assert_int_equal(to("smtp", "ann:wrong@", starttls.port, "", "six@example.com"), MAIL_LATER);
	assert_null(strstr(why, "wrong"));
}

static void test_only_the_recipient_or_the_text_can_be_refused_for_good(void **state)
{
	assert_int_equal(to("smtp", LOGIN, starttls.port, "", "refused@example.com"), MAIL_REFUSED);
	assert_non_null(strstr(why, "550"));
	assert_int_equal(to("smtp", "", starttls.port, "", "text@example.com"), MAIL_REFUSED);
	assert_int_equal(to("smtp", "", starttls.port, "", "later@example.com"), MAIL_LATER);
	/* the sender is a setting: a refusal of it must not cost messages */
	assert_int_equal(deliver(mailer("smtp", "", starttls.port, ""), "evil@crm.local", "seven@example.com"), MAIL_LATER);
}

static void test_a_slow_server_is_waited_for_a_hanging_one_is_not(void **state)
{
	int64_t start = clock_mono_us();

	assert_int_equal(to("smtp", "", starttls.port, "", "slow@example.com"), MAIL_SENT);
	assert_true(clock_mono_us() - start > 1900000);
	start = clock_mono_us();
	assert_int_equal(to("smtp", "", starttls.port, "&timeout=1", "hang@example.com"), MAIL_LATER);
	assert_true(clock_mono_us() - start < 4000000);
}

static void test_options_that_there_are_not(void **state)
{
	static const char *const urls[] = { "smtp://h?tls=no", "smtp://h?ca=relative.pem", "smtp://h?ca=/no/such/file", "smtp://h?timeout=0", "smtp://h?timeout=31", "smtps://h?x" };
	const char *bad = NULL;

	for (size_t i = 0; i < sizeof(urls) / sizeof(*urls); i++)
		assert_null(mail_open(urls[i], &bad));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_starttls_with_a_login, calm),
		cmocka_unit_test_setup(test_tls_from_the_first_byte, calm),
		cmocka_unit_test_setup(test_a_certificate_that_is_not_right_stops_it, calm),
		cmocka_unit_test_setup(test_the_systems_authorities_do_not_know_ours, calm),
		cmocka_unit_test_setup(test_a_password_never_travels_in_the_clear, calm),
		cmocka_unit_test_setup(test_a_wrong_password_is_the_operators_to_mend, calm),
		cmocka_unit_test_setup(test_only_the_recipient_or_the_text_can_be_refused_for_good, calm),
		cmocka_unit_test_setup(test_a_slow_server_is_waited_for_a_hanging_one_is_not, calm),
		cmocka_unit_test(test_options_that_there_are_not),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
