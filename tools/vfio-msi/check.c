// SPDX-License-Identifier: GPL-2.0-only
/* vfio-msi check: tries it, and puts everything back. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "abi.h"
#include "picture.h"
#include "vfio-msi.h"

#define PCI_COMMAND		0x04
#define PCI_COMMAND_MEMORY	0x02
#define PCI_CAPABILITY_LIST	0x34
#define PCI_CAP_ID_MSIX		0x11
#define PCI_MSIX_TABLE		4
#define PCI_MSIX_TABLE_BIR	7

static bool json, failed;
static const char *backend_name;

enum verdict { GOOD, BAD, NEUTRAL };

/* One line of the report. */
__attribute__((format(printf, 3, 4)))
static void step(enum verdict verdict, const char *what, const char *fmt, ...)
{
	char text[320];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	failed |= verdict == BAD;
	if (json) {
		json_open(NULL, '{');
		json_string("step", what);
		json_string("result", text);
		json_string("verdict", verdict == GOOD ? "ok" : verdict == BAD ? "failed" : "information");
		json_close('}');
		return;
	}
	printf("  %-8s %-24s %s%s\n", backend_name, what, verdict == BAD ? "FAILED: " : "", text);
	fflush(stdout);
}

/* "ok", or the error. */
static bool step_errno(const char *what, int ret)
{
	if (ret)
		step(BAD, what, "%s", strerror(-ret));
	else
		step(GOOD, what, "ok");
	return !ret;
}

static void step_live(const char *what, const struct live *live)
{
	char granule[32];

	if (!live->told) {
		step(NEUTRAL, what, "the kernel does not tell");
		return;
	}
	picture_size(granule, sizeof(granule), 1, live->granule);
	if (live->has_window)
		step(NEUTRAL, what, "0x%08" PRIx64 "-0x%08" PRIx64 ", %s, MSIs %stranslated, granule %s, doorbells %u",
		     live->window.start, live->window.last, live->chosen ? "chosen" : "default",
		     live->translated ? "" : "not ", granule, live->doorbells);
	else
		step(NEUTRAL, what, "none, MSIs %stranslated, granule %s, doorbells %u",
		     live->translated ? "" : "not ", granule, live->doorbells);
}

/* A device's MSIs */

static bool config_access(const struct space *space, uint64_t config, unsigned int at, void *data, size_t size, bool write)
{
	ssize_t n;

	if (write)
		n = pwrite(space->device, data, size, (off_t)(config + at));
	else
		n = pread(space->device, data, size, (off_t)(config + at));
	return n == (ssize_t)size;
}

/* The address that the first entry of the MSI-X table has, which VFIO lets user space see but not write. */
static bool msix_address(const struct space *space, uint64_t *address)
{
	struct vfio_region_info config = { .argsz = sizeof(config), .index = VFIO_PCI_CONFIG_REGION_INDEX };
	struct vfio_region_info bar = { .argsz = sizeof(bar) };
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	volatile uint32_t *entry;
	uint8_t at = 0, id = 0;
	uint16_t command, on;
	bool found = false;
	uint32_t table;
	char *map;

	if (ioctl(space->device, VFIO_DEVICE_GET_REGION_INFO, &config) ||
	    !config_access(space, config.offset, PCI_CAPABILITY_LIST, &at, 1, false))
		return false;
	for (int left = 48; at && left; left--) {
		if (!config_access(space, config.offset, at, &id, 1, false))
			return false;
		if (id == PCI_CAP_ID_MSIX)
			break;
		if (!config_access(space, config.offset, at + 1U, &at, 1, false))
			return false;
	}
	if (id != PCI_CAP_ID_MSIX || !config_access(space, config.offset, at + PCI_MSIX_TABLE, &table, sizeof(table), false))
		return false;

	bar.index = table & PCI_MSIX_TABLE_BIR;
	table &= ~(uint32_t)PCI_MSIX_TABLE_BIR;
	if (ioctl(space->device, VFIO_DEVICE_GET_REGION_INFO, &bar) || !(bar.flags & VFIO_REGION_INFO_FLAG_MMAP))
		return false;
	map = mmap(NULL, page, PROT_READ, MAP_SHARED, space->device, (off_t)(bar.offset + (table & ~(page - 1))));
	if (map == MAP_FAILED)
		return false;

	/* A BAR is there only while the device decodes memory: without, a read kills this process. */
	if (config_access(space, config.offset, PCI_COMMAND, &command, sizeof(command), false)) {
		on = command | PCI_COMMAND_MEMORY;
		if (config_access(space, config.offset, PCI_COMMAND, &on, sizeof(on), true)) {
			entry = (volatile uint32_t *)(map + (table & (page - 1)));
			*address = entry[0] | (uint64_t)entry[1] << 32;
			found = true;
			config_access(space, config.offset, PCI_COMMAND, &command, sizeof(command), true);
		}
	}
	munmap(map, page);
	return found;
}

