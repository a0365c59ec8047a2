/* For tests of dialects: declarations written in the test, compiled by protoc at run time. */
#ifndef CRM_GATEWAY_DIALECT_TESTING_H
#define CRM_GATEWAY_DIALECT_TESTING_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/arena.h"
#include "gateway/dialect/dialect.h"

/* The reason why a dialect "t" with this text is refused (heap), or NULL when it is accepted. */
static inline const char *testing_mistake(const char *textproto)
{
	char dir[] = "/tmp/dialect-test-XXXXXX", text[64], command[256];
	const char *why = NULL;
	struct dialects *ds;
	FILE *f;

	if (!mkdtemp(dir))
		abort();
	snprintf(text, sizeof(text), "%.40s/t.textproto", dir);
	f = fopen(text, "w");
	if (!f)
		abort();
	fprintf(f, "%s\n%s", strstr(textproto, "name: 1") ? "" : "name: \"t\"", textproto);
	fclose(f);
	snprintf(command, sizeof(command), "protoc -Iproto --encode=crm.dialect.Dialect proto/dialect.proto < %.40s/t.textproto > %.40s/t.pb 2>%.40s/err", dir, dir, dir);
	if (system(command) != 0) {
		why = xstrdup("protoc refuses it");
	} else {
		ds = dialects_load("build/gen/descriptors", dir, &why);
		dialects_rele(ds);
	}
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	if (system(command) != 0)
		abort();
	return why;
}

#endif
