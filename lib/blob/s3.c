/*
 * Blobs in S3 or what speaks like it, by libcurl. What of SigV4 libcurl 7.88 does not do by itself is done here: the hash of the body as a
 * header, a sorted query in which every name has its '=', no header that libcurl would leave out again. Bodies are sent whole from memory (at most one part), so their
 * hash is signed and they can be sent again; what is longer becomes a multipart upload.
 */
#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/codec.h"
#include "blob/driver.h"

#define PART (5u << 20) /* the least that S3 takes as a part that is not the last */
#define PARTS_MAX 10000
#define CONNECT_MS 3000L
#define REQUEST_MS 15000L
#define EXPECT_MS 200L
#define TRIES 4
#define PAUSE_MS 100u          /* before the second try, then twice as long each time */
#define TRYING_US (30 * 1000000LL) /* no further try begins later */
#define IDLE_MAX 16
#define ANSWER_MAX (64u << 10) /* of answers that are no blob */
#define TAG_MAX 100
#define UPLOAD_ID_MAX 1024

struct s3 {
	char *base; /* "http://host:port/bucket/" */
	char *login, *sign;
	long request_ms;
	pthread_mutex_t lock;
	CURL *idle[IDLE_MAX]; /* each keeps its connection */
	size_t n_idle;
};

struct request {
	const char *method, *key;
	const char *query; /* sorted, encoded, every name with '='; NULL: none */
	const char *range; /* "0-99"; NULL: none */
	struct str body;
	bool has_body;
};

struct answer {
	struct buf body;
	size_t max;
	long code;
	char tag[TAG_MAX];
	int64_t size;
	unsigned tries;
};

/* -- opening */

static char *copy_part(CURLU *u, CURLUPart which)
{
	char *text = NULL, *copy = NULL;

	if (curl_url_get(u, which, &text, 0) == CURLUE_OK)
		copy = xstrdup(text);
	curl_free(text);
	return copy;
}

/* The value of a parameter, as it is written; NULL: there is none. */
static char *parameter(const char *query, const char *name)
{
	size_t n = strlen(name);

	for (const char *at = query; at && *at; at = strchr(at, '&') ? strchr(at, '&') + 1 : NULL) {
		if (strncmp(at, name, n) == 0 && at[n] == '=')
			return xstrndup(at + n + 1, strcspn(at + n + 1, "&"));
	}
	return NULL;
}

