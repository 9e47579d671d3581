// SPDX-License-Identifier: GPL-2.0-only
/* What has nothing to do with QEMU. */
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mount.h>

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