static int set_irq(const struct space *space, unsigned int index, int eventfd)
{
	struct {
		struct vfio_irq_set set;
		int32_t eventfd;
	} irq = {
		.set = {
			.argsz = sizeof(irq),
			.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			.index = index,
			.count = 1,
		},
		.eventfd = eventfd,
	};

	if (eventfd < 0) {
		irq.set.argsz = sizeof(irq.set);
		irq.set.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
		irq.set.count = 0;
	}
	return ioctl(space->device, VFIO_DEVICE_SET_IRQS, &irq) ? -errno : 0;
}

/* The best that the device has; false: neither. */
static bool find_irq(const struct space *space, unsigned int *index)
{
	static const unsigned int kinds[] = { VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX };

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct vfio_irq_info info = { .argsz = sizeof(info), .index = kinds[i] };

		*index = kinds[i];
		if (!ioctl(space->device, VFIO_DEVICE_GET_IRQ_INFO, &info) && info.count)
			return true;
	}
	return false;
}

/* A place for a window: not the default one, clear of all that is reserved. */
static bool find_window(const struct group *group, const struct live *live, struct range *window)
{
	uint64_t size = live->granule > SIZE_1M ? live->granule : SIZE_1M;
	struct ranges busy;

	busy = ranges_gaps(&live->apertures, UINT64_MAX);
	for (size_t i = 0; i < group->nr_regions; i++)
		ranges_add(&busy, group->regions[i].range);
	ranges_merge(&busy);
	/* From 1 GiB on first, away from everything; then from the start. All devices reach what is below 4 GiB. */
	for (int try = 0; try < 2; try++) {
		uint64_t start = try ? 0 : SIZE_4G / 4;

		for (; start < SIZE_4G; start += size) {
			bool free = true;

			*window = (struct range){ start, start + size - 1 };
			for (size_t i = 0; i < busy.nr && free; i++)
				free = !overlap(busy.v[i], *window);
			if (free)
				break;
		}
		if (start < SIZE_4G)
			break;
		window->last = 0;
	}
	free(busy.v);
	return window->last != 0;
}

