// SPDX-License-Identifier: GPL-2.0-only
/* What has nothing to do with QEMU. */
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "kselftest.h"
#include "host_test.h"

void fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	printf("# ");
	vprintf(fmt, ap);
	printf("\n");
	fflush(stdout);
	_exit(KSFT_FAIL);
}

void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	CHECK(fd >= 0);
	CHECK(write(fd, text, strlen(text)) > 0);
	close(fd);
}

/* What is at one path is at another, too, for this test and its children. */
void bind_mount(const char *what, const char *where)
{
	CHECK(!unshare(CLONE_NEWNS));
	CHECK(!mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	CHECK(!mount(what, where, NULL, MS_BIND, NULL));
}

/* Wait for a program's end. What it says is read from a file, and is a string then; returns the exit status. */
int finish_program(pid_t pid, int fd, char *text, size_t size)
{
	size_t filled = 0;
	int status;
	ssize_t n;

	while ((n = read(fd, text + filled, size - 1 - filled)) > 0)
		filled += n;
	text[filled] = '\0';
	CHECK(waitpid(pid, &status, 0) == pid);
	close(fd);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
