/* SPDX-License-Identifier: GPL-2.0-only */
/* What the tests of host_test.c are made of. Each function ends the test when something is not as it says. */
#ifndef HOST_TEST_H
#define HOST_TEST_H

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include <linux/types.h>

#define DEBIAN		"/usr/bin/qemu-system-aarch64"
#define PATCHED		"/opt/qemu/qemu-system-aarch64"

#define CONTAINER	"/dev/vfio/vfio"
#define IOMMUFD		"/dev/iommu"	/* is a container, too, if it is used like one */

#define DEFAULT_IOVA	0x08000000ULL
#define DEFAULT_SIZE	0x00100000ULL
/* Where QEMU's virt board has nothing. */
#define WINDOW_IOVA	0xf0000000ULL

#define MAX_ARGS	64

/* util.c */

#define CHECK(what) \
	do { if (!(what)) fail("%s:%d: %s: %s", __func__, __LINE__, #what, strerror(errno)); } while (0)

/* Look every so many milliseconds whether something is so, for two minutes. */
#define WAIT_FOR(what, ms, ...) \
	do { \
		for (int waited = 0; !(what); waited += (ms)) { \
			if (waited > 120000) \
				fail(__VA_ARGS__); \
			usleep((ms) * 1000); \
		} \
	} while (0)

void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *fmt, ...);
void write_file(const char *path, const char *text);
void bind_mount(const char *what, const char *where);
int finish_program(pid_t pid, int fd, char *text, size_t size);

/* QEMU, and what it says: qemu.c */

struct vm {
	pid_t pid;
	int console;		/* the guest's, both ways */
	int errors;		/* what QEMU writes to stderr */
	char line[4096];	/* of the console, and at the end what QEMU said */
	size_t filled;
	char qmp[32];
	char *args[MAX_ARGS];	/* NULL after the last, for exec and same_machine() */
	int nr_args;
};

extern bool native;	/* QEMU gets the devices with -object iommufd */
extern char *const virt[], *const versatilepb[];	/* machines */

void __attribute__((format(printf, 4, 5)))
start_machine(struct vm *vm, const char *qemu, char *const *machine, const char *fmt, ...);
#define start(vm, ...) start_machine(vm, PATCHED, virt, __VA_ARGS__)
#define boot(vm, ...) do { start(vm, __VA_ARGS__); expect(vm, "ready"); } while (0)
/* Where QEMU's monitor has another one's socket. */
#define UNIX_SOCKET	"{'transport':'socket','type':'unix','path':'%s'}"
void same_machine(struct vm *vm, const struct vm *of);
void start_successor(struct vm *vm, const struct vm *of, const char *state, const char *cpr);
void expect(struct vm *vm, const char *wanted);
void ask(struct vm *vm, const char *word, const char *wanted);
int finish(struct vm *vm);
void __attribute__((noreturn)) died(struct vm *vm);
void ends(struct vm *vm);
void stop(struct vm *vm);
void said(struct vm *vm, const char *what);
void refused(struct vm *vm, int status, const char *property, const char *reason);
void refuses(struct vm *vm, const char *property, const char *reason);

/* Its monitor: qmp.c */

/* Where plug() puts a device, whose id is "hot". */
#define PORT	"-device pcie-root-port,id=empty,chassis=1,power_controller_present=off"

void plug(struct vm *vm, const char *bdf, const char *properties);
void plug_refused(struct vm *vm, const char *bdf, const char *properties, const char *reason);
void plug_again(struct vm *vm, const char *bdf, const char *properties);
void unplug(struct vm *vm, const char *id);
void made(struct vm *vm);
void quit(struct vm *vm);
void live_update(struct vm *vm);
void live_transfer(struct vm *vm);

/* The window, as the host sees it: window.c */

bool offers_extension(const char *path);
void msi_is_in(const char *bdf, __u64 iova, __u64 size);
void doorbell_is_in(struct vm *vm, const char *bdf, __u64 iova, __u64 size);
void registered_is(struct vm *vm, __u64 iova, __u64 size);
void expect_window(struct vm *vm, __u64 iova);
void wait_for_window(struct vm *vm, __u64 iova);

#endif
