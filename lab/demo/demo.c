// SPDX-License-Identifier: GPL-2.0-only
/*
 * A virtual machine's memory, IOVA 0 to 1 GiB, mapped one to one for three
 * devices, in a container of type1 and in an IOAS of iommufd. Runs on any kernel
 * and any Arm host, and shows what there is to see:
 *
 *   demo [--plain] BDF BDF BDF
 *
 * The devices need a driver in libvfio, and are bound to vfio-pci. Everything
 * printed was asked of the kernel or read from a device just before; the exit
 * status is 0 only if the kernel, whether user space can choose the window or not,
 * did all that is expected of it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <linux/sizes.h>
#include <linux/vfio.h>

#include <libvfio.h>

#include "draw.h"

#define NR_DEVICES	3
#define COPY_SIZE	((u64)SZ_64K)

static bool plain;
static char **bdfs;

static const struct backend {
	const char *mode;	/* libvfio's name */
	const char *name;
	const char *extension;
} type1 = {
	MODE_VFIO_TYPE1V2_IOMMU, "type1, one container", "VFIO_RESERVED_MSI_IOVA"
}, iommufd = {
	MODE_IOMMUFD, "iommufd, one IOAS", "IOMMU_IOAS_MSI_WINDOW"
};

struct machine {
	struct iommu *iommu;
	struct vfio_pci_device *devices[NR_DEVICES];
	void *memory;			/* RAM_SIZE bytes */
};

static void attach(struct machine *m, int i)
{
	m->devices[i] = vfio_pci_device_init(bdfs[i], m->iommu);
	VFIO_ASSERT_NOT_NULL(m->devices[i]->driver.ops, "libvfio has no driver for %s\n", bdfs[i]);
}

