/* Carries security observations (watch.h) to svc-audit, once a second, on the control thread. */
#ifndef CRM_GATEWAY_WATCH_SEND_H
#define CRM_GATEWAY_WATCH_SEND_H

#include "gateway/gateway.h"

struct watch_sender;

struct watch_sender *watch_sender_start(struct gateway *g, struct event_base *base, struct rpc_client *rpc);
/* Sends all that is left, then calls done(arg); after 2 s at the latest. */
void watch_sender_finish(struct watch_sender *s, void (*done)(void *arg), void *arg);

#endif
