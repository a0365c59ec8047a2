/* `svc-audit verify`: checks chains against signed checkpoints, in a database or in a dump, without trusting either. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/codec.h"
#include "base/log.h"
#include "events/pgconn.h"
#include "svc-audit/audit.h"
#include "svc-audit/chain.h"
#include "svc-audit/sign.h"

#include <uthash.h>

#define TIMEOUT_MS (30 * 60 * 1000)

static const char usage[] =
    "svc-audit verify --public-key HEX --checkpoints FILE (--database URL | --database-file FILE | --dump FILE)\n"
    "  --public-key   what `svc-audit public-key` says of the signing key (HEX, or a file that holds it)\n"
    "  --checkpoints  signed ends of chains, kept outside the database (AUDIT_CHECKPOINT_FILE; /dev/stdin: what is piped in)\n"
    "  --database     checks columns, bytes and hashes of every tenant; as a role that sees all tenants\n"
    "  --database-file  the same with the URL in a file, so that no list of processes shows it\n"
    "  --dump         checks bytes and hashes of a file made by `./crm audit dump`; - is standard input\n";

/* A place that a signature vouches for. */
struct witness {
	char key[80]; /* tenant, number */
	char hash[65];
	bool met;
	UT_hash_handle hh;
};

struct tenant {
	char id[UUID_TEXT + 1];
	uint8_t raw[16], hash[32];
	int64_t seq;        /* of the last entry seen */
	int64_t first;      /* of the first one there */
	int64_t entries, newest_witness;
	bool bad;
	UT_hash_handle hh;
};

static struct {
	char public_key[SIGN_KEY_HEX + 1];
	struct witness *witnesses;
	struct tenant *tenants;
	size_t n_witnesses, bad, bad_lines, torn;
	int64_t entries;
} me;

static void problem(const char *tenant, int64_t seq, const char *what)
{
	printf("BAD  tenant %s entry %lld: %s\n", tenant, (long long)seq, what);
	me.bad++;
}

static struct tenant *tenant_of(const char *id)
{
	struct tenant *t;

	HASH_FIND_STR(me.tenants, id, t);
	if (t)
		return t;
	t = xcalloc(1, sizeof *t);
	snprintf(t->id, sizeof t->id, "%s", id);
	t->bad = !uuid_to_bytes(str_of(id), t->raw);
	t->first = 1;
	HASH_ADD_STR(me.tenants, id, t);
	return t;
}

static struct witness *witness_find(const char *tenant, int64_t seq)
{
	char key[80];
	struct witness *w;

	snprintf(key, sizeof key, "%s/%lld", tenant, (long long)seq);
	HASH_FIND_STR(me.witnesses, key, w);
	return w;
}

/* -- checkpoints */

static void witness_add(const char *tenant, int64_t seq, const char *hash)
{
	struct witness *w = witness_find(tenant, seq);
	struct tenant *t = tenant_of(tenant);

	if (w) {
		if (strcmp(w->hash, hash) != 0)
			problem(tenant, seq, "two signed checkpoints disagree");
		return;
	}
	w = xcalloc(1, sizeof *w);
	snprintf(w->key, sizeof w->key, "%s/%lld", tenant, (long long)seq);
	snprintf(w->hash, sizeof w->hash, "%s", hash);
	HASH_ADD_STR(me.witnesses, key, w);
	me.n_witnesses++;
	if (seq > t->newest_witness)
		t->newest_witness = seq;
}

static bool checkpoint_line(const char *line)
{
	char tenant[37], hash[65], key[65], signature[129];
	struct sign_place p = { .seq = 0 };
	long long seq, at;
	int end = 0;

	if (sscanf(line, "{\"tenant\":\"%36[0-9a-f-]\",\"seq\":%lld,\"hash\":\"%64[0-9a-f]\",\"signed_us\":%lld,\"key\":\"%64[0-9a-f]\",\"signature\":\"%128[0-9a-f]\"}%n", tenant,
		&seq, hash, &at, key, signature, &end) != 6 || !end)
		return false;
	p.seq = seq;
	p.signed_us = at;
	if (!uuid_to_bytes(str_of(tenant), p.tenant) || !hex_decode(str_of(hash), p.hash, 32) || !sign_check(me.public_key, SIGN_CHECKPOINT, &p, signature))
		return false;
	witness_add(tenant, seq, hash);
	return true;
}

