// SPDX-License-Identifier: GPL-2.0-only
/*
 * QEMU on the virtual host, with a guest that has the host's igbs: does the guest's driver work, and where does the host map the
 * doorbells?
 *
 *   host_test [OPTION of the test harness]... BDF BDF [BDF...]
 *
 * The devices are bound to vfio-pci and behind different IOMMUs. The guest is guest.c on the host's own kernel, ./Image and
 * ./initrd. /usr/bin has Debian's QEMU, /opt/qemu that of patches/qemu.
 *
 *    unmodified QEMU					debian
 *    patched QEMU that is not told where		default_window
 *    that is told, or chooses				window, window_size, automatic
 *    device reset, guest reboot			window
 *    a BAR over the window				bar
 *    several devices, behind several IOMMUs		shared, hotplug, hotplug_late, unplug
 *    two QEMUs, each with its window			second_container
 *    a guest with an IOMMU				virtio_iommu
 *    a device that the host has no IOMMU for		mediated
 *    on a kernel without the extension			no_extension
 *    as many mappings as there can be			no_entry_left
 *    what cannot be is refused in one line		refused.*
 *
 * and a VMM whose guest has RAM from address 0, which QEMU's virt board cannot, docs/examples/vmm.c:
 *
 *    in the way of the default window			vmm.default_window
 *    with the window elsewhere				vmm.window
 *    with the window in the guest's memory		vmm.over_ram
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/vfio.h>

#include "kselftest_harness.h"

#define DEBIAN		"/usr/bin/qemu-system-aarch64"
#define PATCHED		"/opt/qemu/qemu-system-aarch64"

#define DEFAULT_IOVA	0x08000000ULL
#define DEFAULT_SIZE	0x00100000ULL
/* Where QEMU's virt board has nothing. */
#define WINDOW_IOVA	0xf0000000ULL
#define RAM_IOVA	0x40000000ULL

#define TIMEOUT		300	/* seconds, of a test; ten times what one takes */
#define REFUSED_TIMEOUT	60	/* of one in which no guest boots */
#define MAX_ARGS	64

static char **bdfs;

#define IGB_MSIX_BAR	3
#define MDEV		"c9abdcb8-4dbe-4d5c-a3a8-1f2b0a6e7d11"

/* QEMU, and what it says. */
struct vm {
	pid_t pid;
	int console;		/* the guest's, both ways */
	int errors;		/* what QEMU writes to stderr */
	char line[1024];	/* of the console */
	size_t filled;
	char qmp[32];
};

static void __attribute__((noreturn, format(printf, 1, 2)))
fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	printf("# ");
	vprintf(fmt, ap);
	printf("\n");
	fflush(stdout);
	_exit(KSFT_FAIL);
}

#define CHECK(what) \
	do { if (!(what)) fail("%s:%d: %s: %s", __func__, __LINE__, #what, strerror(errno)); } while (0)

/* Start QEMU with further options, the words of a string. */
static void __attribute__((format(printf, 3, 4)))
start(struct vm *vm, const char *qemu, const char *fmt, ...)
{
	static int number;
	char *args[MAX_ARGS] = {
		(char *)qemu, "-nodefaults", "-no-user-config", "-display", "none", "-accel", "kvm", "-cpu", "host",
		"-M", "virt,gic-version=3", "-m", "256", "-kernel", "Image", "-initrd", "initrd",
		"-append", "console=ttyAMA0 quiet panic=-1", "-chardev", "stdio,id=console", "-serial", "chardev:console",
		"-qmp",
	};
	int console[2], errors[2], n = 0;
	char options[2048], chardev[64];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(options, sizeof(options), fmt, ap);
	va_end(ap);

	*vm = (struct vm){};
	snprintf(vm->qmp, sizeof(vm->qmp), "/tmp/qmp-%d-%d", getpid(), number++);
	snprintf(chardev, sizeof(chardev), "unix:%s,server=on,wait=off", vm->qmp);
	while (args[n])
		n++;
	args[n++] = chardev;
	for (char *word = strtok(options, " "); word && n < MAX_ARGS - 1; word = strtok(NULL, " "))
		args[n++] = word;

	CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, console));
	CHECK(!pipe2(errors, O_CLOEXEC));
	vm->pid = fork();
	CHECK(vm->pid >= 0);
	if (!vm->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(console[1], 0);
		dup2(console[1], 1);
		dup2(errors[1], 2);
		execv(qemu, args);
		dprintf(2, "%s: %s\n", qemu, strerror(errno));
		_exit(127);
	}
	close(console[1]);
	close(errors[1]);
	vm->console = console[0];
	vm->errors = errors[0];
}

