/*
 * Everything a client can make grow or keep waiting has its limit here. Times in microseconds.
 * Values that an operator may change are defaults for http_server_limit.
 */
#ifndef CRM_HTTP_LIMITS_H
#define CRM_HTTP_LIMITS_H

#define HTTP_SECOND 1000000LL

/* head */
#define HTTP_LINE_MAX 8192            /* request line, without CRLF: 414 */
#define HTTP_HEAD_MAX 16384           /* request line, headers and the empty line: 431 */
#define HTTP_HEADERS_MAX 100          /* 431 */
#define HTTP_METHOD_MAX 32
#define HTTP_HOST_MAX 255
#define HTTP_LENGTH_DIGITS 15         /* Content-Length */

/* body; its size is app.body_limit's to say: 413 */
#define HTTP_CHUNK_DIGITS 8
#define HTTP_CHUNK_LINE_MAX 256       /* size and extensions of one chunk */
#define HTTP_CHUNK_EXTENSIONS_MAX 16384 /* all extensions of one body */
#define HTTP_TRAILERS_MAX 8192        /* bytes of the trailer section */
#define HTTP_TRAILER_FIELDS_MAX 32
#define HTTP_BODY_MEMORY (256u << 20) /* bodies in memory, all connections of a server together: 503 */
#define HTTP_BODY_KEEP (64u << 10)    /* a body buffer above this is given back after the request */

/* multipart/form-data */
#define MULTIPART_PARTS_MAX 256
#define MULTIPART_HEAD_MAX 4096       /* headers of one part */
#define MULTIPART_HEADERS_MAX 16
#define MULTIPART_BOUNDARY_MAX 70     /* RFC 2046 */

/* connection */
#define HTTP_PIPELINE_MAX 100         /* requests sent without waiting: then close */
#define HTTP_PIPELINE_BYTES (64u << 10) /* input kept while a request is with the app, then reading stops */
#define HTTP_READ_SIZE (64u << 10)    /* one recv */
#define HTTP_READS_PER_TURN 4         /* recv calls for one connection before others get their turn */
#define HTTP_ACCEPTS_PER_TURN 64
#define HTTP_WRITE_MAX (8u << 20)     /* unsent bytes of a streamed reply: the connection is closed */
#define HTTP_LINGER_BYTES (16u << 20) /* input thrown away behind a refusal so that the client can read it */
#define HTTP_POOL_MAX 256             /* exchanges kept for reuse */
#define HTTP_CONNECTIONS_MAX 10000    /* default, per server (thread) */
#define HTTP_CONNECTIONS_PER_IP 2000  /* default, per server (thread); IPv6: per /64 */
#define HTTP_LISTENERS_MAX 16
#define HTTP_BACKLOG 1024

/* deadlines: absolute, from the event named */
#define HTTP_HANDSHAKE_US (5 * HTTP_SECOND)  /* from accept */
#define HTTP_HEAD_US (10 * HTTP_SECOND)      /* from the first byte of the head: 408 */
#define HTTP_BODY_US (10 * HTTP_SECOND)      /* from the end of the head, plus … : 408 */
#define HTTP_BODY_BYTES_PER_S 8192           /* … a second for each of these */
#define HTTP_IDLE_US (30 * HTTP_SECOND)      /* between requests */
#define HTTP_WRITE_US (30 * HTTP_SECOND)     /* without a byte taken by the client */
#define HTTP_LINGER_US (2 * HTTP_SECOND)
#define HTTP_ACCEPT_PAUSE_US 100000          /* after running out of descriptors */

#endif