/* A last line without its end was being written when the process died: it vouches for nothing and accuses nobody. */
static bool checkpoints_read(const char *path)
{
	FILE *f = fopen(path, "re");
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;

	if (!f) {
		fprintf(stderr, "svc-audit verify: %s: %s\n", path, strerror(errno));
		return false;
	}
	for (;;) {
		n = getline(&line, &cap, f);
		if (n <= 0)
			break;
		if (line[n - 1] != '\n')
			me.torn++;
		else if (!checkpoint_line(line))
			me.bad_lines++;
	}
	free(line);
	fclose(f);
	return true;
}

/* -- what the chain says at a witnessed place, and what it lacks */

static void meet(const char *tenant, int64_t seq, const char *hash)
{
	struct witness *w = witness_find(tenant, seq);

	if (!w)
		return;
	w->met = true;
	if (strcmp(w->hash, hash) != 0)
		problem(tenant, seq, "the log was written anew: a signed checkpoint has another hash");
}

static void tenants_finish(void)
{
	for (struct tenant *t = me.tenants; t; t = t->hh.next) {
		if (t->newest_witness > t->seq && !t->bad)
			problem(t->id, t->seq + 1, "the end was cut off: a signed checkpoint is further on");
	}
}

/* -- a dump: lines of tab-separated fields, in the order of tenant and number
 * cut TENANT SEQ HASH SIGNED_US SIGNATURE   |   entry TENANT SEQ HASH PREVIOUS CANONICAL(hex) */

static bool hex_to_buf(const char *hex, struct buf *out)
{
	size_t n = strlen(hex);

	buf_clear(out);
	if (n % 2)
		return false;
	buf_need(out, n / 2);
	out->n = n / 2;
	return hex_decode((struct str){ hex, n }, (uint8_t *)out->p, out->n);
}

static void dump_cut(struct tenant *t, char **f)
{
	struct sign_place p = { .seq = 0 };

	memcpy(p.tenant, t->raw, sizeof p.tenant);
	if (!str_to_i64(str_of(f[2]), &p.seq) || !hex_decode(str_of(f[3]), p.hash, 32) || !str_to_i64(str_of(f[4]), &p.signed_us) ||
	    !sign_check(me.public_key, SIGN_CUT, &p, f[5])) {
		problem(t->id, p.seq, "the beginning was cut off without a good signature");
		t->bad = true;
		return;
	}
	meet(t->id, p.seq, f[3]);
	t->seq = p.seq;
	t->first = p.seq + 1;
	memcpy(t->hash, p.hash, sizeof t->hash);
}

static void dump_entry(struct tenant *t, char **f, struct buf *canonical)
{
	char hash[65], previous[65];
	int64_t seq = 0;
	const char *what = NULL;

	hex_encode(t->hash, 32, previous);
	if (!str_to_i64(str_of(f[2]), &seq) || !hex_to_buf(f[5], canonical))
		what = "the line is no entry";
	else if (seq != t->seq + 1)
		what = "the entry is missing";
	else if (strcmp(f[4], previous) != 0)
		what = "the entry does not follow the one before it";
	if (!what) {
		chain_hash(t->raw, seq, t->hash, buf_view(canonical), t->hash);
		hex_encode(t->hash, 32, hash);
		if (strcmp(f[3], hash) != 0)
			what = "the hash does not match the entry's bytes";
	}
	if (what) {
		problem(t->id, t->seq + 1, what);
		t->bad = true;
		return;
	}
	t->seq = seq;
	t->entries++;
	me.entries++;
	meet(t->id, seq, hash);
}

