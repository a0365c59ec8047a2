/* Mailers: the URL picks the driver. */
#include "mail/mail.h"

#include <stdlib.h>
#include <time.h>

#include "base/arena.h"
#include "mail/driver.h"

struct mailer {
	const struct mail_driver *ops;
	void *driver;
};

static const struct mail_driver *const drivers[] = { &mail_folder, &mail_smtp, &mail_smtps };

struct mailer *mail_open(const char *url, const char **why)
{
	struct mailer *m;
	void *driver;

	for (size_t i = 0; i < sizeof(drivers) / sizeof(*drivers); i++) {
		if (strncmp(url, drivers[i]->scheme, strlen(drivers[i]->scheme)) != 0)
			continue;
		driver = drivers[i]->open(url, why);
		if (!driver)
			return NULL;
		m = xcalloc(1, sizeof(*m));
		m->ops = drivers[i];
		m->driver = driver;
		return m;
	}
	*why = "it must start with folder:, smtp:// or smtps://";
	return NULL;
}

void mail_close(struct mailer *m)
{
	if (!m)
		return;
	m->ops->close(m->driver);
	free(m);
}

enum mail_outcome mail_send(struct mailer *m, const struct mail_message *message, char why[MAIL_WHY])
{
	struct buf printed = { 0 };
	enum mail_outcome outcome;

	why[0] = 0;
	if (!mail_address_ok(message->to) || !mail_address_ok(message->from)) {
		memcpy(why, "not an address", sizeof("not an address"));
		return MAIL_REFUSED;
	}
	mail_print(message, time(NULL), &printed);
	outcome = m->ops->send(m->driver, message, buf_view(&printed), why);
	buf_fini(&printed);
	return outcome;
}
