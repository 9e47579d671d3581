// SPDX-License-Identifier: GPL-2.0-only
/* Where the doorbells are, as the host sees it: in QEMU's own container or IOAS, and in the device. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <linux/iommufd.h>
#include <linux/vfio.h>

#include "host_test.h"

#define IGB_MSIX_BAR	3

/* What QEMU itself sees of the container, or of iommufd: its own file, taken out of it. */
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
		if (!strcmp(target, native ? IOMMUFD : CONTAINER))
			break;
	}
	fd = syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	CHECK(fd >= 0);
	close(pidfd);
	return fd;
}

static bool container_geometry(int fd, struct vfio_iommu_type1_info_cap_msi_geometry *geometry)
{
	union {
		struct vfio_iommu_type1_info info;
		char bytes[4096];
	} u = { .info.argsz = sizeof(u) };
	struct vfio_info_cap_header *header;

	CHECK(!ioctl(fd, VFIO_IOMMU_GET_INFO, &u.info));
	for (__u32 at = u.info.cap_offset; at; at = header->next) {
		header = (void *)(u.bytes + at);
		if (header->id == VFIO_IOMMU_TYPE1_INFO_CAP_MSI_GEOMETRY) {
			memcpy(geometry, header, sizeof(*geometry));
			return true;
		}
	}
	return false;
}

/* The same of the first IOAS of an iommufd, whose objects have small numbers. */
static bool ioas_geometry(int fd, struct vfio_iommu_type1_info_cap_msi_geometry *geometry)
{
	struct iommu_ioas_msi_window window = { .size = sizeof(window), .op = IOMMU_IOAS_MSI_WINDOW_GET };

	for (window.ioas_id = 1; ioctl(fd, IOMMU_IOAS_MSI_WINDOW, &window); window.ioas_id++) {
		if (errno == ENOTTY)
			return false;
		if (window.ioas_id == 100)
			fail("QEMU's iommufd has no IOAS");
	}
	*geometry = (struct vfio_iommu_type1_info_cap_msi_geometry) {
		.flags = window.out_flags & IOMMU_IOAS_MSI_WINDOW_CHOSEN ? VFIO_IOMMU_MSI_GEOMETRY_REGISTERED : 0,
		.granule = window.out_granule,
		.iova = window.iova,
		.size = window.length,
		.doorbells = window.out_doorbells,
	};
	return true;
}

static bool geometry(struct vm *vm, struct vfio_iommu_type1_info_cap_msi_geometry *geometry)
{
	int fd = container(vm);
	bool has = native ? ioas_geometry(fd, geometry) : container_geometry(fd, geometry);

	close(fd);
	return has;
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

void msi_is_in(const char *bdf, __u64 iova, __u64 size)
{
	__u64 address = msix_address(bdf);

	if (address < iova || address >= iova + size)
		fail("the MSIs of %s go to 0x%llx", bdf, address);
}

void doorbell_is_in(struct vm *vm, const char *bdf, __u64 iova, __u64 size)
{
	struct vfio_iommu_type1_info_cap_msi_geometry g;

	msi_is_in(bdf, iova, size);
	if (!geometry(vm, &g)) {
		CHECK(iova == DEFAULT_IOVA);
		return;
	}
	if (g.iova != iova || g.size != size || !g.doorbells)
		fail("the geometry has 0x%llx, size 0x%llx, %u doorbells", g.iova, g.size, g.doorbells);
	CHECK(!!(g.flags & VFIO_IOMMU_MSI_GEOMETRY_REGISTERED) == (iova != DEFAULT_IOVA));
}

void registered_is(struct vm *vm, __u64 iova, __u64 size)
{
	struct vfio_iommu_type1_info_cap_msi_geometry g;

	CHECK(geometry(vm, &g));
	if (g.iova != iova || g.size != size || !(g.flags & VFIO_IOMMU_MSI_GEOMETRY_REGISTERED))
		fail("the geometry has 0x%llx, size 0x%llx, flags 0x%x", g.iova, g.size, g.flags);
}

static bool window_is(struct vm *vm, __u64 iova)
{
	struct vfio_iommu_type1_info_cap_msi_geometry g;

	CHECK(geometry(vm, &g));
	return g.iova == iova;
}

void expect_window(struct vm *vm, __u64 iova)
{
	if (!window_is(vm, iova))
		fail("the window is not at 0x%llx", iova);
}

/* A device that QEMU gives up goes in QEMU's own time. */
void wait_for_window(struct vm *vm, __u64 iova)
{
	WAIT_FOR(window_is(vm, iova), 10, "the window does not get to 0x%llx", iova);
}

bool offers_extension(const char *path)
{
	int fd = open(path, O_RDWR);
	bool has;

	CHECK(fd >= 0);
	has = ioctl(fd, VFIO_CHECK_EXTENSION, VFIO_RESERVED_MSI_IOVA) == 1;
	close(fd);
	return has;
}
