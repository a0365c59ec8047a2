/* lib/testing/smtp_server as a child of the test: a real SMTP server, with certificates of its own. Run from the repository root. */
#ifndef CRM_TESTING_SMTP_H
#define CRM_TESTING_SMTP_H

#include <stdbool.h>
#include <sys/types.h>

struct test_smtp {
	const char *dir, *mode; /* an existing folder; "plain", "starttls" or "smtps" */
	int port;               /* 0: any */
	pid_t pid;              /* 0: not running */
};

/* False: Debian's python3-aiosmtpd is missing or it does not start. */
bool test_smtp_start(struct test_smtp *s);
void test_smtp_stop(struct test_smtp *s);
/* The n-th message it took, heap; its envelope is the first line. NULL: it has not taken so many. */
char *test_smtp_taken(const struct test_smtp *s, int n);
/* The certificate that it shows from the next connection on: "good", "other", "name", "old". */
void test_smtp_show(const struct test_smtp *s, const char *certificate);

#endif
