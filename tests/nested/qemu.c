// SPDX-License-Identifier: GPL-2.0-only
/* QEMU from its start to its end, and what it and its guest say. */
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "host_test.h"

bool native;

static char *const always[] = {
	"-nodefaults", "-no-user-config", "-display", "none", "-m", "256",
	"-chardev", "stdio,id=console", "-serial", "chardev:console", NULL
};

char *const virt[] = {
	"-accel", "kvm", "-cpu", "host", "-M", "virt,gic-version=3", "-kernel", "Image", "-initrd", "initrd",
	"-append", "console=ttyAMA0 quiet panic=-1", NULL
};

/* RAM from address 0, and a PCI host. KVM has no such processors, and there is nothing for it to boot. */
char *const versatilepb[] = { "-accel", "tcg", "-M", "versatilepb,audiodev=none", "-audiodev", "none,id=none", "-S", NULL };

static void __attribute__((format(printf, 2, 3)))
argument(struct vm *vm, const char *fmt, ...)
{
	va_list ap;

	CHECK(vm->nr_args < MAX_ARGS - 1);
	va_start(ap, fmt);
	CHECK(vasprintf(&vm->args[vm->nr_args++], fmt, ap) >= 0);
	va_end(ap);
}

static void arguments(struct vm *vm, char *const *words)
{
	while (*words)
		argument(vm, "%s", *words++);
}

/* The program, and its monitor. */
static void begin(struct vm *vm, const char *qemu)
{
	static int number;

	*vm = (struct vm){};
	snprintf(vm->qmp, sizeof(vm->qmp), "/tmp/qmp-%d-%d", getpid(), number++);
	argument(vm, "%s", qemu);
	argument(vm, "-qmp");
	argument(vm, "unix:%s,server=on,wait=off", vm->qmp);
}

static void launch(struct vm *vm)
{
	int console[2], errors[2];

	CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, console));
	CHECK(!pipe2(errors, O_CLOEXEC));
	vm->pid = fork();
	CHECK(vm->pid >= 0);
	if (!vm->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(console[1], 0);
		dup2(console[1], 1);
		dup2(errors[1], 2);
		execv(vm->args[0], vm->args);
		dprintf(2, "%s: %s\n", vm->args[0], strerror(errno));
		_exit(127);
	}
	close(console[1]);
	close(errors[1]);
	vm->console = console[0];
	vm->errors = errors[0];
}

/* Start QEMU with further options, the words of a string. */
void start_machine(struct vm *vm, const char *qemu, char *const *machine, const char *fmt, ...)
{
	char options[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(options, sizeof(options), fmt, ap);
	va_end(ap);

	begin(vm, qemu);
	arguments(vm, always);
	arguments(vm, machine);
	if (native) {
		argument(vm, "-object");
		argument(vm, "iommufd,id=fd");
	}
	for (char *word = strtok(options, " "); word; word = strtok(NULL, " "))
		argument(vm, "%s%s", word, native && !strncmp(word, "vfio-pci,", 9) ? ",iommufd=fd" : "");
	launch(vm);
}

/* The same machine, not started yet. Its monitor is another one, since the other QEMU answers there until the kernel closes it. */
void same_machine(struct vm *vm, const struct vm *of)
{
	begin(vm, of->args[0]);
	arguments(vm, of->args + vm->nr_args);
}

/* Another QEMU with the same machine, which waits for one to take over from. */
void start_successor(struct vm *vm, const struct vm *of, const char *state, const char *cpr)
{
	same_machine(vm, of);
	argument(vm, "-incoming");
	argument(vm, "unix:%s", state);
	argument(vm, "-incoming");
	argument(vm, "{'channel-type':'cpr','addr':" UNIX_SOCKET "}", cpr);
	launch(vm);
}

/* Wait for QEMU's end; its stderr is in vm->line. */
int finish(struct vm *vm)
{
	int status = finish_program(vm->pid, vm->errors, vm->line, sizeof(vm->line));

	close(vm->console);
	unlink(vm->qmp);
	return status;
}

void died(struct vm *vm)
{
	int status;

	/* Said now, because a QEMU that did not end is waited for until the test runs out of time. */
	printf("# QEMU closed its console or its monitor\n");
	status = finish(vm);
	fail("QEMU ended with status %d and said: %s", status, vm->line);
}

/* The next line of the guest; the console has other lines, too. */
static const char *answer(struct vm *vm)
{
	static const char mark[] = "guest: ";

	for (;;) {
		char *end = memchr(vm->line, '\n', vm->filled), *found;
		static char line[sizeof(vm->line)];
		ssize_t n;

		if (end) {
			*end = '\0';
			strcpy(line, vm->line);
			vm->filled -= end + 1 - vm->line;
			memmove(vm->line, end + 1, vm->filled);
			line[strcspn(line, "\r")] = '\0';
			found = strstr(line, mark);
			if (found)
				return found + strlen(mark);
			printf("# console: %s\n", line);
			continue;
		}
		if (vm->filled == sizeof(vm->line))
			vm->filled = 0;
		n = read(vm->console, vm->line + vm->filled, sizeof(vm->line) - vm->filled);
		if (n <= 0) {
			printf("# console: %.*s\n", (int)vm->filled, vm->line);
			died(vm);
		}
		vm->filled += n;
	}
}

void expect(struct vm *vm, const char *wanted)
{
	const char *got = answer(vm);

	if (strcmp(got, wanted))
		fail("the guest says \"%s\" instead of \"%s\"", got, wanted);
}

void ask(struct vm *vm, const char *word, const char *wanted)
{
	CHECK(dprintf(vm->console, "%s\n", word) > 0);
	if (wanted)
		expect(vm, wanted);
}

/* QEMU ends and is content: what it cannot unmap it says without the word "error". */
void ends(struct vm *vm)
{
	int status = finish(vm);

	if (status || strstr(vm->line, "error") || strstr(vm->line, "unmap"))
		fail("QEMU ended with status %d and said: %s", status, vm->line);
}

void stop(struct vm *vm)
{
	ask(vm, "off", NULL);
	ends(vm);
}

/* QEMU did not start, and said why in one line. That begins with the whole option, the error itself with the property. */
void refused(struct vm *vm, int status, const char *property, const char *reason)
{
	char *end = strchr(vm->line, '\n'), error[128], *found;

	snprintf(error, sizeof(error), ": %s: ", property);
	found = strstr(vm->line, error);
	if (status != 1)
		fail("QEMU ended with status %d and said: %s", status, vm->line);
	if (!end || end[1] || !found || !strstr(found, reason))
		fail("QEMU does not say in one line \"%s\" and \"%s\": %s", error, reason, vm->line);
}

void refuses(struct vm *vm, const char *property, const char *reason)
{
	refused(vm, finish(vm), property, reason);
}

/* QEMU has said this. */
void said(struct vm *vm, const char *what)
{
	if (!strstr(vm->line, what))
		fail("QEMU does not say \"%s\": %s", what, vm->line);
}
