/*
 * Inside lib/db: a pipelined connection (link), what waits for it (job), and the order of what was sent (slots).
 *
 * A job lives on one of: the queue of its kind, the slots of one link, the late list (to be answered at the turn's end).
 * Everything here is the loop thread's.
 */
#ifndef CRM_DB_LINK_H
#define CRM_DB_LINK_H

#include "db/db.h"
#include "db/statements.h"
#include "telemetry/context.h"

#define LINK_READS 64   /* read jobs in flight per connection */
#define LINK_WRITES 8   /* write segments in flight per connection */
#define GROUP_READS 16  /* reads under one Sync */
#define SAME_TENANT_WITHIN 64 /* so far behind the oldest read another one of the group's tenant is looked for */
#define KEY_TEXT 37     /* of a lookup, with its NUL */

struct job_stmt {
	struct str sql;
	uint64_t hash;
	const char **params;
	int n_params;
};

struct job {
	struct job *next;
	enum db_kind kind;
	db_done done;
	void *arg;
	int64_t deadline_us;
	char tenant[37];
	const char *scope; /* NULL: all rows */
	bool alone;     /* gets a Sync of its own: it was in a group that failed */
	bool retried;   /* the one retry after an error has been used */
	int breaks;     /* connections that broke under it */
	const struct db_lookup *lookup; /* NULL: an ordinary submission */
	struct job *mate; /* of lookups: the next one that shares this one's statement */
	int mates;      /* of the one that was sent: how many there are besides it */
	uint8_t key[16]; /* of a lookup, as results have it */
	int row;        /* of a lookup: in res[0] */
	int64_t put_us; /* monotonic: when it began to wait for a connection; 0: it has had one */
	bool answered;  /* past its deadline; what arrives is thrown away */
	enum status status;
	char sqlstate[6];
	char constraint[64];
	struct db_said *said; /* NULL: none */
	struct context context; /* of who submitted it; done runs in it */
	struct span *span;      /* NULL: not traced */
	struct span *traced;    /* of the one that was sent: whose traceparent the statement carries; until then only */
	int64_t sent_us;        /* monotonic; only kept with a span */
	int shared;             /* of how many the statement was */
	int n, got;
	PGresult *res[DB_MAX_STMTS];
	struct job_stmt stmts[];
};

struct job_queue {
	struct job *head, **tail;
	size_t n;
};

enum slot_kind { SLOT_TENANT, SLOT_STMT, SLOT_PREPARE, SLOT_DEALLOCATE, SLOT_SYNC };

/* One expected result. */
struct slot {
	enum slot_kind kind;
	bool last;              /* of the job */
	struct job *job;        /* TENANT, STMT; SYNC of a write */
	struct statement *stmt; /* PREPARE, STMT */
};

enum link_state { LINK_DOWN, LINK_CONNECTING, LINK_UP };

struct link {
	struct db *db;
	enum db_kind kind;
	enum link_state state;
	PGconn *c;
	struct event *read_ev, *write_ev, *timer;
	struct statements statements;
	struct slot *slots; /* ring */
	unsigned head, tail, mask;
	int in_flight;      /* jobs, mates included */
	int open;           /* jobs sent since the last Sync, mates included */
	char tenant[37];    /* that the open segment has set, "" when none */
	bool scoped;        /* the open segment has set a scope of rows */
	unsigned segment;   /* statements of the open segment */
	int64_t progress_us; /* last time something arrived or an idle link was given work, monotonic */
	unsigned failures;  /* connects in a row */
};

struct db {
	struct event_base *base;
	char *url;
	struct db_config config;
	struct link *links;
	int n_links;
	struct link *grouping;      /* read link whose group is open */
	struct job_queue queue[2];  /* by kind */
	struct job_queue late;
	struct event *turn, *sweep;
	bool turn_pending, sweeping;
	int64_t down_since_us[2];   /* monotonic; 0: at least one link of the kind is up */
	struct db_stats stats;
	struct workers *workers;
};

/* link.c: connections */
void link_init(struct link *l, struct db *d, enum db_kind kind);
void link_fini(struct link *l);
/* Gives up the connection: what is in flight is answered or queued again, a new connection is tried after a while. */
void link_break(struct link *l, const char *why);
/* Sends what libpq holds back; the rest when the socket takes it. */
void link_flush(struct link *l);

/* pipe.c: sending and receiving */
void pipe_send(struct link *l, struct job *j);
void pipe_sync(struct link *l);
void pipe_receive(struct link *l);
void pipe_abandon(struct link *l);

/* lookup.c: reads by key that share a statement */
/* Its statement has no parameter when the key is no key. */
struct job *lookup_new(const struct db_lookup *l, const char *key, struct str scope);
/* Takes others of j's tenant and kind out of q, at most `most`, and makes them its mates. */
void lookup_gather(struct job_queue *q, struct job *j, int most);
/* The statement for j and its mates. */
void lookup_prepare(struct job *j);
/* The row of each. */
void lookup_rows(struct job *j);

/* db.c: jobs */
void db_pump(struct db *d);
void db_turn_later(struct db *d);
void db_link_changed(struct db *d, enum db_kind kind);
/* It has got its connection. */
void db_job_waited(struct job *j);
/* Of a lookup: without its mates, who have to be taken care of before. */
void db_job_again(struct db *d, struct job *j);
void db_job_finish(struct db *d, struct job *j);
void db_job_late(struct db *d, struct job *j); /* answered at the end of the turn */
void db_job_clear(struct job *j);             /* forgets its results */

#endif