/* Wait for QEMU's end; its stderr is in vm->line. */
static int finish(struct vm *vm)
{
	ssize_t n;
	int status;

	for (vm->filled = 0; vm->filled < sizeof(vm->line) - 1; vm->filled += n) {
		n = read(vm->errors, vm->line + vm->filled, sizeof(vm->line) - 1 - vm->filled);
		if (n <= 0)
			break;
	}
	vm->line[vm->filled] = '\0';
	CHECK(waitpid(vm->pid, &status, 0) == vm->pid);
	close(vm->console);
	close(vm->errors);
	unlink(vm->qmp);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
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
			int status;

			printf("# console: %.*s\n", (int)vm->filled, vm->line);
			status = finish(vm);
			fail("QEMU ended with status %d and said: %s", status, vm->line);
		}
		vm->filled += n;
	}
}

static void expect(struct vm *vm, const char *wanted)
{
	const char *got = answer(vm);

	if (strcmp(got, wanted))
		fail("the guest says \"%s\" instead of \"%s\"", got, wanted);
}

static void ask(struct vm *vm, const char *word, const char *wanted)
{
	CHECK(dprintf(vm->console, "%s\n", word) > 0);
	if (wanted)
		expect(vm, wanted);
}

static void stop(struct vm *vm)
{
	int status;

	ask(vm, "off", NULL);
	status = finish(vm);
	if (status || strstr(vm->line, "error"))
		fail("QEMU ended with status %d and said: %s", status, vm->line);
}

/* What QEMU itself sees of the container: its own file, taken out of it. */
static int container(struct vm *vm)
{
	char path[64], target[64];
	int pidfd = syscall(SYS_pidfd_open, vm->pid, 0), fd;

	CHECK(pidfd >= 0);
	for (fd = 0; fd < 1024; fd++) {
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", vm->pid, fd);
		n = readlink(path, target, sizeof(target) - 1);
		if (n < 0)
			continue;
		target[n] = '\0';
		if (!strcmp(target, "/dev/vfio/vfio"))
			break;
	}
	fd = syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	CHECK(fd >= 0);
	close(pidfd);
	return fd;
}

static bool geometry(struct vm *vm, struct vfio_iommu_type1_info_cap_msi_geometry *geometry)
{
	union {
		struct vfio_iommu_type1_info info;
		char bytes[4096];
	} u = { .info.argsz = sizeof(u) };
	struct vfio_info_cap_header *header;
	int fd = container(vm);

	CHECK(!ioctl(fd, VFIO_IOMMU_GET_INFO, &u.info));
	close(fd);
	for (__u32 at = u.info.cap_offset; at; at = header->next) {
		header = (void *)(u.bytes + at);
		if (header->id == VFIO_IOMMU_TYPE1_INFO_CAP_MSI_GEOMETRY) {
			memcpy(geometry, header, sizeof(*geometry));
			return true;
		}
	}
	return false;
}

/* Where the device itself says that its first MSI goes. */
static __u64 msix_address(const char *bdf)
{
	char path[128];
	volatile __u32 *table;
	__u64 address;
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource%d", bdf, IGB_MSIX_BAR);
	fd = open(path, O_RDWR);
	CHECK(fd >= 0);
	table = mmap(NULL, getpagesize(), PROT_READ, MAP_SHARED, fd, 0);
	CHECK(table != MAP_FAILED);
	address = table[0] | (__u64)table[1] << 32;
	munmap((void *)table, getpagesize());
	close(fd);
	return address;
}

