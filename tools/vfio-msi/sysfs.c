// SPDX-License-Identifier: GPL-2.0-only
/* What sysfs tells everybody about IOMMU groups. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vfio-msi.h"

const char *sysfs = "/sys";

#define PATH	1024

#define PCI_STATUS		0x06
#define PCI_STATUS_CAP_LIST	0x10
#define PCI_HEADER_TYPE		0x0e
#define PCI_CAPABILITY_LIST	0x34
#define PCI_CAP_ID_MSI		0x05
#define PCI_CAP_ID_MSIX		0x11
#define PCI_MSI_FLAGS		2
#define PCI_MSI_FLAGS_64BIT	0x80

static bool read_line(const char *path, char *line, size_t size)
{
	FILE *file = fopen(path, "r");
	bool ok;

	if (!file)
		return false;
	ok = fgets(line, (int)size, file);
	fclose(file);
	if (ok)
		line[strcspn(line, "\n")] = '\0';
	return ok;
}

static unsigned int read_hex(const char *directory, const char *name)
{
	char path[PATH], line[32];

	print(path, sizeof(path), "%s/%s", directory, name);
	return read_line(path, line, sizeof(line)) ? (unsigned int)strtoul(line, NULL, 16) : 0;
}

/* The last part of where a link points to; empty: there is none. */
static void read_link(const char *directory, const char *name, char *target, size_t size)
{
	char path[PATH], full[PATH];
	ssize_t n;

	target[0] = '\0';
	print(path, sizeof(path), "%s/%s", directory, name);
	n = readlink(path, full, sizeof(full) - 1);
	if (n <= 0)
		return;
	full[n] = '\0';
	print(target, size, "%s", strrchr(full, '/') ? strrchr(full, '/') + 1 : full);
}

/*
 * Without privileges the kernel shows the first 64 bytes only, and capabilities lie behind
 * them. What cannot be seen is unknown, not absent.
 */
static void read_config(const char *directory, struct device *device)
{
	unsigned char config[256];
	char path[PATH];
	size_t nr = 0;
	FILE *file;

	device->msi = MSI_UNKNOWN;
	print(path, sizeof(path), "%s/config", directory);
	file = fopen(path, "r");
	if (file) {
		nr = fread(config, 1, sizeof(config), file);
		fclose(file);
	}
	if (nr < 64)
		return;
	device->bridge = (config[PCI_HEADER_TYPE] & 0x7f) != 0;

	if (config[PCI_STATUS] & PCI_STATUS_CAP_LIST) {
		unsigned int at = config[PCI_CAPABILITY_LIST] & ~3U;

		/* A broken list may be a circle. */
		for (int left = 48; at && left; left--) {
			if (at + PCI_MSI_FLAGS + 2 > nr)
				return;
			if (config[at] == PCI_CAP_ID_MSIX)
				device->msix = true;
			if (config[at] == PCI_CAP_ID_MSI)
				device->msi = config[at + PCI_MSI_FLAGS] & PCI_MSI_FLAGS_64BIT ? MSI_64 : MSI_32;
			at = config[at + 1] & ~3U;
		}
	}
	if (device->msi == MSI_UNKNOWN)
		device->msi = MSI_NONE;
}

static void read_device(const char *directory, const char *name, struct device *device)
{
	char path[PATH], link[PATH];

	print(device->name, sizeof(device->name), "%s", name);
	print(path, sizeof(path), "%s/%s", directory, name);
	device->vendor = read_hex(path, "vendor");
	device->device = read_hex(path, "device");
	read_link(path, "driver", device->driver, sizeof(device->driver));
	read_link(path, "iommu", device->iommu, sizeof(device->iommu));
	read_link(path, "subsystem", link, sizeof(link));
	device->pci = !strcmp(link, "pci");
	if (device->pci)
		read_config(path, device);

	/* Those of x86 have no device of their own. */
	if (!strncmp(device->iommu, "dmar", 4)) {
		strcpy(device->iommu_driver, "intel-iommu");
	} else if (!strncmp(device->iommu, "ivhd", 4)) {
		strcpy(device->iommu_driver, "amd-iommu");
	} else {
		print(link, sizeof(link), "%s/iommu/device", path);
		read_link(link, "driver", device->iommu_driver, sizeof(device->iommu_driver));
	}
}

/* Drivers that map doorbells reserve 1 MiB; Intel's and AMD's never do, and 0xfee00000 is theirs. */
static enum kind kind_of(const struct region *region, const struct group *group)
{
	if (!strcmp(region->type, "direct-relaxable"))
		return KIND_RELAXABLE;
	if (strcmp(region->type, "msi") || region->range.last - region->range.start + 1 != SIZE_1M ||
	    region->range.start == 0xfee00000)
		return KIND_RESERVED;
	for (size_t i = 0; i < group->nr_devices; i++)
		if (!strcmp(group->devices[i].iommu_driver, "intel-iommu") ||
		    !strcmp(group->devices[i].iommu_driver, "amd-iommu"))
			return KIND_RESERVED;
	return KIND_WINDOW;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct device *)a)->name, ((const struct device *)b)->name);
}

