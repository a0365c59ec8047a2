/* Mail to an SMTP server, by libcurl: one connection per message, certificates are checked. */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/arena.h"
#include "mail/driver.h"

#define CONNECT_MS 10000L
#define TOTAL_MS 30000L

struct smtp {
	CURL *curl;
	char *url, *user, *password; /* url without either */
	char *ca;                    /* NULL: the system's */
	bool tls_required;
	long total_ms;
	char error[CURL_ERROR_SIZE];
};

struct reading {
	struct str rest;
	bool begun; /* the server has asked for the message: it has taken sender and recipient */
};

static size_t on_read(char *to, size_t size, size_t n, void *arg)
{
	struct reading *r = arg;
	size_t take = size * n < r->rest.n ? size * n : r->rest.n;

	r->begun = true;
	memcpy(to, r->rest.p, take);
	r->rest = (struct str){ r->rest.p + take, r->rest.n - take };
	return take;
}

static char *part(CURLU *u, CURLUPart which)
{
	char *text = NULL, *copy = NULL;

	if (curl_url_get(u, which, &text, which == CURLUPART_URL ? 0 : CURLU_URLDECODE) == CURLUE_OK)
		copy = xstrdup(text);
	curl_free(text);
	return copy;
}

/* "tls=required&ca=/path&timeout=10" */
static bool take_options(struct smtp *s, char *query)
{
	char *rest = query;
	int64_t seconds;

	for (char *option = strsep(&rest, "&"); option; option = strsep(&rest, "&")) {
		if (strcmp(option, "tls=required") == 0)
			s->tls_required = true;
		else if (strncmp(option, "ca=/", 4) == 0 && access(option + 3, R_OK) == 0 && !s->ca)
			s->ca = xstrdup(option + 3);
		else if (strncmp(option, "timeout=", 8) == 0 && str_to_i64(str_of(option + 8), &seconds) && seconds >= 1 && seconds <= TOTAL_MS / 1000)
			s->total_ms = seconds * 1000;
		else if (*option)
			return false;
	}
	return true;
}

/* User and password go to libcurl as options: in a URL they would reach its messages. */
static bool take_url(struct smtp *s, const char *url)
{
	CURLU *u = curl_url();
	char *query;
	bool ok = u && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK;

	if (ok) {
		s->user = part(u, CURLUPART_USER);
		s->password = part(u, CURLUPART_PASSWORD);
		query = part(u, CURLUPART_QUERY);
		s->tls_required = s->user != NULL; /* a password never travels in the clear */
		s->total_ms = TOTAL_MS;
		ok = !query || take_options(s, query);
		free(query);
		ok = ok && curl_url_set(u, CURLUPART_USER, NULL, 0) == CURLUE_OK && curl_url_set(u, CURLUPART_PASSWORD, NULL, 0) == CURLUE_OK &&
		    curl_url_set(u, CURLUPART_QUERY, NULL, 0) == CURLUE_OK;
		s->url = part(u, CURLUPART_URL);
	}
	curl_url_cleanup(u);
	return ok && s->url;
}

static void close_smtp(void *driver)
{
	struct smtp *s = driver;

	curl_easy_cleanup(s->curl);
	free(s->url);
	free(s->ca);
	free(s->user);
	if (s->password)
		explicit_bzero(s->password, strlen(s->password));
	free(s->password);
	free(s);
}

static void *open_smtp(const char *url, const char **why)
{
	struct smtp *s;

	*why = "libcurl cannot be initialised";
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return NULL;
	s = xcalloc(1, sizeof(*s));
	s->curl = curl_easy_init();
	if (s->curl && take_url(s, url))
		return s;
	*why = "it is no URL of an SMTP server, or has an option that there is not, or a ca file that cannot be read";
	close_smtp(s);
	return NULL;
}

static void set_up(struct smtp *s, const char *from, struct curl_slist *to, struct reading *r)
{
	CURL *c = s->curl;

	curl_easy_reset(c);
	s->error[0] = 0;
	curl_easy_setopt(c, CURLOPT_ERRORBUFFER, s->error);
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
	curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, s->total_ms);
	curl_easy_setopt(c, CURLOPT_SERVER_RESPONSE_TIMEOUT, s->total_ms / 1000); /* of the goodbye as well */
	curl_easy_setopt(c, CURLOPT_URL, s->url);
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
	curl_easy_setopt(c, CURLOPT_USE_SSL, (long)(s->tls_required ? CURLUSESSL_ALL : CURLUSESSL_TRY));
	curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if (s->ca) {
		curl_easy_setopt(c, CURLOPT_CAINFO, s->ca);
		curl_easy_setopt(c, CURLOPT_CAPATH, NULL);
	}
	curl_easy_setopt(c, CURLOPT_FRESH_CONNECT, 1L);
	curl_easy_setopt(c, CURLOPT_FORBID_REUSE, 1L);
	if (s->user)
		curl_easy_setopt(c, CURLOPT_USERNAME, s->user);
	if (s->password)
		curl_easy_setopt(c, CURLOPT_PASSWORD, s->password);
	curl_easy_setopt(c, CURLOPT_MAIL_FROM, from);
	curl_easy_setopt(c, CURLOPT_MAIL_RCPT, to);
	curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(c, CURLOPT_READFUNCTION, on_read);
	curl_easy_setopt(c, CURLOPT_READDATA, r);
}

/*
 * Only a refusal of this recipient or of this text is for good. A refusal of the connection, of our login or of our sender is the
 * operator's to mend, and no message is lost for it.
 */
static enum mail_outcome judge(struct smtp *s, const struct reading *r, CURLcode rc, char why[MAIL_WHY])
{
	long code = 0;

	if (rc == CURLE_OK)
		return MAIL_SENT;
	curl_easy_getinfo(s->curl, CURLINFO_RESPONSE_CODE, &code);
	snprintf(why, MAIL_WHY, "%s (SMTP %ld)", curl_easy_strerror(rc), code);
	if (!r->begun && strncmp(s->error, "RCPT failed", 11) != 0)
		return MAIL_LATER;
	return code == 550 || code == 551 || code == 552 || code == 553 || code == 554 || code == 501 ? MAIL_REFUSED : MAIL_LATER;
}

static enum mail_outcome send_smtp(void *driver, const struct mail_message *m, struct str printed, char why[MAIL_WHY])
{
	struct smtp *s = driver;
	struct reading r = { .rest = printed };
	struct buf from = { 0 }, to = { 0 };
	struct curl_slist *list;
	enum mail_outcome outcome;

	buf_printf(&from, "<%s>", m->from);
	buf_printf(&to, "<%s>", m->to);
	list = curl_slist_append(NULL, buf_cstr(&to));
	if (!list)
		abort();
	set_up(s, buf_cstr(&from), list, &r);
	outcome = judge(s, &r, curl_easy_perform(s->curl), why);
	curl_slist_free_all(list);
	buf_fini(&from);
	buf_fini(&to);
	return outcome;
}

const struct mail_driver mail_smtp = { .scheme = "smtp://", .open = open_smtp, .close = close_smtp, .send = send_smtp };
const struct mail_driver mail_smtps = { .scheme = "smtps://", .open = open_smtp, .close = close_smtp, .send = send_smtp };