static void doorbell_is_in(struct vm *vm, const char *bdf, __u64 iova, __u64 size)
{
	struct vfio_iommu_type1_info_cap_msi_geometry g;
	__u64 address = msix_address(bdf);

	if (address < iova || address >= iova + size)
		fail("the MSIs of %s go to 0x%llx", bdf, address);
	if (!geometry(vm, &g)) {
		CHECK(iova == DEFAULT_IOVA);
		return;
	}
	if (g.iova != iova || g.size != size || !g.doorbells)
		fail("the geometry has 0x%llx, size 0x%llx, %u doorbells", g.iova, g.size, g.doorbells);
	CHECK(!!(g.flags & VFIO_IOMMU_MSI_GEOMETRY_REGISTERED) == (iova != DEFAULT_IOVA));
}

static bool window_is(struct vm *vm, __u64 iova)
{
	struct vfio_iommu_type1_info_cap_msi_geometry g;

	CHECK(geometry(vm, &g));
	return g.iova == iova;
}

static void expect_window(struct vm *vm, __u64 iova)
{
	if (!window_is(vm, iova))
		fail("the window is not at 0x%llx", iova);
}

/* A device that QEMU gives up goes in QEMU's own time. */
static void wait_for_window(struct vm *vm, __u64 iova)
{
	for (int ms = 0; !window_is(vm, iova); ms += 10) {
		if (ms > 60000)
			fail("the window does not get to 0x%llx", iova);
		usleep(10000);
	}
}

static bool has_extension(void)
{
	int fd = open("/dev/vfio/vfio", O_RDWR);
	bool has;

	CHECK(fd >= 0);
	has = ioctl(fd, VFIO_CHECK_EXTENSION, VFIO_RESERVED_MSI_IOVA) == 1;
	close(fd);
	return has;
}

/* QEMU did not start, and said why in one line with all of these words. */
static void refused(struct vm *vm, int status, const char *property, const char *reason)
{
	char *end = strchr(vm->line, '\n');

	if (status != 1)
		fail("QEMU ended with status %d and said: %s", status, vm->line);
	if (!end || end[1] || !strstr(vm->line, property) || !strstr(vm->line, reason))
		fail("QEMU does not say in one line \"%s\" and \"%s\": %s", property, reason, vm->line);
}

static void refuses(struct vm *vm, const char *property, const char *reason)
{
	refused(vm, finish(vm), property, reason);
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	CHECK(fd >= 0);
	CHECK(write(fd, text, strlen(text)) > 0);
	close(fd);
}

#define NEEDS_EXTENSION() \
	do { \
		if (!has_extension()) \
			SKIP(return, "this kernel has no VFIO_RESERVED_MSI_IOVA"); \
	} while (0)