static bool is_bucket(const char *s)
{
	return s && *s && s[strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789.-")] == 0;
}

static bool take_url(struct s3 *s, const char *url, const char **why)
{
	const char *query = strchr(url, '?');
	char *bucket = xstrndup(url + strlen("s3://"), strcspn(url + strlen("s3://"), "?"));
	char *endpoint = parameter(query ? query + 1 : "", "endpoint"), *region = parameter(query ? query + 1 : "", "region");
	char *timeout = parameter(query ? query + 1 : "", "timeout_ms");
	int64_t ms = REQUEST_MS;
	struct buf b = { 0 };
	CURLU *u = curl_url();
	char *scheme;
	bool ok = is_bucket(bucket) && endpoint && u && curl_url_set(u, CURLUPART_URL, endpoint, 0) == CURLUE_OK;

	*why = "it must be like s3://bucket?endpoint=https://host:port&region=name";
	scheme = ok ? copy_part(u, CURLUPART_SCHEME) : NULL;
	ok = scheme && (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0) && (!timeout || (str_to_i64(str_of(timeout), &ms) && ms > 0 && ms <= REQUEST_MS));
	if (ok) {
		while (*endpoint && endpoint[strlen(endpoint) - 1] == '/')
			endpoint[strlen(endpoint) - 1] = 0;
		buf_printf(&b, "%s/%s/", endpoint, bucket);
		s->base = xstrdup(buf_cstr(&b));
		buf_clear(&b);
		buf_printf(&b, "aws:amz:%s:s3", region && *region ? region : "us-east-1");
		s->sign = xstrdup(buf_cstr(&b));
		s->request_ms = (long)ms;
	}
	buf_fini(&b);
	curl_url_cleanup(u);
	free(scheme);
	free(bucket);
	free(endpoint);
	free(region);
	free(timeout);
	return ok;
}

static bool take_login(struct s3 *s, const struct blob_options *o, const char **why)
{
	char secret[256] = "";
	struct buf b = { 0 };
	FILE *f;

	if (!o->access_key || !*o->access_key)
		return true;
	f = o->secret_key_file && *o->secret_key_file ? fopen(o->secret_key_file, "re") : NULL;
	*why = "the file of the secret key cannot be read or is empty";
	if (f && fgets(secret, sizeof(secret), f))
		secret[strcspn(secret, "\r\n")] = 0;
	if (f)
		fclose(f);
	if (*secret) {
		buf_printf(&b, "%s:%s", o->access_key, secret);
		s->login = xstrdup(buf_cstr(&b));
		explicit_bzero(b.p, b.n);
		buf_fini(&b);
	}
	explicit_bzero(secret, sizeof(secret));
	return s->login != NULL;
}

static void close_s3(void *driver)
{
	struct s3 *s = driver;

	for (size_t i = 0; i < s->n_idle; i++)
		curl_easy_cleanup(s->idle[i]);
	pthread_mutex_destroy(&s->lock);
	free(s->base);
	free(s->login);
	free(s->sign);
	free(s);
}

static void *open_s3(const struct blob_options *o, const char **why)
{
	struct s3 *s;

	*why = "libcurl cannot be initialised";
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return NULL;
	s = xcalloc(1, sizeof(*s));
	pthread_mutex_init(&s->lock, NULL);
	if (take_url(s, o->url, why) && take_login(s, o, why))
		return s;
	close_s3(s);
	return NULL;
}

/* -- one request */

static CURL *handle_take(struct s3 *s)
{
	CURL *c = NULL;

	pthread_mutex_lock(&s->lock);
	if (s->n_idle)
		c = s->idle[--s->n_idle];
	pthread_mutex_unlock(&s->lock);
	if (!c)
		c = curl_easy_init();
	if (!c)
		abort();
	curl_easy_reset(c); /* connections stay */
	return c;
}

static void handle_give(struct s3 *s, CURL *c)
{
	pthread_mutex_lock(&s->lock);
	if (s->n_idle < IDLE_MAX) {
		s->idle[s->n_idle++] = c;
		c = NULL;
	}
	pthread_mutex_unlock(&s->lock);
	curl_easy_cleanup(c);
}

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
	struct answer *a = arg;

	if (n > a->max - a->body.n)
		return 0; /* more than was asked for: not to be believed */
	buf_put(&a->body, p, n);
	return n;
}

static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
	struct answer *a = arg;
	size_t from = strlen("etag:"), end = n;

	if (n <= from || strncasecmp(p, "etag:", from) != 0)
		return n;
	while (from < end && p[from] == ' ')
		from++;
	while (end > from && (p[end - 1] == '\r' || p[end - 1] == '\n'))
		end--;
	if (end - from < TAG_MAX)
		snprintf(a->tag, sizeof(a->tag), "%.*s", (int)(end - from), p + from);
	return n;
}

static struct curl_slist *headers_of(const struct request *q)
{
	char line[100] = "x-amz-content-sha256: ";
	uint8_t hash[32];
	struct curl_slist *list;

	sha256(q->body.p ? q->body.p : "", q->body.n, hash);
	hex_encode(hash, sizeof(hash), line + strlen(line));
	list = curl_slist_append(NULL, line);
	if (!list || (q->has_body && !curl_slist_append(list, "Content-Type: application/octet-stream")))
		abort();
	return list;
}

