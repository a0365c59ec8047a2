/* Mail into a folder: one .eml file per message, complete as soon as it is there. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "mail/driver.h"

static void *open_folder(const char *url, const char **why)
{
	const char *path = url + strlen("folder:");

	*why = "the folder cannot be made or is none";
	if (!*path || (mkdir(path, 0700) != 0 && errno != EEXIST) || access(path, W_OK | X_OK) != 0)
		return NULL;
	return xstrdup(path);
}

static bool write_all(int fd, struct str s)
{
	while (s.n) {
		ssize_t n = write(fd, s.p, s.n);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		s = (struct str){ s.p + n, s.n - (size_t)n };
	}
	return true;
}

/* The id names the file: the same message sent twice is one file. */
static enum mail_outcome send_folder(void *driver, const struct mail_message *m, struct str printed, char why[MAIL_WHY])
{
	struct buf part = { 0 }, name = { 0 };
	bool ok;
	int fd;

	buf_printf(&name, "%s/%s.eml", (const char *)driver, m->id);
	buf_printf(&part, "%s/.%s.part", (const char *)driver, m->id);
	fd = open(buf_cstr(&part), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ok = fd >= 0 && write_all(fd, printed) && fsync(fd) == 0;
	if (fd >= 0)
		ok = close(fd) == 0 && ok;
	ok = ok && rename(buf_cstr(&part), buf_cstr(&name)) == 0;
	if (!ok)
		snprintf(why, MAIL_WHY, "the file could not be written: %m");
	buf_fini(&part);
	buf_fini(&name);
	return ok ? MAIL_SENT : MAIL_LATER;
}

const struct mail_driver mail_folder = { .scheme = "folder:", .open = open_folder, .close = free, .send = send_folder };
