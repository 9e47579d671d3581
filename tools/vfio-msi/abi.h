/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the two series add to the kernel's interfaces, for headers that lack it: the tool must
 * be built where such a kernel is not running yet. Everything else is in headers of 6.6.
 */
#ifndef ABI_H
#define ABI_H

#include <linux/iommufd.h>
#include <linux/vfio.h>

#ifndef VFIO_RESERVED_MSI_IOVA
#define VFIO_RESERVED_MSI_IOVA				11
#define VFIO_DMA_MAP_FLAG_RESERVED_MSI_IOVA		(1 << 3)
#define VFIO_DMA_UNMAP_FLAG_RESERVED_MSI_IOVA		(1 << 3)
#define VFIO_IOMMU_TYPE1_INFO_CAP_MSI_GEOMETRY		4
#define VFIO_IOMMU_MSI_GEOMETRY_TRANSLATED		(1 << 0)
#define VFIO_IOMMU_MSI_GEOMETRY_REGISTERED		(1 << 1)

struct vfio_iommu_type1_info_cap_msi_geometry {
	struct vfio_info_cap_header header;
	__u32	flags;
	__u32	granule;
	__aligned_u64	iova;
	__aligned_u64	size;
	__u32	doorbells;
	__u32	reserved;
};
#endif

#ifndef IOMMU_IOAS_MSI_WINDOW
#define IOMMU_IOAS_MSI_WINDOW_GET			0
#define IOMMU_IOAS_MSI_WINDOW_SET			1
#define IOMMU_IOAS_MSI_WINDOW_CLEAR			2
#define IOMMU_IOAS_MSI_WINDOW_TRANSLATED		(1 << 0)
#define IOMMU_IOAS_MSI_WINDOW_CHOSEN			(1 << 1)
#define IOMMU_IOAS_MSI_WINDOW				_IO(IOMMUFD_TYPE, 0x96)

struct iommu_ioas_msi_window {
	__u32 size;
	__u32 ioas_id;
	__u16 op;
	__u16 out_flags;
	__u32 flags;
	__aligned_u64 iova;
	__aligned_u64 length;
	__u32 out_granule;
	__u32 out_doorbells;
};
#endif

#endif