static void set_up(const struct s3 *s, CURL *c, const struct request *q, const char *url, struct answer *a)
{
	curl_easy_setopt(c, CURLOPT_URL, url);
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
	curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, s->request_ms);
	curl_easy_setopt(c, CURLOPT_EXPECT_100_TIMEOUT_MS, EXPECT_MS); /* taking "Expect" away by a header would sign a header that is not sent */
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, a);
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, a);
	if (s->login) {
		curl_easy_setopt(c, CURLOPT_AWS_SIGV4, s->sign);
		curl_easy_setopt(c, CURLOPT_USERPWD, s->login);
	}
	if (q->range)
		curl_easy_setopt(c, CURLOPT_RANGE, q->range);
	if (q->has_body) {
		curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->body.n);
		curl_easy_setopt(c, CURLOPT_POSTFIELDS, q->body.n ? q->body.p : "");
	}
	if (strcmp(q->method, "HEAD") == 0)
		curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
	else
		curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, q->method);
}

static CURLcode send_once(struct s3 *s, const struct request *q, struct answer *a)
{
	CURL *c = handle_take(s);
	struct curl_slist *headers = headers_of(q);
	struct buf url = { 0 };
	curl_off_t size = 0;
	CURLcode rc;

	buf_printf(&url, "%s%s%s%s", s->base, q->key, q->query ? "?" : "", q->query ? q->query : "");
	buf_clear(&a->body);
	a->code = 0;
	*a->tag = 0;
	set_up(s, c, q, buf_cstr(&url), a);
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
	rc = curl_easy_perform(c);
	curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &a->code);
	curl_easy_getinfo(c, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &size);
	a->size = size;
	curl_slist_free_all(headers);
	buf_fini(&url);
	handle_give(s, c);
	return rc;
}

static bool is_passing(CURLcode rc, long code)
{
	if (rc == CURLE_OK)
		return code == 429 || code == 500 || code == 502 || code == 503 || code == 504;
	return rc == CURLE_COULDNT_CONNECT || rc == CURLE_COULDNT_RESOLVE_HOST || rc == CURLE_OPERATION_TIMEDOUT || rc == CURLE_SEND_ERROR ||
	    rc == CURLE_RECV_ERROR || rc == CURLE_GOT_NOTHING || rc == CURLE_PARTIAL_FILE;
}

static void pause_before(unsigned attempt)
{
	unsigned ms = PAUSE_MS << attempt, spread;

	random_bytes(&spread, sizeof(spread));
	usleep((ms / 2 + spread % ms) * 1000);
}

/* "<Code>SignatureDoesNotMatch</Code>": for the log; of the text around it nothing, it can hold the key. */
static void describe(const struct request *q, CURLcode rc, struct answer *a, char why[BLOB_WHY])
{
	const char *from = rc == CURLE_OK && a->body.n ? strstr(buf_cstr(&a->body), "<Code>") : NULL, *end = from ? strstr(from, "</Code>") : NULL;

	if (rc != CURLE_OK)
		snprintf(why, BLOB_WHY, "%s after %u tries: %s", q->method, a->tries, curl_easy_strerror(rc));
	else
		snprintf(why, BLOB_WHY, "%s after %u tries: HTTP %ld%s%.*s", q->method, a->tries, a->code, end ? " " : "", end ? (int)(end - from - 6) : 0, end ? from + 6 : "");
}

/* True: there is an answer that trying again would not change; its code is the caller's to judge. False: none, and why says it. */
static bool perform(struct s3 *s, const struct request *q, struct answer *a, char why[BLOB_WHY])
{
	int64_t until = clock_mono_us() + TRYING_US;
	CURLcode rc;

	if (!a->max)
		a->max = ANSWER_MAX;
	for (a->tries = 1;; a->tries++) {
		rc = send_once(s, q, a);
		if (!is_passing(rc, a->code))
			break;
		if (a->tries == TRIES || clock_mono_us() > until)
			break;
		pause_before(a->tries - 1);
	}
	describe(q, rc, a, why);
	return rc == CURLE_OK && !is_passing(rc, a->code);
}

