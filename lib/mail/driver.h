/* What a driver of lib/mail offers. The caller has checked the addresses. */
#ifndef CRM_MAIL_DRIVER_H
#define CRM_MAIL_DRIVER_H

#include "mail/mail.h"

struct mail_driver {
	const char *scheme; /* "smtp:" */
	void *(*open)(const char *url, const char **why);
	void (*close)(void *driver);
	enum mail_outcome (*send)(void *driver, const struct mail_message *m, struct str printed, char why[MAIL_WHY]);
};

extern const struct mail_driver mail_folder, mail_smtp, mail_smtps;

#endif