/* Returns the error of enabling it. */
static int check_msi(struct space *space, const struct backend *backend, struct range window, bool translated)
{
	const char *name;
	unsigned int index;
	uint64_t address;
	struct live now;
	int fd, ret;

	if (!find_irq(space, &index)) {
		step(NEUTRAL, "enable MSI", "not tried: the device has neither MSI nor MSI-X");
		return 0;
	}
	name = index == VFIO_PCI_MSIX_IRQ_INDEX ? "enable MSI-X" : "enable MSI";
	fd = eventfd(0, EFD_CLOEXEC);
	ret = fd < 0 ? -errno : set_irq(space, index, fd);
	if (!step_errno(name, ret))
		goto out;

	if (!backend->look(space, &now)) {
		step(translated == !!now.doorbells ? GOOD : BAD, "doorbells mapped", "%u", now.doorbells);
		free(now.apertures.v);
	}
	if (index == VFIO_PCI_MSIX_IRQ_INDEX && msix_address(space, &address)) {
		bool inside = address >= window.start && address <= window.last;

		step(inside == translated ? GOOD : BAD, "MSI-X goes to", "0x%08" PRIx64 ", %s", address,
		     inside ? "in the window" : translated ? "outside of the window" : "no IOMMU translates it");
	} else {
		step(NEUTRAL, "MSI goes to", "the kernel does not show the address of this device's MSI");
	}
	step_errno("disable", set_irq(space, index, -1));
	if (translated) {
		int early = backend->release(space, window);

		if (early == -EBUSY)
			step(GOOD, "release too early", "%s, as it should be: a doorbell is mapped", strerror(EBUSY));
		else
			step(BAD, "release too early", "%s, with a doorbell mapped", early ? strerror(-early) : "succeeded");
	}
out:
	if (fd >= 0)
		close(fd);
	return ret;
}

/* The region that an address is in; one that is no default window, if there are two. */
static const struct region *find_region(const struct group *group, uint64_t address)
{
	const struct region *found = NULL;

	for (size_t i = 0; i < group->nr_regions; i++) {
		const struct region *region = &group->regions[i];

		if (overlap(region->range, (struct range){ address, address }) && (!found || region->kind != KIND_WINDOW))
			found = region;
	}
	return found;
}

/* iommufd's container attaches devices, and knows what they reserve, when they are opened. */
static bool attach(struct space *space, const struct backend *backend, const struct group *group, const struct device *device)
{
	return !backend->open(space, group, device) && !backend->open_device(space, device);
}

/*
 * What the kernel does by itself, in a space that nothing else is done with: where a doorbell is mapped, a window cannot be
 * chosen any more. Returns the error of enabling it.
 */
static int check_msi_without(const struct backend *backend, const struct group *group, const struct device *device, bool offered)
{
	static const char what[] = "MSI without a window";
	const struct region *region;
	struct space space;
	unsigned int index;
	uint64_t address;
	int fd = -1, ret = 0;

	if (!attach(&space, backend, group, device)) {
		step(BAD, what, "%s", space.why);
		goto out;
	}
	if (!find_irq(&space, &index))
		goto out;
	fd = eventfd(0, EFD_CLOEXEC);
	ret = fd < 0 ? -errno : set_irq(&space, index, fd);
	if (ret) {
		step(NEUTRAL, what, "%s", strerror(-ret));
		goto out;
	}
	if (index != VFIO_PCI_MSIX_IRQ_INDEX || !msix_address(&space, &address)) {
		step(NEUTRAL, what, "ok");
	} else {
		region = find_region(group, address);
		if (region && region->kind == KIND_WINDOW)
			step(GOOD, what, "goes to 0x%08" PRIx64 ", in the default window", address);
		else if (!region || !strcmp(region->type, "msi"))
			step(GOOD, what, "goes to 0x%08" PRIx64 ", no IOMMU translates it", address);
		else
			/* Where user space may choose, there is a way out. */
			step(offered ? NEUTRAL : BAD, what, "goes to 0x%08" PRIx64 ", which is reserved%s", address,
			     offered ? ": choose a window" : "");
	}
	set_irq(&space, index, -1);
out:
	space_close(&space);
	if (fd >= 0)
		close(fd);
	return ret;
}

/* Compares the space as it is with how it was. */
static void step_same(struct space *space, const struct backend *backend, const struct live *before, const char *what)
{
	struct live now;

	if (backend->look(space, &now)) {
		step(BAD, what, "%s", space->why);
		return;
	}
	if (same_live(before, &now))
		step(GOOD, what, "as before");
	else
		step(BAD, what, "not as before");
	free(now.apertures.v);
}

