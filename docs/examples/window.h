/* SPDX-License-Identifier: MIT */
/*
 * Where MSI doorbells live: what a VMM does about it, with a container of VFIO's type1 or with an IOAS of iommufd. See docs/vmm.md.
 *
 * All functions return 0 or a negative errno. The device is attached before they are called: then the kernel knows what it needs.
 */
#ifndef WINDOW_H
#define WINDOW_H

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include <linux/iommufd.h>
#include <linux/vfio.h>

#define WINDOW_SIZE	(1 << 20)	/* what IOMMU drivers reserve; a doorbell takes one granule */

/* The window in force, what a doorbell takes of it, and how many are mapped. */
struct msi_window {
	__u64 iova, size;
	__u32 granule, doorbells;
};

/* -ENOENT: the kernel does not tell. */
static int type1_window(int container, struct msi_window *window)
{
	struct vfio_iommu_type1_info_cap_msi_geometry geometry;
	union {
		struct vfio_iommu_type1_info info;
		char bytes[4096];
	} u = { .info.argsz = sizeof(u) };
	struct vfio_info_cap_header *header;

	if (ioctl(container, VFIO_IOMMU_GET_INFO, &u.info))
		return -errno;
	if (!(u.info.flags & VFIO_IOMMU_INFO_CAPS) || u.info.argsz > sizeof(u))
		return -ENOENT;
	for (__u32 at = u.info.cap_offset; at; at = header->next) {
		header = (void *)(u.bytes + at);
		if (header->id == VFIO_IOMMU_TYPE1_INFO_CAP_MSI_GEOMETRY) {
			memcpy(&geometry, header, sizeof(geometry));
			*window = (struct msi_window){ geometry.iova, geometry.size, geometry.granule, geometry.doorbells };
			return 0;
		}
	}
	return -ENOENT;
}

/* -ENOTTY: the kernel does not tell. */
static int iommufd_window(int iommufd, __u32 ioas, struct msi_window *window)
{
	struct iommu_ioas_msi_window get = {
		.size = sizeof(get),
		.ioas_id = ioas,
		.op = IOMMU_IOAS_MSI_WINDOW_GET,
	};

	if (ioctl(iommufd, IOMMU_IOAS_MSI_WINDOW, &get))
		return -errno;
	*window = (struct msi_window){ get.iova, get.length, get.out_granule, get.out_doorbells };
	return 0;
}

/*
 * Have the doorbells of all devices of a container or an IOAS, now and later, in a window of 1 MiB at iova. -EOPNOTSUPP: the kernel
 * cannot do that. After an error everything is as it was before, and another iova can be tried.
 */
static int type1_place_window(int container, __u64 iova)
{
	struct vfio_iommu_type1_dma_map window = {
		.argsz = sizeof(window),
		.flags = VFIO_DMA_MAP_FLAG_RESERVED_MSI_IOVA,
		.iova = iova,
		.size = WINDOW_SIZE,
	};

	if (ioctl(container, VFIO_CHECK_EXTENSION, VFIO_RESERVED_MSI_IOVA) != 1)
		return -EOPNOTSUPP;
	return ioctl(container, VFIO_IOMMU_MAP_DMA, &window) ? -errno : 0;
}

static int iommufd_place_window(int iommufd, __u32 ioas, __u64 iova)
{
	struct iommu_ioas_msi_window set = {
		.size = sizeof(set),
		.ioas_id = ioas,
		.op = IOMMU_IOAS_MSI_WINDOW_SET,
		.iova = iova,
		.length = WINDOW_SIZE,
	};

	if (!ioctl(iommufd, IOMMU_IOAS_MSI_WINDOW, &set))
		return 0;
	return errno == ENOTTY ? -EOPNOTSUPP : -errno;
}

#endif
