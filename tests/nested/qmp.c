// SPDX-License-Identifier: GPL-2.0-only
/* QEMU's monitor: devices come and go, QEMU replaces itself. */
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "host_test.h"

/* The monitor is there a while after QEMU is. */
static bool connected(struct vm *vm, int fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	siginfo_t ended = {};

	strcpy(address.sun_path, vm->qmp);
	if (!connect(fd, (void *)&address, sizeof(address)))
		return true;
	CHECK(!waitid(P_PID, vm->pid, &ended, WEXITED | WNOHANG | WNOWAIT));
	if (ended.si_pid)
		died(vm);
	return false;
}

/* One command of QEMU's monitor, and its arguments as JSON, with single quotes; returns what it says. */
static char *qmp(struct vm *vm, const char *command, const char *arguments)
{
	static char reply[4096];
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	size_t filled = 0;
	ssize_t n;

	WAIT_FOR(connected(vm, fd), 10, "QEMU has no monitor");
	dprintf(fd, "{'execute':'qmp_capabilities'}\n{'execute':'%s','arguments':{%s}}\n", command, arguments);
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

static bool failed(const char *reply)
{
	return strstr(reply, "\"error\"");
}

static void no_error(const char *reply)
{
	if (failed(reply))
		fail("QEMU says: %s", reply);
}

/* QEMU does what its monitor is told. */
static void tell(struct vm *vm, const char *command, const char *arguments)
{
	no_error(qmp(vm, command, arguments));
}

/* Another igb at PORT, with properties as the command line has them. JSON has no quotes around numbers. */
static char *add(struct vm *vm, const char *bdf, const char *properties)
{
	char arguments[512], copy[256];
	int n;

	n = sprintf(arguments, "'driver':'vfio-pci','bus':'empty','id':'hot','host':'%s'%s", bdf, native ? ",'iommufd':'fd'" : "");
	snprintf(copy, sizeof(copy), "%s", properties);
	for (char *name = strtok(copy, "="); name; name = strtok(NULL, "=")) {
		char *value = strtok(NULL, ",");
		const char *quote = value[strspn(value, "0123456789")] ? "'" : "";

		n += snprintf(arguments + n, sizeof(arguments) - n, ",'%s':%s%s%s", name, quote, value, quote);
	}
	return qmp(vm, "device_add", arguments);
}

void plug(struct vm *vm, const char *bdf, const char *properties)
{
	no_error(add(vm, bdf, properties));
}

/* It is refused, in these words. */
void plug_refused(struct vm *vm, const char *bdf, const char *properties, const char *reason)
{
	char *reply = add(vm, bdf, properties);

	if (!strstr(reply, reason))
		fail("QEMU says: %s", reply);
}

void unplug(struct vm *vm, const char *id)
{
	char arguments[64];

	snprintf(arguments, sizeof(arguments), "'id':'%s'", id);
	tell(vm, "device_del", arguments);
}

/* What was unplugged goes in QEMU's own time, and cannot come back before. */
void plug_again(struct vm *vm, const char *bdf, const char *properties)
{
	char *reply;

	WAIT_FOR(!failed(reply = add(vm, bdf, properties)), 10, "QEMU says: %s", reply);
}

/* QEMU has made the machine, which -S keeps from running: there are things to see without a guest that boots. */
void made(struct vm *vm)
{
	tell(vm, "query-status", "");
}

void quit(struct vm *vm)
{
	tell(vm, "quit", "");
	ends(vm);
}

static bool runs(struct vm *vm)
{
	return strstr(qmp(vm, "query-status", ""), "\"running\": true");
}

/* QEMU replaces itself by one with the same options, and that runs. */
void live_update(struct vm *vm)
{
	char arguments[4096];
	struct vm new;
	int n;

	same_machine(&new, vm);
	tell(vm, "migrate-set-parameters", "'mode':'cpr-exec'");
	n = sprintf(arguments, "'cpr-exec-command':[");
	for (char **arg = new.args; *arg; arg++)
		n += sprintf(arguments + n, "'%s',", *arg);
	sprintf(arguments + n, "'-incoming','file:/tmp/cpr']");
	tell(vm, "migrate-set-parameters", arguments);
	tell(vm, "migrate", "'uri':'file:/tmp/cpr'");
	WAIT_FOR(!access(new.qmp, F_OK), 100, "QEMU does not replace itself: %s", qmp(vm, "query-migrate", ""));
	unlink(vm->qmp);
	strcpy(vm->qmp, new.qmp);
	WAIT_FOR(runs(vm), 100, "the new QEMU does not run");
}

/* Another QEMU with the same options takes over, and that runs. */
void live_transfer(struct vm *vm)
{
	static const char state[] = "/tmp/state.socket", cpr[] = "/tmp/cpr.socket";
	char arguments[512], *reply;
	struct vm old = *vm;

	start_successor(vm, &old, state, cpr);
	tell(&old, "migrate-set-parameters", "'mode':'cpr-transfer'");
	snprintf(arguments, sizeof(arguments), "'channels':[{'channel-type':'main','addr':" UNIX_SOCKET "},{'channel-type':'cpr','addr':" UNIX_SOCKET "}]",
		 state, cpr);
	/* The new one listens a while after it was started, and has no monitor before it knows what it gets. */
	WAIT_FOR(!failed(reply = qmp(&old, "migrate", arguments)), 10, "QEMU says: %s", reply);
	WAIT_FOR(runs(vm), 100, "the new QEMU does not run: %s", qmp(&old, "query-migrate", ""));
	quit(&old);
	unlink(state);
	unlink(cpr);
}
