/* `svc-auth keys list|rotate`: the keys that sign access tokens, seen and rotated by an operator, also from inside of a pod. */
#include "keys_command.h"

#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "keeper.h"
#include "keys.h"

static const char usage[] = "usage: svc-auth keys list [-o json]   the keys, the newest first\n"
			    "       svc-auth keys rotate           publishes the next one; it signs two minutes later\n";

static const char list_sql[] =
    "SELECT kid, state, to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), extract(epoch FROM retired_at + $1::int * interval '1 s' - now())::bigint::text,"
    " json_build_object('kid', kid, 'state', state, 'created', created_at, 'age_s', extract(epoch FROM now() - created_at)::int, 'retired', retired_at,"
    " 'gone_in_s', extract(epoch FROM retired_at + $1::int * interval '1 s' - now())::int)::text FROM signing_key ORDER BY created_at DESC";

static const char *word_of(const char *state)
{
	if (strcmp(state, "current") == 0)
		return "signs";
	return strcmp(state, "next") == 0 ? "published, does not sign yet" : "verifies what it has signed";
}

static void print_key(const PGresult *r, int i)
{
	int64_t left = 0;

	printf("%s  %-8s made %s  %s", PQgetvalue(r, i, 0), PQgetvalue(r, i, 1), PQgetvalue(r, i, 2), word_of(PQgetvalue(r, i, 1)));
	if (str_to_i64(str_of(PQgetvalue(r, i, 3)), &left))
		printf("; forgotten in %.1f h", (double)left / 3600);
	puts("");
}

static int list(const char *url, bool json)
{
	const char *const keys[] = { "connect_timeout", "dbname", NULL }, *const values[] = { "5", url, NULL };
	char seconds[16];
	const char *params[] = { seconds };
	PGconn *c = PQconnectdbParams(keys, values, 1);
	PGresult *r;
	bool good;

	snprintf(seconds, sizeof(seconds), "%d", KEYS_KEEP_OLD_S);
	r = PQexecParams(c, list_sql, 1, NULL, params, NULL, NULL, 0);
	good = PQresultStatus(r) == PGRES_TUPLES_OK;
	for (int i = 0; i < PQntuples(r); i++) {
		if (json)
			puts(PQgetvalue(r, i, 4));
		else
			print_key(r, i);
	}
	if (!good)
		fprintf(stderr, "svc-auth keys: %s", PQerrorMessage(c));
	PQclear(r);
	PQfinish(c);
	return good ? 0 : 1;
}

int keys_command(int argc, char **argv, const char *(*database_url)(void), void (*load_key)(void))
{
	bool json = argc == 5 && strcmp(argv[3], "-o") == 0 && strcmp(argv[4], "json") == 0;

	if (argc >= 3 && strcmp(argv[2], "list") == 0 && (argc == 3 || json))
		return list(database_url(), json);
	if (argc == 3 && strcmp(argv[2], "rotate") == 0) {
		load_key();
		return keeper_rotate(database_url());
	}
	fputs(usage, stderr);
	return 2;
}
