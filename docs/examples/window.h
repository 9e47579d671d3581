/* SPDX-License-Identifier: MIT */
/*
 * Where MSI doorbells live: what a VMM does about it with VFIO's type1 backend. See docs/vmm.md.
 */
#ifndef WINDOW_H
#define WINDOW_H

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include <linux/vfio.h>

/*
 * The MSI geometry: the window in force, the granule, how many doorbells are mapped. Returns 0, or -ENOENT if the kernel does not
 * tell. To be called when a group is attached and the IOMMU type is set.
 */
static int msi_geometry(int container, struct vfio_iommu_type1_info_cap_msi_geometry *geometry)
{
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
			memcpy(geometry, header, sizeof(*geometry));
			return 0;
		}
	}
	return -ENOENT;
}

/*
 * Have the doorbells of all devices of a container, now and later, in a window of 1 MiB at iova. Returns 0, -EOPNOTSUPP if the
 * kernel cannot do that, or why it did not. After an error everything is as it was before, and another iova can be tried.
 */
static int place_window(int container, __u64 iova)
{
	struct vfio_iommu_type1_dma_map window = {
		.argsz = sizeof(window),
		.flags = VFIO_DMA_MAP_FLAG_RESERVED_MSI_IOVA,
		.iova = iova,
		.size = 1 << 20,	/* what IOMMU drivers reserve; a doorbell takes one granule */
	};
	struct vfio_iommu_type1_info_cap_msi_geometry geometry;

	if (ioctl(container, VFIO_CHECK_EXTENSION, VFIO_RESERVED_MSI_IOVA) != 1)
		return -EOPNOTSUPP;
	if (msi_geometry(container, &geometry))
		return -EOPNOTSUPP;
	if (iova % geometry.granule || window.size % geometry.granule)
		return -EINVAL;
	return ioctl(container, VFIO_IOMMU_MAP_DMA, &window) ? -errno : 0;
}

#endif