/* -- writing */

struct put {
	struct s3 *s3;
	char key[BLOB_KEY_MAX];
	struct buf part;   /* not sent yet */
	struct buf parts;  /* XML of those that are */
	unsigned n_parts;
	char *upload;      /* encoded id; NULL: nothing was sent in parts */
	bool whole;        /* it was sent at once, and may be there although no answer said so */
};

static void *put_begin(void *driver, const char *key, char why[BLOB_WHY])
{
	struct put *p = xcalloc(1, sizeof(*p));

	p->s3 = driver;
	snprintf(p->key, sizeof(p->key), "%s", key);
	return p;
}

static bool upload_begin(struct put *p, char why[BLOB_WHY])
{
	struct request q = { .method = "POST", .key = p->key, .query = "uploads=", .has_body = true };
	struct answer a = { 0 };
	const char *from, *end;
	bool ok = perform(p->s3, &q, &a, why) && a.code == 200;

	from = ok ? strstr(buf_cstr(&a.body), "<UploadId>") : NULL;
	end = from ? strstr(from, "</UploadId>") : NULL;
	if (end && end - from < UPLOAD_ID_MAX) {
		char *encoded;

		from += strlen("<UploadId>");
		encoded = curl_easy_escape(NULL, from, (int)(end - from));
		p->upload = xstrdup(encoded ? encoded : "");
		curl_free(encoded);
	} else if (ok) {
		snprintf(why, BLOB_WHY, "the store gave no upload id");
	}
	buf_fini(&a.body);
	return p->upload != NULL;
}

static bool part_send(struct put *p, char why[BLOB_WHY])
{
	struct buf query = { 0 };
	struct request q = { .method = "PUT", .key = p->key, .body = { p->part.p, p->part.n }, .has_body = true };
	struct answer a = { 0 };
	bool ok;

	if (!p->upload && !upload_begin(p, why))
		return false;
	if (++p->n_parts > PARTS_MAX) {
		snprintf(why, BLOB_WHY, "more than %d parts", PARTS_MAX);
		return false;
	}
	buf_printf(&query, "partNumber=%u&uploadId=%s", p->n_parts, p->upload);
	q.query = buf_cstr(&query);
	ok = perform(p->s3, &q, &a, why) && a.code == 200 && *a.tag;
	buf_printf(&p->parts, "<Part><PartNumber>%u</PartNumber><ETag>%s</ETag></Part>", p->n_parts, a.tag);
	buf_fini(&query);
	buf_fini(&a.body);
	buf_clear(&p->part);
	return ok;
}

static bool put_write(void *put, struct str data, char why[BLOB_WHY])
{
	struct put *p = put;

	while (data.n) {
		size_t room = PART - p->part.n, n = data.n < room ? data.n : room;

		buf_put(&p->part, data.p, n);
		data = (struct str){ data.p + n, data.n - n };
		if (data.n && p->part.n == PART && !part_send(p, why))
			return false;
	}
	return true;
}

static void put_fini(struct put *p)
{
	buf_fini(&p->part);
	buf_fini(&p->parts);
	free(p->upload);
	free(p);
}

static void put_abort(void *put)
{
	struct put *p = put;
	struct buf query = { 0 };
	struct request q = { .method = "DELETE", .key = p->key };
	struct answer a = { 0 };
	char why[BLOB_WHY];

	if (p->upload) {
		buf_printf(&query, "uploadId=%s", p->upload);
		q.query = buf_cstr(&query);
	}
	if (p->upload || p->whole)
		(void)perform(p->s3, &q, &a, why); /* parts that stay are no blob; the bucket's rule for unfinished uploads takes them */
	buf_fini(&query);
	buf_fini(&a.body);
	put_fini(p);
}

