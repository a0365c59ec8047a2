/*
 * Sending mail, through one of two drivers: a folder of .eml files, or an SMTP server by libcurl.
 *
 *   folder:/path                          each message is a file, written under another name first
 *   smtp://[user:password@]host[:port]    STARTTLS when the server offers it; ?tls=required insists, and so does a password
 *   smtps://[user:password@]host[:port]   TLS from the first byte
 *
 * Certificates are always checked: chain, dates and name. Options of both, joined by &: ca=/file.pem (instead of the system's
 * authorities), timeout=1..30 (seconds for a whole message; 30).
 *
 * Threading: a mailer belongs to one thread at a time; mail_open once before other threads start (it initialises libcurl).
 */
#ifndef CRM_MAIL_MAIL_H
#define CRM_MAIL_MAIL_H

#include "base/buf.h"
#include "base/str.h"

struct mail_message {
	const char *id;            /* the left half of its Message-ID: the same on every try */
	const char *from, *to;     /* bare addresses */
	const char *from_name;     /* may be NULL */
	struct str subject, text;  /* UTF-8 */
};

enum mail_outcome {
	MAIL_SENT,
	MAIL_LATER,   /* no connection, or a 4xx: try again */
	MAIL_REFUSED, /* a 5xx for this recipient or this text: trying again will not help */
};

#define MAIL_WHY 200

struct mailer;

/* NULL: *why says what is wrong with the URL. */
struct mailer *mail_open(const char *url, const char **why);
void mail_close(struct mailer *m);
/* why: a sentence for the log, without addresses; empty when sent. Blocks up to the timeout, and as long again for a goodbye. */
enum mail_outcome mail_send(struct mailer *m, const struct mail_message *message, char why[MAIL_WHY]);

/* A bare address that can stand in a header and an envelope: one '@', no controls, spaces, brackets, quotes; at most 254 bytes. */
bool mail_address_ok(const char *address);
/* RFC 5322 form with CRLF: encoded words in headers, base64 text. now_s: for Date. */
void mail_print(const struct mail_message *m, int64_t now_s, struct buf *out);

/*
 * A template is a file: first line "Subject: …", an empty line, then the text. {{name}} is replaced; a name without a value
 * is an error. False: *why says it (static).
 */
struct mail_value {
	const char *name, *value;
};
bool mail_fill(struct str template, const struct mail_value *values, size_t n, struct buf *subject, struct buf *text, const char **why);

#endif