/* One command of QEMU's monitor; returns what it says. */
static char *qmp(struct vm *vm, const char *command)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	static char reply[4096];
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	size_t filled = 0;
	ssize_t n;

	strcpy(address.sun_path, vm->qmp);
	CHECK(!connect(fd, (void *)&address, sizeof(address)));
	dprintf(fd, "{\"execute\":\"qmp_capabilities\"}\n%s\n", command);
	/* The greeting, and two answers; there may be events. */
	for (int lines = 0; lines < 2;) {
		char *line = reply + filled, *end;

		n = read(fd, line, sizeof(reply) - 1 - filled);
		CHECK(n > 0);
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

/* The whole life of a guest with one igb; "test" does more than "msix" and takes longer, see guest.c. */
static void life(const char *qemu, const char *property, __u64 iova, __u64 size, const char *what)
{
	struct vm vm;

	start(&vm, qemu, "-device vfio-pci,host=%s%s", bdfs[0], property);
	expect(&vm, "ready");
	ask(&vm, what, "1 tested");
	doorbell_is_in(&vm, bdfs[0], iova, size);
	stop(&vm);
}

FIXTURE(qemu) {
};

FIXTURE_SETUP(qemu)
{
}

FIXTURE_TEARDOWN(qemu)
{
}

TEST_F_TIMEOUT(qemu, debian, TIMEOUT)
{
	life(DEBIAN, "", DEFAULT_IOVA, DEFAULT_SIZE, "test");
}

TEST_F_TIMEOUT(qemu, default_window, TIMEOUT)
{
	life(PATCHED, "", DEFAULT_IOVA, DEFAULT_SIZE, "test");
}

TEST_F_TIMEOUT(qemu, no_extension, REFUSED_TIMEOUT)
{
	struct vm vm;

	if (has_extension())
		SKIP(return, "this kernel has VFIO_RESERVED_MSI_IOVA");
	start(&vm, PATCHED, "-device vfio-pci,host=%s,x-msi-iova=auto", bdfs[0]);
	refuses(&vm, "x-msi-iova=auto", "lacks VFIO_RESERVED_MSI_IOVA");
}

/* Reset and reboot in the same guest: each boot takes a while. */
TEST_F_TIMEOUT(qemu, window, TIMEOUT)
{
	struct vm vm;

	NEEDS_EXTENSION();
	start(&vm, PATCHED, "-device vfio-pci,host=%s,x-msi-iova=0x%llx", bdfs[0], WINDOW_IOVA);
	expect(&vm, "ready");
	ask(&vm, "msix", "1 tested");
	doorbell_is_in(&vm, bdfs[0], WINDOW_IOVA, DEFAULT_SIZE);

	ask(&vm, "reset", "reset");
	ask(&vm, "msix", "1 tested");
	doorbell_is_in(&vm, bdfs[0], WINDOW_IOVA, DEFAULT_SIZE);

	ask(&vm, "reboot", "ready");
	ask(&vm, "test", "1 tested");
	doorbell_is_in(&vm, bdfs[0], WINDOW_IOVA, DEFAULT_SIZE);
	stop(&vm);
}

TEST_F_TIMEOUT(qemu, window_size, TIMEOUT)
{
	NEEDS_EXTENSION();
	life(PATCHED, ",x-msi-iova=0x0f000000,x-msi-iova-size=64k", 0x0f000000, 0x10000, "msix");
}

TEST_F_TIMEOUT(qemu, automatic, TIMEOUT)
{
	NEEDS_EXTENSION();
	life(PATCHED, ",x-msi-iova=auto", 0xfff00000, DEFAULT_SIZE, "msix");
}

/* QEMU cannot map a BAR over the window, exactly or in part. When it goes away again the window stays, used or not. */
TEST_F_TIMEOUT(qemu, bar, TIMEOUT)
{
	struct vm vm;

	NEEDS_EXTENSION();
	start(&vm, PATCHED, "-device vfio-pci,host=%s,x-msi-iova=0x3e000000,x-msi-iova-size=128k", bdfs[0]);
	expect(&vm, "ready");
	ask(&vm, "bar 0 0x3e000000", "moved");
	expect_window(&vm, 0x3e000000);
	ask(&vm, "bar 3 0x3e004000", "moved");
	expect_window(&vm, 0x3e000000);
	ask(&vm, "msix", "1 tested");
	doorbell_is_in(&vm, bdfs[0], 0x3e000000, 0x20000);
	stop(&vm);
	if (!strstr(vm.line, "overlap gpex_mmio_window") || !strstr(vm.line, "peer-to-peer") || strstr(vm.line, "unmap"))
		fail("QEMU does not warn of the address or the BAR, or complains of more: %s", vm.line);
}

/* The guest's IOMMU is bypassed at first. */
TEST_F_TIMEOUT(qemu, virtio_iommu, TIMEOUT)
{
	struct vm vm;

	NEEDS_EXTENSION();
	start(&vm, PATCHED, "-device virtio-iommu-pci -device vfio-pci,host=%s,x-msi-iova=auto", bdfs[0]);
	expect(&vm, "ready");
	ask(&vm, "resv 0x00000000fff00000", "reserved");
	ask(&vm, "test", "1 tested");
	doorbell_is_in(&vm, bdfs[0], 0xfff00000, DEFAULT_SIZE);
	stop(&vm);
}

/* Its container has no IOVA ranges: any will do. */
TEST_F_TIMEOUT(qemu, mediated, TIMEOUT)
{
	struct vm vm;

	NEEDS_EXTENSION();
	write_file("/sys/class/mdev_bus/mtty/mdev_supported_types/mtty-1/create", MDEV);
	start(&vm, PATCHED, "-device vfio-pci,sysfsdev=/sys/bus/mdev/devices/" MDEV ",x-msi-iova=auto");
	expect(&vm, "ready");
	expect_window(&vm, 0xfff00000);
	stop(&vm);
	write_file("/sys/bus/mdev/devices/" MDEV "/remove", "1");
}

/* The second is behind another IOMMU, and the order does not matter. */
TEST_F_TIMEOUT(qemu, shared, TIMEOUT)
{
	struct vm vm;

	NEEDS_EXTENSION();
	start(&vm, PATCHED, "-device vfio-pci,host=%s -device vfio-pci,host=%s,x-msi-iova=0x%llx", bdfs[0], bdfs[1], WINDOW_IOVA);
	expect(&vm, "ready");
	ask(&vm, "msix", "2 tested");
	doorbell_is_in(&vm, bdfs[0], WINDOW_IOVA, DEFAULT_SIZE);
	doorbell_is_in(&vm, bdfs[1], WINDOW_IOVA, DEFAULT_SIZE);
	stop(&vm);
}

#define PORT	"-device pcie-root-port,id=empty,chassis=1,power_controller_present=off"

/* QEMU does what its monitor is told, or refuses to, in these words. */
static void tell(struct vm *vm, const char *command, const char *refusal)
{
	char *reply = qmp(vm, command);

	if (refusal ? !strstr(reply, refusal) : !!strstr(reply, "\"error\""))
		fail("QEMU says: %s", reply);
}

static void plug(struct vm *vm, const char *bdf, const char *property, const char *refusal)
{
	char command[512];

	snprintf(command, sizeof(command),
		 "{\"execute\":\"device_add\",\"arguments\":{\"driver\":\"vfio-pci\",\"bus\":\"empty\",\"id\":\"hot\",\"host\":\"%s\"%s}}",
		 bdf, property);
	tell(vm, command, refusal);
}

static void unplug(struct vm *vm)
{
	tell(vm, "{\"execute\":\"device_del\",\"arguments\":{\"id\":\"hot\"}}", NULL);
}

TEST_F_TIMEOUT(qemu, hotplug, TIMEOUT)
{
	struct vm vm;

	NEEDS_EXTENSION();
	start(&vm, PATCHED, PORT " -device vfio-pci,host=%s,x-msi-iova=0x%llx", bdfs[0], WINDOW_IOVA);
	expect(&vm, "ready");
	ask(&vm, "msix", "1 tested");

	/* One that asks for another window is refused, and the guest does not suffer. */
	plug(&vm, bdfs[1], ",\"x-msi-iova\":\"0xe0000000\"",
	     "x-msi-iova=0xe0000000: the container has its MSI doorbells at 0xf0000000");
	ask(&vm, "msix", "1 tested");

	plug(&vm, bdfs[1], "", NULL);
	ask(&vm, "rescan", "rescanned");
	ask(&vm, "test", "2 tested");
	doorbell_is_in(&vm, bdfs[0], WINDOW_IOVA, DEFAULT_SIZE);
	doorbell_is_in(&vm, bdfs[1], WINDOW_IOVA, DEFAULT_SIZE);
	stop(&vm);
}

/* The first to ask comes when the other's doorbell is mapped. */
TEST_F_TIMEOUT(qemu, hotplug_late, TIMEOUT)
{
	struct vm vm;

	NEEDS_EXTENSION();
	start(&vm, PATCHED, PORT " -device vfio-pci,host=%s", bdfs[0]);
	expect(&vm, "ready");
	ask(&vm, "msix", "1 tested");
	plug(&vm, bdfs[1], ",\"x-msi-iova\":\"0xf0000000\"", "x-msi-iova=0xf0000000: too late");
	ask(&vm, "msix", "1 tested");
	doorbell_is_in(&vm, bdfs[0], DEFAULT_IOVA, DEFAULT_SIZE);
	stop(&vm);
}

/*
 * A window goes with the last device that asked for it, even if that was never there, and stays while it is used. Function 1 of a
 * slot goes without asking the guest, which does not see it when there is no function 0.
 */
TEST_F_TIMEOUT(qemu, unplug, TIMEOUT)
{
	struct vm vm;

	NEEDS_EXTENSION();
	start(&vm, PATCHED, PORT " -device vfio-pci,host=%s", bdfs[0]);
	expect(&vm, "ready");

	plug(&vm, bdfs[0], ",\"x-msi-iova\":\"0xf0000000\"", "already attached");
	expect_window(&vm, DEFAULT_IOVA);
	plug(&vm, bdfs[1], ",\"x-msi-iova\":\"0xf0000000\",\"x-pci-vendor-id\":65535", "invalid PCI vendor ID");
	wait_for_window(&vm, DEFAULT_IOVA);

	plug(&vm, bdfs[1], ",\"addr\":\"0.1\",\"x-msi-iova\":\"0xf0000000\"", NULL);
	expect_window(&vm, WINDOW_IOVA);
	unplug(&vm);
	wait_for_window(&vm, DEFAULT_IOVA);

	plug(&vm, bdfs[1], ",\"addr\":\"0.1\",\"x-msi-iova\":\"0xe0000000\"", NULL);
	ask(&vm, "msix", "1 tested");
	doorbell_is_in(&vm, bdfs[0], 0xe0000000, DEFAULT_SIZE);
	unplug(&vm);
	plug(&vm, bdfs[1], ",\"addr\":\"0.1\",\"x-msi-iova\":\"0xf0000000\"",
	     "x-msi-iova=0xf0000000: the container has its MSI doorbells at 0xe0000000");
	ask(&vm, "msix", "1 tested");
	doorbell_is_in(&vm, bdfs[0], 0xe0000000, DEFAULT_SIZE);
	stop(&vm);
}

/* It is of containers that are opened from now on. */
#define ENTRY_LIMIT	"/sys/module/vfio_iommu_type1/parameters/dma_entry_limit"

TEST_F_TIMEOUT(qemu, no_entry_left, REFUSED_TIMEOUT)
{
	struct vm vm;
	int status;

	NEEDS_EXTENSION();
	write_file(ENTRY_LIMIT, "0");
	start(&vm, PATCHED, "-device vfio-pci,host=%s,x-msi-iova=auto", bdfs[0]);
	status = finish(&vm);
	write_file(ENTRY_LIMIT, "65535");
	refused(&vm, status, "x-msi-iova=auto", "dma_entry_limit");
}

TEST_F_TIMEOUT(qemu, second_container, TIMEOUT)
{
	struct vm one, two;

	NEEDS_EXTENSION();
	start(&one, PATCHED, "-device vfio-pci,host=%s,x-msi-iova=0x%llx", bdfs[0], WINDOW_IOVA);
	start(&two, PATCHED, "-device vfio-pci,host=%s,x-msi-iova=3584M", bdfs[1]);
	expect(&one, "ready");
	expect(&two, "ready");
	ask(&one, "msix", "1 tested");
	ask(&two, "msix", "1 tested");
	doorbell_is_in(&one, bdfs[0], WINDOW_IOVA, DEFAULT_SIZE);
	doorbell_is_in(&two, bdfs[1], 0xe0000000, DEFAULT_SIZE);
	stop(&one);
	stop(&two);
}

/* What cannot be */

FIXTURE(refused) {
};

FIXTURE_VARIANT(refused) {
	const char *others;	/* options before the device */
	const char *first;	/* properties of another one, if there is one */
	const char *properties;
	const char *says, *reason;
};

#define REFUSED(name, ...) FIXTURE_VARIANT_ADD(refused, name) { __VA_ARGS__ }

#define VIOMMU		"-device virtio-iommu-pci"
#define ROOM		"-m 256,slots=1,maxmem=1G"

REFUSED(no_address, "", NULL, "x-msi-iova=here", "x-msi-iova=here", "neither an address nor auto");
REFUSED(negative, "", NULL, "x-msi-iova=-0x1000", "x-msi-iova=-0x1000", "neither an address nor auto");
REFUSED(octal, "", NULL, "x-msi-iova=01000000", "x-msi-iova=01000000", "not a multiple of 0x1000");
REFUSED(unaligned, "", NULL, "x-msi-iova=0xf0000800", "x-msi-iova=0xf0000800", "not a multiple of 0x1000");
REFUSED(wraps, "", NULL, "x-msi-iova=0xfffffffffffff000", "x-msi-iova=0xfffffffffffff000", "beyond the end");
REFUSED(beyond_aperture, "", NULL, "x-msi-iova=64P", "x-msi-iova=64P", "outside of what the host's IOMMUs map");
REFUSED(over_ram, "", NULL, "x-msi-iova=0x40000000", "x-msi-iova=0x40000000", "overlap mach-virt.ram, 0x40000000 to 0x4fffffff");
REFUSED(over_end_of_ram, "", NULL, "x-msi-iova=0x4ff00000,x-msi-iova-size=2M", "x-msi-iova=0x4ff00000", "mach-virt.ram");
REFUSED(over_room, ROOM, NULL, "x-msi-iova=0x80000000", "x-msi-iova=0x80000000", "overlap room for more memory");
REFUSED(size_zero, "", NULL, "x-msi-iova=0xf0000000,x-msi-iova-size=0", "x-msi-iova-size=0x0", "not a positive multiple of 0x1000");
REFUSED(size_unaligned, "", NULL, "x-msi-iova=0xf0000000,x-msi-iova-size=6k", "x-msi-iova-size=0x1800", "multiple of 0x1000");
REFUSED(size_alone, "", NULL, "x-msi-iova-size=1M", "x-msi-iova-size=0x100000", "without x-msi-iova");
REFUSED(size_too_large, "", NULL, "x-msi-iova=auto,x-msi-iova-size=8E", "x-msi-iova=auto", "no 0x8000000000000000 bytes are free");
REFUSED(iommufd, "-object iommufd,id=fd", NULL, "x-msi-iova=auto,iommufd=fd", "x-msi-iova=auto", "iommufd cannot");
/* The guest's IOMMU may show the devices all memory that there is, whether it does so now or not. */
REFUSED(viommu_ram, VIOMMU ",boot-bypass=off", NULL, "x-msi-iova=0x40000000", "x-msi-iova=0x40000000", "mach-virt.ram");
REFUSED(viommu_room, VIOMMU " " ROOM, NULL, "x-msi-iova=0x80000000", "x-msi-iova=0x80000000", "room for more memory");
REFUSED(viommu_auto, VIOMMU ",boot-bypass=off", NULL, "x-msi-iova=auto", "x-msi-iova=auto", "no 0x100000 bytes are free");
/* A container has one window. */
REFUSED(second_window, "", "x-msi-iova=0xf0000000", "x-msi-iova=0xe0000000", "x-msi-iova=0xe0000000",
	"the container has its MSI doorbells at 0xf0000000, size 0x100000");
REFUSED(second_size, "", "x-msi-iova=0xf0000000", "x-msi-iova=0xf0000000,x-msi-iova-size=64k", "x-msi-iova-size=0x10000:",
	"the container has its MSI doorbells at 0xf0000000, size 0x100000");
REFUSED(automatic_size, "", "x-msi-iova=auto,x-msi-iova-size=64k", "x-msi-iova=auto,x-msi-iova-size=1M", "x-msi-iova-size=0x100000:",
	"size 0x10000");

FIXTURE_SETUP(refused)
{
}

FIXTURE_TEARDOWN(refused)
{
}

TEST_F_TIMEOUT(refused, refused, REFUSED_TIMEOUT)
{
	char first[128] = "";
	struct vm vm;

	NEEDS_EXTENSION();
	if (variant->first)
		snprintf(first, sizeof(first), "-device vfio-pci,host=%s,%s", bdfs[1], variant->first);
	start(&vm, PATCHED, "%s %s -device vfio-pci,host=%s,%s", variant->others, first, bdfs[0], variant->properties);
	refuses(&vm, variant->says, variant->reason);
}

/* A guest with RAM at 128 MiB */

FIXTURE(vmm) {
	char said[1024];	/* on stdout and stderr */
};

FIXTURE_SETUP(vmm)
{
}

FIXTURE_TEARDOWN(vmm)
{
}

/* Returns the exit status. */
static int run_vmm(char *said, size_t size, const char *iova)
{
	size_t filled = 0;
	int out[2], status;
	ssize_t n;
	pid_t pid;

	CHECK(!pipe2(out, O_CLOEXEC));
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		dup2(out[1], 1);
		dup2(out[1], 2);
		execl("vmm", "vmm", "payload", getenv("VFIO_EDU_BDF"), iova, NULL);
		_exit(127);
	}
	close(out[1]);
	while ((n = read(out[0], said + filled, size - 1 - filled)) > 0)
		filled += n;
	said[filled] = '\0';
	close(out[0]);
	CHECK(waitpid(pid, &status, 0) == pid);
	printf("# %s", said);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST_F_TIMEOUT(vmm, default_window, TIMEOUT)
{
	ASSERT_EQ(1, run_vmm(self->said, sizeof(self->said), NULL));
	ASSERT_NE(NULL, strstr(self->said, "guest RAM, 0x0 to 0xfffffff, cannot be mapped"));
	/* Only a kernel that can do better says where they are. */
	if (has_extension())
		ASSERT_NE(NULL, strstr(self->said, "MSI doorbells are at 0x8000000, size 0x100000; place them elsewhere"));
}

TEST_F_TIMEOUT(vmm, window, TIMEOUT)
{
	if (!has_extension()) {
		ASSERT_EQ(1, run_vmm(self->said, sizeof(self->said), "0x10000000"));
		ASSERT_NE(NULL, strstr(self->said, "MSI doorbells cannot be placed at 0x10000000: Operation not supported"));
		return;
	}
	ASSERT_EQ(0, run_vmm(self->said, sizeof(self->said), "0x10000000"));
	ASSERT_NE(NULL, strstr(self->said, "copied through 0x8000000; MSI to 0x100000"));
	ASSERT_NE(NULL, strstr(self->said, "window 0x10000000, size 0x100000, 1 doorbell\n"));
}

TEST_F_TIMEOUT(vmm, over_ram, TIMEOUT)
{
	NEEDS_EXTENSION();
	/* The window comes first, and it is the memory that fails. */
	ASSERT_EQ(1, run_vmm(self->said, sizeof(self->said), "0x4000000"));
	ASSERT_NE(NULL, strstr(self->said, "cannot be mapped (File exists): MSI doorbells are at 0x4000000"));
}

int main(int argc, char *argv[])
{
	int nr_bdfs = 0;

	while (nr_bdfs < argc - 1 && strchr(argv[argc - 1 - nr_bdfs], ':'))
		nr_bdfs++;
	if (nr_bdfs < 2) {
		fprintf(stderr, "usage: host_test [OPTION of the test harness]... BDF BDF [BDF...]\n");
		return KSFT_FAIL;
	}
	bdfs = argv + argc - nr_bdfs;
	return test_harness_run(argc - nr_bdfs, argv);
}