/* Returns whether the kernel offers it. */
static bool check_backend(const struct backend *backend, const struct group *group, const struct device *device)
{
	struct live before = { 0 }, now;
	struct range window = { 0, 0 };
	bool offered = false;
	struct space space;
	char text[96], size[32];
	int without;

	backend_name = backend->name;
	if (!attach(&space, backend, group, device)) {
		/* A kernel may have only one of the two. */
		bool absent = strstr(space.why, "there is no /dev/") || strstr(space.why, "has no ");

		step(absent ? NEUTRAL : BAD, "attach", "%s", space.why);
		space_close(&space);
		return false;
	}
	step(GOOD, "attach", "ok");
	if (backend->look(&space, &before)) {
		step(BAD, "look", "%s", space.why);
		goto out;
	}
	offered = before.offered;
	step(NEUTRAL, backend->extension, "%s", offered ? "yes" : "no: this kernel lacks the series");
	step_live("window", &before);
	for (size_t i = 0; i < before.apertures.nr; i++)
		step(NEUTRAL, i ? "" : "IOVA ranges", "0x%08" PRIx64 "-0x%08" PRIx64, before.apertures.v[i].start,
		     before.apertures.v[i].last);
	space_close(&space);
	without = check_msi_without(backend, group, device, offered);
	if (!offered)
		goto out;
	if (!attach(&space, backend, group, device)) {
		step(BAD, "attach again", "%s", space.why);
		goto out;
	}

	if (!find_window(group, &before, &window)) {
		step(BAD, "find a place", "no 1 MiB below 4 GiB is free");
		goto out;
	}
	picture_size(size, sizeof(size), window.start, window.last);
	print(text, sizeof(text), "choose 0x%08" PRIx64, window.start);
	if (!step_errno(text, backend->choose(&space, window)))
		goto out;
	if (!backend->look(&space, &now)) {
		bool there = now.has_window && now.window.start == window.start && now.window.last == window.last;

		step(now.chosen && there ? GOOD : BAD, "window",
		     "0x%08" PRIx64 ", %s, %s", now.window.start, size, now.chosen ? "chosen" : "not chosen");
		free(now.apertures.v);
	}
	if (step_errno("release", backend->release(&space, window)))
		step_same(&space, backend, &before, "window and IOVA ranges");
	if (!step_errno("choose again", backend->choose(&space, window)))
		goto out;

	if (check_msi(&space, backend, window, before.translated) && without)
		step(NEUTRAL, "cause", "not the window: without one it fails as well");
	if (backend->detach(&space)) {
		step(BAD, "detach", "%s", space.why);
		goto out;
	}
	step(GOOD, "detach", "ok");
	/* The doorbell went with the device; the IOAS, unlike a container, keeps its window. */
	if (backend == &iommufd)
		step_errno("release", backend->release(&space, window));
	space_close(&space);
	if (!attach(&space, backend, group, device)) {
		step(BAD, "attach again", "%s", space.why);
		goto out;
	}
	step_same(&space, backend, &before, "attached again");
out:
	space_close(&space);
	free(before.apertures.v);
	return offered;
}

/* Of the interrupt controller, /proc/interrupts has the names that its drivers give themselves. */
static void interrupt_controller(char *text, size_t size)
{
	static const struct {
		const char *word, *name;
	} kinds[] = {
		{ "ITS-", ", ITS" }, { "GICv2m", ", GICv2m" }, { "GICV2M", ", GICv2m" }, { "MBI-", ", MBI" },
	};
	bool seen[ARRAY_SIZE(kinds)] = { false };
	char line[1024], gic[16] = "";
	FILE *file = fopen("/proc/interrupts", "r");

	while (file && fgets(line, sizeof(line), file)) {
		const char *found = strstr(line, "GICv");

		if (!gic[0] && found && isdigit((unsigned char)found[4]) && found[5] != 'm')
			print(gic, sizeof(gic), "GICv%c", found[4]);
		if (!gic[0] && strstr(line, "GIC-0"))
			strcpy(gic, "GICv2");
		for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
			seen[i] |= strstr(line, kinds[i].word) != NULL;
	}
	if (file)
		fclose(file);
	text[0] = '\0';
	if (!gic[0])
		return;
	snprintf(text, size, ", %s", gic);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (seen[i] && !strstr(text, kinds[i].name))
			snprintf(text + strlen(text), size - strlen(text), "%s", kinds[i].name);
}