static void read_group(const char *directory, struct group *group)
{
	struct region region = { 0 };
	struct dirent *entry;
	char path[PATH];
	FILE *file;
	DIR *dir;

	print(path, sizeof(path), "%s/type", directory);
	if (!read_line(path, group->type, sizeof(group->type)))
		group->type[0] = '\0';

	print(path, sizeof(path), "%s/devices", directory);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		group->devices = grow(group->devices, group->nr_devices, sizeof(*group->devices));
		read_device(path, entry->d_name, &group->devices[group->nr_devices++]);
	}
	if (dir)
		closedir(dir);
	if (group->nr_devices)
		qsort(group->devices, group->nr_devices, sizeof(*group->devices), by_name);

	print(path, sizeof(path), "%s/reserved_regions", directory);
	file = fopen(path, "r");
	while (file && fscanf(file, "%" SCNx64 " %" SCNx64 " %31s", &region.range.start, &region.range.last, region.type) == 3) {
		region.kind = kind_of(&region, group);
		group->regions = grow(group->regions, group->nr_regions, sizeof(region));
		group->regions[group->nr_regions++] = region;
	}
	if (file)
		fclose(file);
}

static int by_number(const void *a, const void *b)
{
	unsigned int x = ((const struct group *)a)->number, y = ((const struct group *)b)->number;

	return x < y ? -1 : x > y;
}

void host_read(struct host *host)
{
	struct dirent *entry;
	char path[PATH];
	DIR *dir;

	if (access(sysfs, R_OK | X_OK))
		die(USAGE, "%s: %s: --sysfs takes a directory with what is in /sys", sysfs, strerror(errno));
	print(path, sizeof(path), "%s/kernel/iommu_groups", sysfs);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		struct group *group;

		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		host->groups = grow(host->groups, host->nr_groups, sizeof(*host->groups));
		group = &host->groups[host->nr_groups++];
		group->number = (unsigned int)strtoul(entry->d_name, NULL, 10);
		print(path, sizeof(path), "%s/kernel/iommu_groups/%s", sysfs, entry->d_name);
		read_group(path, group);
	}
	if (dir)
		closedir(dir);
	if (host->nr_groups)
		qsort(host->groups, host->nr_groups, sizeof(*host->groups), by_number);
}

void no_groups(void)
{
	die(USAGE, "no IOMMU: %s/kernel/iommu_groups has no group: enable the IOMMU in the firmware's setup, and in the kernel",
	    sysfs);
}

bool parse_bdf(const char *text, char *bdf, size_t size)
{
	unsigned int domain = 0, bus, slot, function;
	int end = -1;

	if (sscanf(text, "%8x:%2x:%2x.%1x%n", &domain, &bus, &slot, &function, &end) != 4 || end < 0 || text[end]) {
		domain = 0;
		end = -1;
		if (sscanf(text, "%2x:%2x.%1x%n", &bus, &slot, &function, &end) != 3 || end < 0 || text[end])
			return false;
	}
	if (slot > 31 || function > 7)
		return false;
	print(bdf, size, "%04x:%02x:%02x.%x", domain, bus, slot, function);
	return true;
}

struct group *find_bdf(struct host *host, const char *bdf, struct device **device)
{
	for (size_t i = 0; i < host->nr_groups; i++) {
		struct group *group = &host->groups[i];

		for (size_t n = 0; n < group->nr_devices; n++) {
			if (strcmp(group->devices[n].name, bdf))
				continue;
			if (device)
				*device = &group->devices[n];
			return group;
		}
	}
	return NULL;
}

static struct group *find_group(struct host *host, const char *word)
{
	unsigned long number;
	char *end;

	number = strtoul(word, &end, 10);
	for (size_t i = 0; i < host->nr_groups && !*end; i++)
		if (host->groups[i].number == number)
			return &host->groups[i];
	return NULL;
}

void host_select(struct host *host, char **words, int nr)
{
	char bdf[32], path[PATH];
	struct group *group;

	for (int i = 0; i < nr; i++) {
		if (parse_bdf(words[i], bdf, sizeof(bdf))) {
			group = find_bdf(host, bdf, NULL);
			print(path, sizeof(path), "%s/bus/pci/devices/%s", sysfs, bdf);
			if (!group && access(path, F_OK))
				die(USAGE, "%s: there is no such PCI device: lspci -D lists what there is", bdf);
			if (!group && !host->nr_groups)
				no_groups();
			if (!group)
				die(USAGE, "%s: is in no IOMMU group: no IOMMU is in front of it, and VFIO cannot use it", bdf);
		} else if (words[i][0] && strspn(words[i], "0123456789") == strlen(words[i])) {
			group = find_group(host, words[i]);
			if (!group)
				die(USAGE, "%s: there is no such IOMMU group: vfio-msi show lists what there is", words[i]);
		} else {
			die(USAGE, "%s: neither a PCI address (0000:01:00.0) nor the number of an IOMMU group", words[i]);
		}
		group->wanted = true;
	}
}

const struct region *default_window(const struct group *group)
{
	for (size_t i = 0; i < group->nr_regions; i++)
		if (group->regions[i].kind == KIND_WINDOW)
			return &group->regions[i];
	return NULL;
}

const char *msi_name(const struct device *device)
{
	static const char * const names[][2] = {
		[MSI_UNKNOWN]	= { "MSI unknown (root can tell)", "MSI unknown (root can tell)" },
		[MSI_NONE]	= { "no MSI", "MSI-X" },
		[MSI_32]	= { "MSI 32-bit", "MSI 32-bit, MSI-X" },
		[MSI_64]	= { "MSI 64-bit", "MSI 64-bit, MSI-X" },
	};

	return names[device->msi][device->msix];
}

bool bound_to_vfio(const struct group *group)
{
	bool bound = false;

	for (size_t i = 0; i < group->nr_devices; i++) {
		const struct device *device = &group->devices[i];

		if (!strcmp(device->driver, "vfio-pci"))
			bound = true;
		else if (!device->bridge)
			return false;
	}
	return bound;
}
