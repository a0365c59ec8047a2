/* Messages, templates and both drivers; SMTP against a real server. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "mail/mail.h"

#define ADDRESS "ann@example.com"

/* aiosmtpd: 550 for refused@, 451 for later@, everything else goes to a folder. Prints its port. */
static const char server[] = "import asyncio,sys,os\n"
			     "from aiosmtpd.smtp import SMTP\n"
			     "class H:\n"
			     " async def handle_RCPT(self,s,sess,env,a,o):\n"
			     "  if a.startswith('refused@'): return '550 no such user'\n"
			     "  if a.startswith('later@'): return '451 try again'\n"
			     "  env.rcpt_tos.append(a); return '250 OK'\n"
			     " async def handle_DATA(self,s,sess,env):\n"
			     "  open(os.path.join(sys.argv[1],'got'),'wb').write((env.mail_from+' '+' '.join(env.rcpt_tos)+'\\n').encode()+env.content); return '250 OK'\n"
			     "async def main():\n"
			     " l=asyncio.get_running_loop()\n"
			     " s=await l.create_server(lambda: SMTP(H(),hostname='test'),'127.0.0.1',0)\n"
			     " print(s.sockets[0].getsockname()[1],flush=True)\n"
			     " await asyncio.sleep(60)\n"
			     "asyncio.run(main())\n";

static char dir[] = "/tmp/crm-mail-XXXXXX";
static pid_t child;
static int port;

static int start(void **state)
{
	int fd[2];
	char text[16] = "";

	if (!mkdtemp(dir) || pipe(fd) != 0)
		return -1;
	child = fork();
	if (child == 0) {
		dup2(fd[1], 1);
		execl("/usr/bin/python3", "/usr/bin/python3", "-c", server, dir, (char *)NULL);
		_exit(127);
	}
	close(fd[1]);
	if (read(fd[0], text, sizeof(text) - 1) > 0)
		port = atoi(text);
	close(fd[0]);
	return port ? 0 : -1;
}

static int stop(void **state)
{
	struct buf cmd = { 0 };
	int rc;

	kill(child, SIGTERM);
	waitpid(child, NULL, 0);
	buf_printf(&cmd, "rm -rf %s", dir);
	rc = system(buf_cstr(&cmd));
	buf_fini(&cmd);
	return rc;
}

static char *slurp(const char *name)
{
	static char text[8192];
	struct buf path = { 0 };
	FILE *f;
	size_t n;

	buf_printf(&path, "%s/%s", dir, name);
	f = fopen(buf_cstr(&path), "r");
	buf_fini(&path);
	assert_non_null(f);
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = 0;
	return text;
}

static struct mail_message message(const char *to)
{
	return (struct mail_message){ .id = "0190aaaa", .from = "crm@crm.local", .from_name = "CRM", .to = to, .subject = STR("Hello"), .text = STR("Line\nTwo\n") };
}

static enum mail_outcome smtp(const char *to, int at, char why[MAIL_WHY])
{
	struct mail_message m = message(to);
	struct buf url = { 0 };
	const char *bad = NULL;
	enum mail_outcome outcome;
	struct mailer *mailer;

	buf_printf(&url, "smtp://127.0.0.1:%d", at);
	mailer = mail_open(buf_cstr(&url), &bad);
	buf_fini(&url);
	assert_non_null(mailer);
	outcome = mail_send(mailer, &m, why);
	mail_close(mailer);
	return outcome;
}

static void test_a_server_gets_the_message(void **state)
{
	char why[MAIL_WHY], *got;

	assert_int_equal(smtp(ADDRESS, port, why), MAIL_SENT);
	assert_string_equal(why, "");
	got = slurp("got");
	assert_non_null(strstr(got, "crm@crm.local " ADDRESS "\n"));
	assert_non_null(strstr(got, "Subject: Hello\r\n"));
	assert_non_null(strstr(got, "TGluZQ0KVHdvDQo=")); /* "Line\r\nTwo\r\n" */
}

static void test_refused_for_good_is_told_from_later(void **state)
{
	char why[MAIL_WHY];

	assert_int_equal(smtp("refused@example.com", port, why), MAIL_REFUSED);
	assert_non_null(strstr(why, "550"));
	assert_int_equal(smtp("later@example.com", port, why), MAIL_LATER);
}

