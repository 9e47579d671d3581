// SPDX-License-Identifier: GPL-2.0-only
/*
 * init of the guest in the guest, whose devices are the virtual host's own. It does what host_test.c says on the console, a word
 * a line, and loads igb when one first needs it:
 *
 *   test    have each igb test itself, as "ethtool --test offline" does: registers, an interrupt, packets through loopback, which
 *           is DMA both ways; takes 17 s for a device, most of it the driver's own waiting
 *   msix    wait for an MSI-X of each igb's ordinary work, which raises some every two seconds
 *   reset   reset each igb
 *   rescan  look for devices that were plugged in
 *   bar     and a number and an address: have a BAR of an igb decoded there for a moment; before igb is loaded
 *   resv    and an address, as sysfs writes it: does the IOMMU of an igb reserve a region that begins there?
 *   reboot
 *   off
 *
 * and answers with a line that begins with "guest: ".
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <libgen.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include <linux/ethtool.h>
#include <linux/pci_regs.h>
#include <linux/sockios.h>

#define NR_TESTS_MAX 16
/* The self-test gives an interrupt 10 ms to arrive, which on a busy machine that emulates two others may not do. */
#define NR_TRIES 5

static void __attribute__((format(printf, 1, 2)))
answer(const char *fmt, ...)
{
	va_list ap;

	printf("guest: ");
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
}

/* What was said has to leave the machine before it stops. */
static void end(int how)
{
	tcdrain(1);
	reboot(how);
}

static void __attribute__((noreturn))
die(const char *what)
{
	answer("FAILED %s: %s", what, strerror(errno));
	end(RB_POWER_OFF);
	exit(1);
}

static void mount_at(const char *type, const char *dir)
{
	mkdir(dir, 0755);
	if (mount(type, dir, type, 0, NULL))
		die(dir);
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die(path);
	close(fd);
}

/* The initrd has them in the order in which they need each other. */
static void load_modules(void)
{
	static bool loaded;
	glob_t found;

	if (loaded)
		return;
	loaded = true;
	if (glob("/modules/*.ko", 0, NULL, &found))
		die("modules");
	for (size_t i = 0; i < found.gl_pathc; i++) {
		int fd = open(found.gl_pathv[i], O_RDONLY);

		if (fd < 0 || syscall(SYS_finit_module, fd, "", 0))
			die(found.gl_pathv[i]);
		close(fd);
	}
	globfree(&found);
}

static bool set_up(int sock, const char *name, bool up)
{
	struct ifreq ifr = {};

	strncpy(ifr.ifr_name, name, IFNAMSIZ - 1);
	if (ioctl(sock, SIOCGIFFLAGS, &ifr))
		return false;
	ifr.ifr_flags = up ? ifr.ifr_flags | IFF_UP : ifr.ifr_flags & ~IFF_UP;
	return !ioctl(sock, SIOCSIFFLAGS, &ifr);
}

/* All MSI-Xs of a network device so far. */
static unsigned long interrupts(const char *name)
{
	FILE *file = fopen("/proc/interrupts", "r");
	unsigned long sum = 0, count;
	char line[512], *action;

	if (!file)
		die("/proc/interrupts");
	while (fgets(line, sizeof(line), file)) {
		action = strstr(line, name);
		if (action && strstr(line, "MSIX") && sscanf(line, "%*[^:]: %lu", &count) == 1)
			sum += count;
	}
	fclose(file);
	return sum;
}

/* What is wrong with the device, if anything? */
static const char *self_test(int sock, const char *name)
{
	static char wrong[64];
	struct {
		struct ethtool_test test;
		__u64 results[NR_TESTS_MAX];
	} t = { .test.cmd = ETHTOOL_TEST };
	struct ifreq ifr = { .ifr_data = (void *)&t };

	strncpy(ifr.ifr_name, name, IFNAMSIZ - 1);
	for (int i = 0; i < NR_TRIES; i++) {
		t.test.flags = ETH_TEST_FL_OFFLINE;
		if (ioctl(sock, SIOCETHTOOL, &ifr) || t.test.len > NR_TESTS_MAX)
			return "it has no self-test";
		if (!(t.test.flags & ETH_TEST_FL_FAILED))
			return NULL;
		snprintf(wrong, sizeof(wrong), "its self-tests say %llu %llu %llu %llu %llu",
			 t.results[0], t.results[1], t.results[2], t.results[3], t.results[4]);
		printf("%s: %s\n", name, wrong);
	}
	return wrong;
}

static const char *wait_for_msix(int sock, const char *name)
{
	unsigned long before = interrupts(name);

	for (int ms = 0; interrupts(name) == before; ms += 10) {
		/* One every two seconds, but emulators that share a busy host with others take their time */
		if (ms > 180000)
			return "it raises no MSI-X";
		usleep(10000);
	}
	return NULL;
}