static void start(struct machine *m, const struct backend *backend)
{
	m->iommu = iommu_init(backend->mode);
	for (int i = 0; i < NR_DEVICES; i++)
		attach(m, i);

	m->memory = mmap(mmap_reserve(RAM_SIZE, SZ_2M, 0), RAM_SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	VFIO_ASSERT_NE(m->memory, MAP_FAILED);
	madvise(m->memory, RAM_SIZE, MADV_HUGEPAGE);
}

static void stop(struct machine *m)
{
	for (int i = 0; i < NR_DEVICES; i++)
		vfio_pci_device_cleanup(m->devices[i]);
	iommu_cleanup(m->iommu);
	VFIO_ASSERT_EQ(munmap(m->memory, RAM_SIZE), 0);
}

/* The drivers' descriptors live in the machine's memory, as a guest's would. */
#define DRIVERS		((u64)SZ_512M)
#define DRIVER_SIZE	((u64)SZ_2M)

static void driver_init(struct machine *m, int i)
{
	u64 iova = DRIVERS + i * DRIVER_SIZE;

	m->devices[i]->driver.region = (struct dma_region) {
		.vaddr = m->memory + iova,
		.iova = iova,
		.size = DRIVER_SIZE,
	};
	vfio_pci_driver_init(m->devices[i]);
}

/* Returns where in the IOVA space the device's MSIs go. */
static u64 raise_msi(struct machine *m, int i)
{
	struct vfio_pci_device *device = m->devices[i];
	u64 count, addr;

	vfio_pci_driver_send_msi(device);
	VFIO_ASSERT_EQ(read(device->msi_eventfds[device->driver.msi], &count, sizeof(count)),
		       sizeof(count));
	VFIO_ASSERT_EQ(count, 1);
	VFIO_ASSERT_EQ(__vfio_pci_msix_addr(device, device->driver.msi, &addr), 0);
	return addr;
}

static void say(const char *what, const char *how, bool good)
{
	const char *colour = plain ? "" : good ? "\033[32m" : "\033[31m";

	printf("   %-68s %s%s%s\n", what, colour, how, plain ? "" : "\033[0m");
	fflush(stdout);
}

static void say_errno(const char *what, int ret)
{
	char how[64] = "ok";

	if (ret)
		snprintf(how, sizeof(how), "refused: %s", strerror(-ret));
	say(what, how, !ret);
}

/* The window in force: registered, or the "msi" region of the first device's group. */
static u64 window_iova(struct machine *m)
{
	struct vfio_iommu_type1_info_cap_msi_geometry geometry;
	struct sysfs_resv_region *regions;
	u64 iova = -1;
	int nr;

	if (!__iommu_msi_geometry(m->iommu, &geometry))
		return geometry.iova;

	regions = sysfs_resv_regions_get(bdfs[0], &nr);
	for (int i = 0; i < nr; i++)
		if (!strcmp(regions[i].type, "msi"))
			iova = regions[i].start;
	free(regions);
	return iova;
}

/* Without the extension: the memory cannot be mapped, and this is why. */
static void show_stock(struct machine *m)
{
	struct dma_region ram = { .vaddr = m->memory, .size = RAM_SIZE };
	int ret;

	ret = __iommu_map(m->iommu, &ram);
	say_errno("map memory, IOVA 0x00000000 to 0x3fffffff", ret);
	VFIO_ASSERT_EQ(ret, -EINVAL);
	draw(PICTURE_WANTED, window_iova(m), false, plain);
	printf("   The window at 0x%08lx is the kernel's choice, and in the way.\n\n", window_iova(m));
}

/* Copies to and fro across the middle, byte for byte different. */
static void copy_through_middle(struct machine *m, int i)
{
	u8 *ram = m->memory;
	u64 away = SZ_256M + i * COPY_SIZE;

	for (u64 n = 0; n < COPY_SIZE; n++)
		ram[away + n] = n * 31 + n / 251 + i;

	VFIO_ASSERT_EQ(vfio_pci_driver_memcpy(m->devices[i], away, MIDDLE - COPY_SIZE / 2, COPY_SIZE), 0);
	VFIO_ASSERT_EQ(memcmp(ram + MIDDLE - COPY_SIZE / 2, ram + away, COPY_SIZE), 0);

	memset(ram + away, 0, COPY_SIZE);
	VFIO_ASSERT_EQ(vfio_pci_driver_memcpy(m->devices[i], MIDDLE - COPY_SIZE / 2, away, COPY_SIZE), 0);
	VFIO_ASSERT_EQ(memcmp(ram + MIDDLE - COPY_SIZE / 2, ram + away, COPY_SIZE), 0);
}

static void show_window(struct machine *m)
{
	struct dma_region ram = { .vaddr = m->memory, .size = RAM_SIZE };
	char line[128];

	say_errno("register window, IOVA 0x40000000, 1 MiB",
		  __iommu_reserve_msi(m->iommu, WINDOW_IOVA, WINDOW_SIZE));
	say_errno("map memory, IOVA 0x00000000 to 0x3fffffff", __iommu_map(m->iommu, &ram));
	VFIO_ASSERT_EQ(window_iova(m), WINDOW_IOVA);

	for (int i = 0; i < NR_DEVICES; i++) {
		char *iommu = sysfs_iommu_get(bdfs[i]);
		u64 addr;

		driver_init(m, i);
		copy_through_middle(m, i);
		addr = raise_msi(m, i);
		VFIO_ASSERT_TRUE(addr >= WINDOW_IOVA && addr < WINDOW_IOVA + WINDOW_SIZE);
		snprintf(line, sizeof(line), "%s behind %s: copy through 128M, MSI to 0x%08lx",
			 bdfs[i], iommu, addr);
		say(line, "ok", true);
		free(iommu);
	}
	draw(PICTURE_MAPPED, WINDOW_IOVA, true, plain);
}

/* Returns whether user space can choose the window. */
static bool show(const struct backend *backend, const char *release)
{
	struct vfio_iommu_type1_info_cap_msi_geometry geometry;
	struct machine m = {};
	bool can;

	start(&m, backend);
	can = !__iommu_msi_geometry(m.iommu, &geometry);
	printf("Linux %s, %s: %s%s\n", release, backend->name, can ? "" : "no ", backend->extension);
	if (can)
		show_window(&m);
	else
		show_stock(&m);
	stop(&m);
	return can;
}

/* All that can be known about the container, and where each device's MSIs go. */
struct state {
	struct vfio_iommu_type1_info *info;
	u64 addr[NR_DEVICES];
};

static void look(struct machine *m, struct state *state, const char *when)
{
	struct vfio_iommu_type1_info_cap_msi_geometry geometry;
	u32 nr_ranges;

	state->info = vfio_iommu_get_info(m->iommu);
	iommu_msi_geometry(m->iommu, &geometry);
	free(iommu_iova_ranges(m->iommu, &nr_ranges));
	printf("   %-7s window 0x%08llx (%s), %u IOVA ranges, dma_avail %u, MSIs to", when, geometry.iova,
	       geometry.flags & VFIO_IOMMU_MSI_GEOMETRY_REGISTERED ? "registered" : "default",
	       nr_ranges, iommu_dma_avail(m->iommu));
	for (int i = 0; i < NR_DEVICES; i++) {
		state->addr[i] = m->devices[i]->driver.initialized ? raise_msi(m, i) : 0;
		if (state->addr[i])
			printf(" %08lx", state->addr[i]);
		else
			printf(" (off)");
	}
	printf("\n");
}

static bool same(const struct state *a, const struct state *b)
{
	return a->info->argsz == b->info->argsz && !memcmp(a->info, b->info, a->info->argsz) &&
	       !memcmp(a->addr, b->addr, sizeof(a->addr));
}

/* One domain of three refuses: nothing changes, and later the same call works. */
static void show_rollback(void)
{
	struct dma_region drivers = { .iova = DRIVERS, .size = NR_DEVICES * DRIVER_SIZE };
	struct state before, after;
	struct machine m = {};
	char line[80];
	int ret;

	start(&m, &type1);
	drivers.vaddr = m.memory + drivers.iova;
	iommu_map(m.iommu, &drivers);
	driver_init(&m, NR_DEVICES - 1);
	look(&m, &before, "before");

	ret = __iommu_reserve_msi(m.iommu, WINDOW_IOVA, WINDOW_SIZE);
	snprintf(line, sizeof(line), "register window while %s has its MSI on", bdfs[NR_DEVICES - 1]);
	say_errno(line, ret);
	VFIO_ASSERT_EQ(ret, -EBUSY);
	look(&m, &after, "after");
	VFIO_ASSERT_TRUE(same(&before, &after));
	say("the two states, byte for byte", "the same", true);

	vfio_pci_device_cleanup(m.devices[NR_DEVICES - 1]);
	attach(&m, NR_DEVICES - 1);
	snprintf(line, sizeof(line), "detach and attach %s, register again", bdfs[NR_DEVICES - 1]);
	iommu_reserve_msi(m.iommu, WINDOW_IOVA, WINDOW_SIZE);
	say(line, "ok", true);
	for (int i = 0; i < NR_DEVICES; i++)
		driver_init(&m, i);
	free(after.info);
	look(&m, &after, "now");
	for (int i = 0; i < NR_DEVICES; i++)
		VFIO_ASSERT_TRUE(after.addr[i] >= WINDOW_IOVA && after.addr[i] < WINDOW_IOVA + WINDOW_SIZE);

	free(before.info);
	free(after.info);
	stop(&m);
}

int main(int argc, char *argv[])
{
	struct utsname uts;
	int nr_bdfs;
	bool can;

	setbuf(stdout, NULL);
	plain = argc > 1 && !strcmp(argv[1], "--plain");
	bdfs = vfio_selftests_get_bdfs(&argc, argv, &nr_bdfs);
	if (nr_bdfs < NR_DEVICES) {
		fprintf(stderr, "usage: demo [--plain] BDF BDF BDF...\n");
		return 2;
	}

	uname(&uts);
	can = show(&type1, uts.release);
	show(&iommufd, uts.release);
	if (can) {
		printf("type1, all or nothing: one of three domains refuses\n");
		show_rollback();
	}
	return 0;
}
