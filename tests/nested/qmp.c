// SPDX-License-Identifier: GPL-2.0-only
/* QEMU's monitor: devices come and go, QEMU replaces itself. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "host_test.h"

/* One command of QEMU's monitor; returns what it says. */
static char *qmp(struct vm *vm, const char *command)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	static char reply[4096];
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	size_t filled = 0;
	ssize_t n;

	strcpy(address.sun_path, vm->qmp);
	for (int ms = 0; connect(fd, (void *)&address, sizeof(address)); ms += 10) {
		siginfo_t ended = {};

		CHECK(!waitid(P_PID, vm->pid, &ended, WEXITED | WNOHANG | WNOWAIT));
		if (ended.si_pid)
			died(vm);
		CHECK(ms < 60000);
		usleep(10000);
	}
	dprintf(fd, "{\"execute\":\"qmp_capabilities\"}\n%s\n", command);
	/* The greeting, and two answers; there may be events. */
	for (int lines = 0; lines < 2;) {
		char *line = reply + filled, *end;

		n = read(fd, line, sizeof(reply) - 1 - filled);
		if (n <= 0)
			died(vm);
		filled += n;
		reply[filled] = '\0';
		lines = 0;
		for (line = reply; (end = strchr(line, '\n')); line = end + 1)
			if (!strncmp(line, "{\"return\"", 9) || !strncmp(line, "{\"error\"", 8))
				lines++;
	}
	close(fd);
	return reply;
}

/* QEMU does what its monitor is told, or refuses to, in these words. */
void tell(struct vm *vm, const char *command, const char *refusal)
{
	char *reply = qmp(vm, command);

	if (refusal ? !strstr(reply, refusal) : !!strstr(reply, "\"error\""))
		fail("QEMU says: %s", reply);
}

static char *device_add(const char *bdf, const char *property)
{
	static char command[512];

	snprintf(command, sizeof(command),
		 "{\"execute\":\"device_add\",\"arguments\":{\"driver\":\"vfio-pci\",\"bus\":\"empty\",\"id\":\"hot\",\"host\":\"%s\"%s%s}}",
		 bdf, native ? ",\"iommufd\":\"fd\"" : "", property);
	return command;
}

void plug(struct vm *vm, const char *bdf, const char *property, const char *refusal)
{
	tell(vm, device_add(bdf, property), refusal);
}

void unplug(struct vm *vm)
{
	tell(vm, "{\"execute\":\"device_del\",\"arguments\":{\"id\":\"hot\"}}", NULL);
}

/* What was unplugged goes in QEMU's own time, and cannot come back before. */
void plug_again(struct vm *vm, const char *bdf, const char *property)
{
	char *reply;

	for (int ms = 0; strstr(reply = qmp(vm, device_add(bdf, property)), "\"error\""); ms += 10) {
		if (ms > 60000)
			fail("QEMU says: %s", reply);
		usleep(10000);
	}
}

/* QEMU has made the machine, which -S keeps from running: there are things to see without a guest that boots. */
void made(struct vm *vm)
{
	tell(vm, "{\"execute\":\"query-status\"}", NULL);
}

void quit(struct vm *vm)
{
	tell(vm, "{\"execute\":\"quit\"}", NULL);
	ends(vm);
}

/* QEMU is told to replace itself by another one with the same options. */
void live_update(struct vm *vm)
{
	char command[4096];
	int n;

	tell(vm, "{\"execute\":\"migrate-set-parameters\",\"arguments\":{\"mode\":\"cpr-exec\"}}", NULL);
	n = sprintf(command, "{\"execute\":\"migrate-set-parameters\",\"arguments\":{\"cpr-exec-command\":[");
	for (char **arg = vm->args; *arg; arg++)
		n += sprintf(command + n, "\"%s\",", *arg);
	sprintf(command + n, "\"-incoming\",\"file:/tmp/cpr\"]}}");
	tell(vm, command, NULL);
	tell(vm, "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"file:/tmp/cpr\"}}", NULL);
}

void wait_for_new_qemu(struct vm *vm)
{
	char path[64], command[4096];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", vm->pid);
	for (int ms = 0; ; ms += 100) {
		fd = open(path, O_RDONLY);
		CHECK(fd >= 0);
		n = read(fd, command, sizeof(command));
		close(fd);
		if (n > 0 && memmem(command, n, "-incoming", 9))
			break;
		if (ms > 120000)
			fail("QEMU does not replace itself: %s", qmp(vm, "{\"execute\":\"query-migrate\"}"));
		usleep(100000);
	}
	for (int ms = 0; !strstr(qmp(vm, "{\"execute\":\"query-status\"}"), "\"running\": true"); ms += 100) {
		if (ms > 120000)
			fail("the new QEMU does not run");
		usleep(100000);
	}
}