static void test_a_server_that_is_down_means_later(void **state)
{
	char why[MAIL_WHY];

	assert_int_equal(smtp(ADDRESS, 1, why), MAIL_LATER);
	assert_true(*why != 0);
}

static void test_folder_keeps_one_file_per_message(void **state)
{
	struct mail_message m = message(ADDRESS);
	struct buf url = { 0 };
	const char *bad = NULL;
	char why[MAIL_WHY];
	struct mailer *mailer;

	buf_printf(&url, "folder:%s", dir);
	mailer = mail_open(buf_cstr(&url), &bad);
	buf_fini(&url);
	assert_non_null(mailer);
	assert_int_equal(mail_send(mailer, &m, why), MAIL_SENT);
	assert_int_equal(mail_send(mailer, &m, why), MAIL_SENT);
	m.to = "two@a.example, three@b.example";
	assert_int_equal(mail_send(mailer, &m, why), MAIL_REFUSED);
	mail_close(mailer);
	assert_non_null(strstr(slurp("0190aaaa.eml"), "To: <" ADDRESS ">\r\n"));
}

static void test_a_wrong_url_is_refused(void **state)
{
	const char *why = NULL;

	assert_null(mail_open("http://example.com", &why));
	assert_non_null(why);
	assert_null(mail_open("folder:/no/such/place", &why));
}

static void test_headers_cannot_be_smuggled_in(void **state)
{
	struct mail_message m = message(ADDRESS);
	struct buf out = { 0 };

	m.subject = STR("Hi\r\nBcc: all@example.com");
	mail_print(&m, 0, &out);
	assert_null(strstr(buf_cstr(&out), "Bcc:"));
	assert_non_null(strstr(buf_cstr(&out), "Date: Thu, 01 Jan 1970 00:00:00 +0000\r\n"));
	assert_non_null(strstr(buf_cstr(&out), "Subject: =?UTF-8?B?"));
	buf_clear(&out);
	m.subject = STR("Gr\xc3\xbc\xc3\x9f""e");
	mail_print(&m, 0, &out);
	assert_non_null(strstr(buf_cstr(&out), "Subject: =?UTF-8?B?R3LDvMOfZQ==?=\r\n"));
	buf_fini(&out);
}

static void test_addresses(void **state)
{
	assert_true(mail_address_ok(ADDRESS));
	assert_false(mail_address_ok("a") || mail_address_ok("@b") || mail_address_ok("a@") || mail_address_ok("a@b@c") || mail_address_ok("a b@c") ||
		     mail_address_ok("a@b\r\nX: y") || mail_address_ok("<a@b>") || mail_address_ok("a@b,c@d"));
}

static void test_templates(void **state)
{
	const struct mail_value values[] = { { "name", "Ann {{x}}" }, { "x", NULL } };
	struct buf subject = { 0 }, text = { 0 };
	const char *why;

	assert_true(mail_fill(STR("Subject: Hi {{name}}\n\nDear {{name}}{{x}}.\n"), values, 2, &subject, &text, &why));
	assert_string_equal(buf_cstr(&subject), "Hi Ann {{x}}");
	assert_string_equal(buf_cstr(&text), "Dear Ann {{x}}.\n");
	assert_false(mail_fill(STR("Subject: Hi\n\n{{nobody}}"), values, 2, &subject, &text, &why));
	assert_false(mail_fill(STR("Subject: Hi\n\n{{name"), values, 2, &subject, &text, &why));
	assert_false(mail_fill(STR("Hi\n\nthere"), values, 2, &subject, &text, &why));
	buf_fini(&subject);
	buf_fini(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_server_gets_the_message), cmocka_unit_test(test_refused_for_good_is_told_from_later),
		cmocka_unit_test(test_a_server_that_is_down_means_later), cmocka_unit_test(test_folder_keeps_one_file_per_message),
		cmocka_unit_test(test_a_wrong_url_is_refused), cmocka_unit_test(test_headers_cannot_be_smuggled_in), cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_templates),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
