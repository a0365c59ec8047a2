/* The queue of mail against a real SMTP server that is down, shows a wrong certificate, refuses, or is slow: nothing is lost. */
#include "harness.h"

#include "testing/smtp.h"

static char dir[] = "/tmp/crm-post-XXXXXX";
static struct test_smtp server = { dir, "starttls", 0, 0 };
static PGconn *queue;

static int start(void **state)
{
	if (harness_start(state) != 0 || !mkdtemp(dir) || !test_smtp_start(&server))
		return -1;
	queue = PQconnectdb(pg_fixture_url(pg, "auth_app"));
	post_stop();
	post_init(&(struct post_settings){ .database_url = pg_fixture_url(pg, "auth_app"), .from = "crm@crm.local", .templates = "svc-auth/mail", .web_url = "https://crm.local",
	    .mail_url = arena_printf(&arena, "smtp://ann:pass%%3Aw%%40rd@127.0.0.1:%d/?ca=%s/ca.pem", server.port, dir) });
	return PQstatus(queue) == CONNECTION_OK ? 0 : -1;
}

static int stop(void **state)
{
	int rc;

	test_smtp_stop(&server);
	PQfinish(queue);
	rc = system(arena_printf(&arena, "rm -rf %s", dir));
	return harness_stop(state) == 0 ? rc : -1;
}

/* What everybody who forgets a password does; the mail is in the queue, not sent. */
static void write_to(const char *email)
{
	Crm__V1__ForgotPasswordRequest r = CRM__V1__FORGOT_PASSWORD_REQUEST__INIT;

	register_person(email, "Ada");
	pg_fixture_sql(pg, "DELETE FROM auth.mail_queue");
	r.email = (char *)(uintptr_t)email;
	assert_int_equal(invoke("Auth.ForgotPassword", NULL, &r)->status, STATUS_OK);
	assert_string_equal(valuef("SELECT tries FROM auth.mail_queue WHERE recipient = '?'", email), "0");
}

/* The pause before the next try is left out. */
static void be_due(void)
{
	pg_fixture_sql(pg, "UPDATE auth.mail_queue SET due_at = now()");
}

static void assert_waits(const char *email, const char *tries)
{
	assert_true(post_turn(queue));
	assert_false(post_turn(queue)); /* it is not due */
	assert_string_equal(valuef("SELECT tries FROM auth.mail_queue WHERE recipient = '?' AND refused_at IS NULL AND due_at > now() + interval '5 seconds'", email), tries);
}

static void assert_sent(const char *email, int n)
{
	char *text;

	be_due();
	assert_true(post_turn(queue));
	assert_string_equal(valuef("SELECT count(*) FROM auth.mail_queue WHERE recipient = '?'", email), "0");
	text = test_smtp_taken(&server, n);
	assert_non_null(text);
	assert_true(strncmp(text, arena_printf(&arena, "crm@crm.local %s tls=True login=ann\n", email), strlen(email) + 20) == 0);
	free(text);
}

static void test_a_wrong_certificate_then_a_good_one(void **state)
{
	write_to("cert@example.com");
	test_smtp_show(&server, "other");
	assert_waits("cert@example.com", "1");
	test_smtp_show(&server, "old");
	be_due();
	assert_waits("cert@example.com", "2");
	test_smtp_show(&server, "good");
	assert_sent("cert@example.com", 1);
}

static void test_a_server_that_is_down_and_comes_back(void **state)
{
	write_to("down@example.com");
	test_smtp_stop(&server);
	assert_waits("down@example.com", "1");
	for (int tries = 2; tries < 6; tries++) {
		be_due();
		assert_waits("down@example.com", arena_printf(&arena, "%d", tries));
	}
	assert_true(test_smtp_start(&server)); /* at the same port */
	assert_sent("down@example.com", 1);
}

static void test_a_refused_recipient_does_not_hold_up_the_next(void **state)
{
	write_to("refused@example.com");
	assert_true(post_turn(queue));
	assert_string_equal(value("SELECT tries FROM auth.mail_queue WHERE recipient = 'refused@example.com' AND refused_at IS NOT NULL"), "1");
	be_due();
	assert_false(post_turn(queue)); /* never again */
	write_to("next@example.com");
	assert_sent("next@example.com", 2);
}

static void test_a_slow_server_gets_it_once(void **state)
{
	write_to("slow@example.com");
	assert_sent("slow@example.com", 3);
	assert_false(post_turn(queue));
	assert_null(test_smtp_taken(&server, 4));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_a_wrong_certificate_then_a_good_one, fresh),
		cmocka_unit_test_setup(test_a_server_that_is_down_and_comes_back, fresh),
		cmocka_unit_test_setup(test_a_refused_recipient_does_not_hold_up_the_next, fresh),
		cmocka_unit_test_setup(test_a_slow_server_gets_it_once, fresh),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
