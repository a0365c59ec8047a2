/* redis://[user:password@]host[:port][/db] */
#include "link.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

static char *url_part(CURLU *u, CURLUPart which)
{
	char *text = NULL, *copy = NULL;

	if (curl_url_get(u, which, &text, CURLU_URLDECODE) == CURLUE_OK)
		copy = xstrdup(text);
	curl_free(text);
	return copy;
}

const char *link_read_url(struct link *l, const char *url)
{
	CURLU *u = curl_url();
	char *scheme = NULL, *port = NULL, *path = NULL, *query = NULL;
	const char *why = NULL;
	int64_t number = 6379;

	if (!u || curl_url_set(u, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK)
		why = "it is no URL";
	if (!why) {
		scheme = url_part(u, CURLUPART_SCHEME);
		port = url_part(u, CURLUPART_PORT);
		path = url_part(u, CURLUPART_PATH);
		query = url_part(u, CURLUPART_QUERY);
		l->host = url_part(u, CURLUPART_HOST);
		l->user = url_part(u, CURLUPART_USER);
		l->password = url_part(u, CURLUPART_PASSWORD);
		if (port && !str_to_i64(str_of(port), &number))
			number = 0;
		l->port = (int)number;
		if (strcmp(scheme, "rediss") == 0)
			why = "rediss: is not supported by the client library of Debian 12; put a TLS tunnel on this machine in front";
		else if (strcmp(scheme, "redis") != 0 || query || !l->host || !*l->host || number <= 0)
			why = "it is neither memory: nor redis://[user:password@]host[:port][/db]";
		else if (path && strlen(path) > 1 && strspn(path + 1, "0123456789") != strlen(path + 1))
			why = "the database must be a number";
		else if (path && strlen(path) > 1)
			l->db = xstrdup(path + 1);
	}
	free(scheme);
	free(port);
	free(path);
	free(query);
	curl_url_cleanup(u);
	return why;
}
