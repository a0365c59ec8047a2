/* Names, texts and HTTP numbers of the status list. */
#include "base/status.h"

static const struct {
	const char *name, *text;
	int http;
} rows[STATUS_COUNT] = {
#define STATUS_ROW(name, number, http, text) [number] = { #name, text, http },
	STATUS_LIST(STATUS_ROW)
#undef STATUS_ROW
};

static int index_of(enum status s)
{
	return (unsigned)s < STATUS_COUNT ? (int)s : STATUS_INTERNAL;
}

const char *status_name(enum status s)
{
	return rows[index_of(s)].name;
}

const char *status_text(enum status s)
{
	return rows[index_of(s)].text;
}

int status_http(enum status s)
{
	return rows[index_of(s)].http;
}