static void dump_line(char *line, struct buf *canonical)
{
	char *f[7] = { NULL };
	int n = 0;
	struct tenant *t;

	for (char *at = line, *next = line; at && n < 7; at = next) {
		next = strpbrk(at, "\t\n");
		if (next)
			*next++ = 0;
		f[n++] = at;
		if (next && !*next)
			break;
	}
	if (n != 6 || !uuid_parse(str_of(f[1]), NULL)) {
		problem("?", 0, "the line is no part of a dump");
		return;
	}
	t = tenant_of(f[1]);
	if (t->bad)
		return;
	if (strcmp(f[0], "cut") == 0)
		dump_cut(t, f);
	else
		dump_entry(t, f, canonical);
}

static bool dump_read(const char *path)
{
	FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	struct buf canonical = { 0 };
	char *line = NULL;
	size_t cap = 0;

	if (!f) {
		fprintf(stderr, "svc-audit verify: %s: %s\n", path, strerror(errno));
		return false;
	}
	while (getline(&line, &cap, f) > 0)
		dump_line(line, &canonical);
	free(line);
	buf_fini(&canonical);
	if (f != stdin)
		fclose(f);
	return true;
}

/* -- a database */

static bool witnesses_meet(PGconn *c, struct tenant *t)
{
	const char *params[] = { t->id };
	PGresult *r = NULL;

	if (pgconn_exec(c, NULL, "SELECT set_config('app.tenant_id', $1, false)", 1, params) != STATUS_OK ||
	    pgconn_exec(c, &r, "SELECT seq, hash FROM audit.entry WHERE tenant_id = $1 AND seq IN (SELECT seq FROM witness WHERE tenant_id = $1)"
		" UNION ALL SELECT seq, hash FROM audit.chain_cut WHERE tenant_id = $1", 1, params) != STATUS_OK)
		return false;
	for (int i = 0; i < PQntuples(r); i++) {
		int64_t seq = 0;

		if (str_to_i64(str_of(PQgetvalue(r, i, 0)), &seq))
			meet(t->id, seq, PQgetvalue(r, i, 1));
	}
	PQclear(r);
	return true;
}

/* The numbers to look at, in a table of this session: a join reads them in one pass. */
static bool witnesses_send(PGconn *c)
{
	struct buf b = { 0 };
	bool good = pgconn_exec(c, NULL, "CREATE TEMP TABLE witness (tenant_id uuid, seq bigint)", 0, NULL) == STATUS_OK;
	PGresult *r = good ? PQexec(c, "COPY witness FROM STDIN") : NULL;

	for (struct witness *w = me.witnesses; w; w = w->hh.next)
		buf_printf(&b, "%.36s\t%s\n", w->key, w->key + 37);
	good = good && PQresultStatus(r) == PGRES_COPY_IN && (!b.n || PQputCopyData(c, b.p, (int)b.n) == 1) && PQputCopyEnd(c, NULL) == 1;
	PQclear(r);
	for (r = good ? PQgetResult(c) : NULL; r; r = PQgetResult(c)) {
		good = good && PQresultStatus(r) == PGRES_COMMAND_OK;
		PQclear(r);
	}
	buf_fini(&b);
	return good && pgconn_exec(c, NULL, "CREATE INDEX ON witness (tenant_id, seq)", 0, NULL) == STATUS_OK &&
	    pgconn_exec(c, NULL, "ANALYZE witness", 0, NULL) == STATUS_OK;
}

static bool tenants_read(PGconn *c)
{
	PGresult *r = NULL;

	if (pgconn_exec(c, &r, "SELECT tenant_id FROM audit.chain UNION SELECT DISTINCT tenant_id FROM audit.entry", 0, NULL) != STATUS_OK)
		return false;
	for (int i = 0; i < PQntuples(r); i++)
		tenant_of(PQgetvalue(r, i, 0));
	PQclear(r);
	return true;
}

