/*
 * Few NNG threads for a process whose work is done on event loops (docs/adr/0002-nng-threads.md).
 * Opt-in: a program that calls this gets a definition of sysconf that answers 1 processor while NNG starts.
 */
#ifndef CRM_RPC_NNG_THREADS_H
#define CRM_RPC_NNG_THREADS_H

/*
 * Starts NNG with two task threads and one timer thread, scheduled as SCHED_BATCH like the threads started by the
 * caller afterwards. Call once from main before the first rpc_*_new and after the last fork.
 */
void rpc_nng_start(void);

#endif
