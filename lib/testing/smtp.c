/* The SMTP server of tests: a child that dies with the test. */
#include "testing/smtp.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"

#define PROGRAM "lib/testing/smtp_server"
#define MESSAGE_MAX 65536

static void become_server(const struct test_smtp *s, int out)
{
	char port[16];

	snprintf(port, sizeof(port), "%d", s->port);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(out, 1);
	execl(PROGRAM, PROGRAM, s->dir, s->mode, port, (char *)NULL);
	_exit(127);
}

bool test_smtp_start(struct test_smtp *s)
{
	char text[16] = "";
	int fd[2];

	if (pipe(fd) != 0)
		return false;
	s->pid = fork();
	if (s->pid == 0)
		become_server(s, fd[1]);
	close(fd[1]);
	if (read(fd[0], text, sizeof(text) - 1) > 0)
		s->port = atoi(text);
	else
		test_smtp_stop(s);
	close(fd[0]);
	return s->pid > 0;
}

void test_smtp_stop(struct test_smtp *s)
{
	if (s->pid <= 0)
		return;
	kill(s->pid, SIGKILL);
	waitpid(s->pid, NULL, 0);
	s->pid = 0;
}

static FILE *open_in(const struct test_smtp *s, const char *name, const char *mode)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", s->dir, name);
	return fopen(path, mode);
}

char *test_smtp_taken(const struct test_smtp *s, int n)
{
	char name[32], *text;
	FILE *f;

	snprintf(name, sizeof(name), "%s-%d.eml", s->mode, n);
	f = open_in(s, name, "re");
	if (!f)
		return NULL;
	text = xcalloc(1, MESSAGE_MAX + 1);
	text[fread(text, 1, MESSAGE_MAX, f)] = 0;
	fclose(f);
	return text;
}

void test_smtp_show(const struct test_smtp *s, const char *certificate)
{
	FILE *f = open_in(s, "certificate", "we");

	if (!f || fputs(certificate, f) < 0 || fclose(f) != 0)
		abort();
}