static bool database_read(const char *url)
{
	PGconn *c = pgconn_open(url, "crm-audit-verify", TIMEOUT_MS);
	bool good = c && pgconn_exec(c, NULL, "SET search_path = audit, extensions, pg_temp", 0, NULL) == STATUS_OK && witnesses_send(c) && tenants_read(c);

	for (struct tenant *t = me.tenants; good && t; t = t->hh.next) {
		struct chain_report report;

		if (chain_verify(c, str_of(t->id), me.public_key, clock_us() + TIMEOUT_MS * 1000LL, &report) != STATUS_OK) {
			good = false;
			break;
		}
		me.entries += report.entries;
		t->entries = report.entries;
		t->seq = report.first_seq + report.entries - 1;
		t->bad = !report.valid;
		if (!report.valid)
			problem(t->id, report.first_bad_seq, report.problem);
		good = witnesses_meet(c, t);
	}
	PQfinish(c);
	if (!good)
		fprintf(stderr, "svc-audit verify: the database cannot be read\n");
	return good;
}

/* -- the command */

/* The first line of a file; false: there is none, or it is too long. */
static bool line_read(const char *path, char *line, int size)
{
	FILE *f = fopen(path, "re");
	bool good = f && fgets(line, size, f) != NULL;
	size_t n = good ? strcspn(line, "\r\n") : 0;

	if (f)
		fclose(f);
	line[n] = 0;
	return good && n > 0 && n + 2 < (size_t)size;
}

static bool public_key_read(const char *text)
{
	char line[200];

	if (strlen(text) != SIGN_KEY_HEX || strspn(text, "0123456789abcdef") != SIGN_KEY_HEX)
		text = line_read(text, line, sizeof line) ? line : "";
	if (strspn(text, "0123456789abcdef") < SIGN_KEY_HEX)
		return false;
	snprintf(me.public_key, sizeof me.public_key, "%.64s", text);
	return true;
}

static int verdict(void)
{
	tenants_finish();
	if (me.bad_lines)
		printf("BAD  checkpoints: %zu lines have no good signature of this key\n", me.bad_lines);
	if (me.torn)
		printf("note checkpoints: the last line is incomplete and was left out\n");
	printf("%s %lld entries of %u chains, %zu signed checkpoints, %zu problems\n", me.bad || me.bad_lines ? "BAD " : "OK  ", (long long)me.entries,
	    HASH_COUNT(me.tenants), me.n_witnesses, me.bad + me.bad_lines);
	return me.bad || me.bad_lines ? 1 : 0;
}

int audit_verify_main(int argc, char **argv)
{
	const char *key = NULL, *checkpoints = NULL, *database = NULL, *file = NULL, *dump = NULL;
	static char url[4096];

	for (int i = 1; i < argc; i++) {
		const char **at = !strcmp(argv[i], "--public-key") ? &key : !strcmp(argv[i], "--checkpoints") ? &checkpoints :
		    !strcmp(argv[i], "--database") ? &database : !strcmp(argv[i], "--database-file") ? &file : !strcmp(argv[i], "--dump") ? &dump : NULL;

		if (!at || i + 1 == argc) {
			fputs(usage, stderr);
			return 2;
		}
		*at = argv[++i];
	}
	if (!key || !checkpoints || !!database + !!file + !!dump != 1) {
		fputs(usage, stderr);
		return 2;
	}
	log_init("svc-audit", "auto", "warn");
	if (file && !line_read(file, url, sizeof url)) {
		fprintf(stderr, "svc-audit verify: %s: no URL can be read from it\n", file);
		return 2;
	}
	database = file ? url : database;
	if (!public_key_read(key)) {
		fprintf(stderr, "svc-audit verify: %s is no public key\n", key);
		return 2;
	}
	if (!checkpoints_read(checkpoints) || !(database ? database_read(database) : dump_read(dump)))
		return 2;
	return verdict();
}

int audit_public_key_main(int argc, char **argv)
{
	char hex[SIGN_KEY_HEX + 1];
	struct signer *s;

	if (argc != 2) {
		fputs("svc-audit public-key FILE   (FILE: AUDIT_SIGNING_KEY_FILE)\n", stderr);
		return 2;
	}
	s = signer_load(argv[1]);
	signer_public(s, hex);
	puts(hex);
	signer_free(s);
	return 0;
}
