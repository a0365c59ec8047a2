/* Starts NNG with as few threads as it allows: it asks sysconf for the processors, so sysconf answers one meanwhile. */
#include "rpc/nng_threads.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <sched.h>
#include <stdbool.h>
#include <unistd.h>

#include "base/log.h"

/* glibc's own name for what is defined over below */
extern long __sysconf(int name);

static _Thread_local bool starting;

long sysconf(int name)
{
	if (starting && name == _SC_NPROCESSORS_ONLN)
		return 1;
	return __sysconf(name);
}

void rpc_nng_start(void)
{
	struct sched_param none = { 0 };
	nng_socket s;
	int rc;

	if (sched_setscheduler(0, SCHED_BATCH, &none) != 0)
		log_debug("RPC-SCHED", "SCHED_BATCH is not allowed here");
	starting = true;
	rc = nng_req0_open(&s);
	starting = false;
	if (rc != 0)
		log_die("RPC-NNG", "NNG does not start: %s", nng_strerror(rc));
	nng_close(s);
}