static bool whole_send(struct put *p, char why[BLOB_WHY])
{
	struct request q = { .method = "PUT", .key = p->key, .body = buf_view(&p->part), .has_body = true };
	struct answer a = { 0 };
	bool ok;

	p->whole = true;
	ok = perform(p->s3, &q, &a, why) && a.code == 200;
	buf_fini(&a.body);
	return ok;
}

/* 200 can come with an error inside; 404 on a second try says that the first one was heard. */
static bool upload_complete(struct put *p, char why[BLOB_WHY])
{
	struct buf query = { 0 }, xml = { 0 };
	struct request q = { .method = "POST", .key = p->key, .has_body = true };
	struct answer a = { 0 };
	uint64_t size;
	bool ok;

	buf_printf(&query, "uploadId=%s", p->upload);
	buf_z(&xml, "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
	buf_str(&xml, buf_view(&p->parts));
	buf_z(&xml, "</CompleteMultipartUpload>");
	q.query = buf_cstr(&query);
	q.body = buf_view(&xml);
	ok = perform(p->s3, &q, &a, why);
	if (ok && a.code == 404 && a.tries > 1)
		ok = blob_s3.head(p->s3, p->key, &size, why) == BLOB_OK;
	else
		ok = ok && a.code == 200 && !strstr(buf_cstr(&a.body), "<Error>");
	buf_fini(&query);
	buf_fini(&xml);
	buf_fini(&a.body);
	return ok;
}

static bool put_end(void *put, char why[BLOB_WHY])
{
	struct put *p = put;
	bool ok = p->upload ? part_send(p, why) && upload_complete(p, why) : whole_send(p, why);

	if (ok)
		put_fini(p);
	else
		put_abort(p);
	return ok;
}

/* -- reading and deleting */

static enum blob_outcome get(void *driver, const char *key, uint64_t offset, size_t n, struct buf *out, char why[BLOB_WHY])
{
	char range[60];
	struct request q = { .method = "GET", .key = key, .range = range };
	struct answer a = { .max = n > ANSWER_MAX ? n : ANSWER_MAX };
	enum blob_outcome o = BLOB_FAILED;

	if (n == 0)
		return BLOB_OK;
	snprintf(range, sizeof(range), "%llu-%llu", (unsigned long long)offset, (unsigned long long)(offset + n - 1));
	if (perform(driver, &q, &a, why)) {
		if (a.code == 206 && a.body.n <= n) {
			buf_str(out, buf_view(&a.body));
			o = BLOB_OK;
		} else if (a.code == 416) {
			o = BLOB_OK; /* behind the end */
		} else if (a.code == 404 && !(a.body.n && strstr(buf_cstr(&a.body), "NoSuchBucket"))) {
			o = BLOB_ABSENT;
		}
	}
	buf_fini(&a.body);
	return o;
}

static enum blob_outcome head(void *driver, const char *key, uint64_t *size, char why[BLOB_WHY])
{
	struct request q = { .method = "HEAD", .key = key };
	struct answer a = { 0 };
	enum blob_outcome o = BLOB_FAILED;

	if (perform(driver, &q, &a, why) && (a.code == 200 || a.code == 404))
		o = a.code == 200 ? BLOB_OK : BLOB_ABSENT;
	*size = a.size > 0 ? (uint64_t)a.size : 0;
	buf_fini(&a.body);
	return o;
}

static enum blob_outcome delete(void *driver, const char *key, char why[BLOB_WHY])
{
	struct request q = { .method = "DELETE", .key = key };
	struct answer a = { 0 };
	bool ok = perform(driver, &q, &a, why) && (a.code == 204 || a.code == 200 || a.code == 404);

	buf_fini(&a.body);
	return ok ? BLOB_OK : BLOB_FAILED;
}

const struct blob_driver blob_s3 = {
	.scheme = "s3:",
	.open = open_s3,
	.close = close_s3,
	.put_begin = put_begin,
	.put_write = put_write,
	.put_end = put_end,
	.put_abort = put_abort,
	.get = get,
	.head = head,
	.delete = delete,
};
