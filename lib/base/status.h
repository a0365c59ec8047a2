/*
 * The one list of outcomes: C name, wire number (never reused), word for clients, HTTP status, default text.
 * Everything that speaks of an outcome (RPC reply, HTTP answer, metrics, OpenAPI) is made from it.
 */
#ifndef CRM_BASE_STATUS_H
#define CRM_BASE_STATUS_H

#define STATUS_LIST(X)                                                                                   \
	X(OK, 0, 200, "OK")                                                                              \
	X(BAD_REQUEST, 1, 400, "The request is malformed")                                               \
	X(VALIDATION_ERROR, 2, 422, "Validation failed")                                                 \
	X(UNAUTHENTICATED, 3, 401, "Authentication is required")                                         \
	X(INVALID_TOKEN, 4, 401, "The token is invalid or has expired")                                  \
	X(AUTH_FAILED, 5, 401, "E-mail or password is wrong")                                            \
	X(PERMISSION_DENIED, 6, 403, "You do not have permission to do this")                            \
	X(NOT_FOUND, 7, 404, "Not found")                                                                \
	X(METHOD_NOT_ALLOWED, 8, 405, "The method is not allowed here")                                  \
	X(DUPLICATE, 9, 409, "It already exists")                                                        \
	X(CONFLICT, 10, 409, "The request conflicts with the current state")                             \
	X(PRECONDITION_FAILED, 11, 412, "The resource has changed since it was read")                    \
	X(PAYLOAD_TOO_LARGE, 12, 413, "The body is too large")                                           \
	X(UNSUPPORTED_MEDIA_TYPE, 13, 415, "The content type is not supported")                          \
	X(RATE_LIMIT_EXCEEDED, 14, 429, "Too many requests, try again later")                            \
	X(HEADERS_TOO_LARGE, 15, 431, "The request head is too large")                                   \
	X(INTERNAL, 16, 500, "Something went wrong on our side")                                         \
	X(NOT_IMPLEMENTED, 17, 501, "This is not supported")                                             \
	X(UNAVAILABLE, 18, 503, "The service is not available right now, try again")                     \
	X(DEADLINE_EXCEEDED, 19, 504, "The service did not answer in time")                              \
	X(IDEMPOTENCY_MISMATCH, 20, 422, "This Idempotency-Key was used with another request")           \
	X(IDEMPOTENCY_RUNNING, 21, 409, "A request with this Idempotency-Key is still running")          \
	X(URI_TOO_LONG, 22, 414, "The request target is too long")                                       \
	X(REQUEST_TIMEOUT, 23, 408, "The request did not arrive in time")                                \
	X(GONE, 24, 410, "It is no longer there")

enum status {
#define STATUS_ENUM(name, number, http, text) STATUS_##name = number,
	STATUS_LIST(STATUS_ENUM)
#undef STATUS_ENUM
	STATUS_COUNT
};

#define MUST_CHECK __attribute__((warn_unused_result))

/* "VALIDATION_ERROR"; "INTERNAL" for a number that is not in the list. Static. */
const char *status_name(enum status s);
const char *status_text(enum status s);
int status_http(enum status s);

#endif