/* All of them before anything is tried. */
static void check_arguments(struct host *host, char **bdfs, int nr)
{
	for (int i = 0; i < nr; i++) {
		struct device *device = NULL;
		char bdf[32];

		if (!parse_bdf(bdfs[i], bdf, sizeof(bdf)))
			die(USAGE, "%s: not a PCI address: write it as 0000:01:00.0", bdfs[i]);
		host_select(host, &bdfs[i], 1);
		find_bdf(host, bdf, &device);
		if (strcmp(device->driver, "vfio-pci"))
			die(USAGE, "%s: bound to %s: bind it to vfio-pci, driverctl set-override %s vfio-pci", bdf,
			    device->driver[0] ? device->driver : "no driver", bdf);
	}
}

enum status check(struct host *host, const struct options *options, char **bdfs, int nr)
{
	char controller[96] = "";
	bool any = false;
	struct utsname uts;

	check_arguments(host, bdfs, nr);
	if (options->only_sysfs)
		die(USAGE, "check tries this machine's devices: leave --sysfs out");
	if (geteuid())
		die(USAGE, "check needs root: run it with sudo");

	json = options->json;
	uname(&uts);
	interrupt_controller(controller, sizeof(controller));
	if (json) {
		json_open(NULL, '{');
		json_string("version", VERSION);
		json_string("kernel", uts.release);
		json_string("machine", uts.machine);
		json_string("interrupt_controller", controller[0] ? controller + 2 : "");
		json_open("devices", '[');
	} else {
		printf("vfio-msi %s: Linux %s, %s%s\n", VERSION, uts.release, uts.machine, controller);
	}

	for (int i = 0; i < nr; i++) {
		static const struct backend * const backends[] = { &type1, &iommufd };
		struct device *device = NULL;
		struct group *group;
		char bdf[32];

		parse_bdf(bdfs[i], bdf, sizeof(bdf));
		group = find_bdf(host, bdf, &device);
		if (json) {
			json_open(NULL, '{');
			json_string("name", bdf);
			json_number("group", group->number);
			json_string("iommu", device->iommu);
			json_string("iommu_driver", device->iommu_driver);
		} else {
			printf("%s %04x:%04x, %s, group %u, IOMMU %s%s%s%s\n", bdf, device->vendor, device->device,
			       msi_name(device), group->number, device->iommu, device->iommu_driver[0] ? " (" : "",
			       device->iommu_driver, device->iommu_driver[0] ? ")" : "");
			for (size_t n = 0; n < group->nr_regions; n++)
				printf("  reserved 0x%08" PRIx64 "-0x%08" PRIx64 " %s\n", group->regions[n].range.start,
				       group->regions[n].range.last, group->regions[n].type);
		}
		for (size_t n = 0; n < ARRAY_SIZE(backends); n++) {
			if (json)
				json_open(backends[n]->name, '[');
			any |= check_backend(backends[n], group, device);
			if (json)
				json_close(']');
		}
		if (json)
			json_close('}');
	}

	if (json) {
		json_close(']');
		json_bool("offered", any);
		json_bool("ok", any && !failed);
		json_close('}');
	} else {
		printf("result: %s\n", failed ? "a step failed" : any ? "all steps passed" : "nothing to try");
	}
	if (!any && !failed)
		die(NO, "this kernel has neither VFIO_RESERVED_MSI_IOVA nor IOMMU_IOAS_MSI_WINDOW: use one with the series");
	return any && !failed ? OK : NO;
}
