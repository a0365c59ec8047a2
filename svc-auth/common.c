/* A binary search over the lines of a mapped file. */
#include "common.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

static struct str list;

static struct str line_at(size_t at)
{
	const char *end = memchr(list.p + at, '\n', list.n - at);

	return (struct str){ list.p + at, (end ? (size_t)(end - list.p) : list.n) - at };
}

static int compare(struct str a, struct str b)
{
	int d = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);

	return d ? d : (a.n > b.n) - (a.n < b.n);
}

static bool is_sorted(void)
{
	struct str before = { "", 0 };

	for (size_t at = 0; at < list.n;) {
		struct str line = line_at(at);

		if (compare(before, line) >= 0)
			return false;
		for (size_t i = 0; i < line.n; i++) {
			if (line.p[i] >= 'A' && line.p[i] <= 'Z')
				return false;
		}
		before = line;
		at += line.n + 1;
	}
	return true;
}

void common_open(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *at;

	if (fd < 0 || fstat(fd, &st) != 0 || st.st_size == 0)
		log_die("AUTH-COMMON", "the list of common passwords, %s (COMMON_PASSWORDS_FILE), cannot be read or is empty", path);
	at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (at == MAP_FAILED)
		log_die("AUTH-COMMON", "%s cannot be mapped", path);
	list = (struct str){ at, (size_t)st.st_size };
	if (!is_sorted())
		log_die("AUTH-COMMON", "%s must have one password a line, lower case, in the order of `LC_ALL=C sort -u`", path);
}

static bool find(struct str word)
{
	size_t low = 0, high = list.n;

	while (low < high) {
		size_t at = low + (high - low) / 2;
		struct str line;
		int d;

		while (at > low && list.p[at - 1] != '\n')
			at--;
		line = line_at(at);
		d = compare(word, line);
		if (d == 0)
			return true;
		if (d < 0)
			high = at;
		else
			low = at + line.n + 1;
	}
	return false;
}

bool common_has(struct str password)
{
	char lower[PASSWORD_MAX_BYTES];
	bool found;

	if (password.n > sizeof(lower))
		return false;
	for (size_t i = 0; i < password.n; i++)
		lower[i] = password.p[i] >= 'A' && password.p[i] <= 'Z' ? (char)(password.p[i] | 0x20) : password.p[i];
	found = find((struct str){ lower, password.n });
	OPENSSL_cleanse(lower, sizeof(lower));
	return found;
}

bool password_acceptable(struct rpc_call *call, const char *path, const char *password)
{
	struct str s = str_of(password);

	if (s.n > PASSWORD_MAX_BYTES)
		rpc_violate(call, path, "max_len", "must be at most 1024 bytes", "1024");
	else if (common_has(s))
		rpc_violate(call, path, "common", "is one of the passwords that are tried first; choose another", NULL);
	else
		return true;
	return false;
}