static void test(const char *(*test_device)(int sock, const char *name))
{
	int sock = socket(AF_UNIX, SOCK_DGRAM, 0);
	const char *wrong = NULL;
	size_t count = 0;
	glob_t found;

	if (sock < 0)
		die("socket");
	load_modules();
	if (!glob("/sys/class/net/*/device", 0, NULL, &found)) {
		for (; count < found.gl_pathc && !wrong; count++) {
			const char *name = basename(dirname(found.gl_pathv[count]));

			wrong = set_up(sock, name, true) ? test_device(sock, name) : "it does not come up";
			if (!wrong && !set_up(sock, name, false))
				wrong = "it does not go down";
			if (wrong)
				answer("FAILED %s: %s", name, wrong);
		}
	}
	if (!wrong)
		answer("%zu tested", count);
	globfree(&found);
	close(sock);
}

static void reset(void)
{
	char path[300];
	glob_t found;

	if (glob("/sys/class/net/*/device", 0, NULL, &found))
		die("there is no device");
	for (size_t i = 0; i < found.gl_pathc; i++) {
		snprintf(path, sizeof(path), "%s/reset", found.gl_pathv[i]);
		write_file(path, "1");
	}
	globfree(&found);
	answer("reset");
}

static void rescan(void)
{
	write_file("/sys/bus/pci/rescan", "1");
	answer("rescanned");
}

/* Opens a file of an igb that no driver has yet; they are what is of PCI's class for Ethernet. */
static FILE *open_igb(const char *name, const char *mode)
{
	char path[300], class[16];
	FILE *file = NULL;
	glob_t found;

	if (glob("/sys/bus/pci/devices/*", 0, NULL, &found))
		die("PCI devices");
	for (size_t i = 0; i < found.gl_pathc && !file; i++) {
		FILE *of_class;

		snprintf(path, sizeof(path), "%s/class", found.gl_pathv[i]);
		of_class = fopen(path, "r");
		if (of_class && fgets(class, sizeof(class), of_class) && !strcmp(class, "0x020000\n")) {
			snprintf(path, sizeof(path), "%s/%s", found.gl_pathv[i], name);
			file = fopen(path, mode);
		}
		if (of_class)
			fclose(of_class);
	}
	if (!file)
		die(name);
	globfree(&found);
	return file;
}

static void write_config(int fd, __u64 value, int size, int where)
{
	if (pwrite(fd, &value, size, where) != size)
		die("config");
}

static void bar(int number, __u64 address)
{
	int where = PCI_BASE_ADDRESS_0 + 4 * number;
	FILE *config = open_igb("config", "r+");
	int fd = fileno(config), size;
	__u16 command;
	__u64 was;

	if (pread(fd, &was, 8, where) != 8 || pread(fd, &command, 2, PCI_COMMAND) != 2)
		die("config");
	size = was & PCI_BASE_ADDRESS_MEM_TYPE_64 ? 8 : 4;
	write_config(fd, command & ~PCI_COMMAND_MEMORY, 2, PCI_COMMAND);
	write_config(fd, address, size, where);
	write_config(fd, command | PCI_COMMAND_MEMORY, 2, PCI_COMMAND);
	write_config(fd, command & ~PCI_COMMAND_MEMORY, 2, PCI_COMMAND);
	write_config(fd, was, size, where);
	write_config(fd, command, 2, PCI_COMMAND);
	fclose(config);
	answer("moved");
}

static void resv(const char *start)
{
	FILE *regions = open_igb("iommu_group/reserved_regions", "r");
	bool found = false;
	char line[128];

	while (fgets(line, sizeof(line), regions))
		found |= !strncmp(line, start, strlen(start));
	fclose(regions);
	answer(found ? "reserved" : "not reserved");
}

int main(void)
{
	char word[32], address[32];
	int number;

	mount_at("devtmpfs", "/dev");
	setvbuf(stdout, NULL, _IOLBF, 0);
	mount_at("proc", "/proc");
	mount_at("sysfs", "/sys");
	answer("ready");
	while (scanf("%31s", word) == 1) {
		if (!strcmp(word, "test"))
			test(self_test);
		else if (!strcmp(word, "msix"))
			test(wait_for_msix);
		else if (!strcmp(word, "reset"))
			reset();
		else if (!strcmp(word, "rescan"))
			rescan();
		else if (!strcmp(word, "bar") && scanf("%d %31s", &number, address) == 2)
			bar(number, strtoul(address, NULL, 0));
		else if (!strcmp(word, "resv") && scanf("%31s", address) == 1)
			resv(address);
		else if (!strcmp(word, "reboot"))
			end(RB_AUTOBOOT);
		else if (!strcmp(word, "off"))
			end(RB_POWER_OFF);
		else
			answer("FAILED I do not know \"%s\"", word);
	}
	die("the console");
}
