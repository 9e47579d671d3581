// SPDX-License-Identifier: GPL-2.0-only
/*
 * The numbers of the series' interfaces that vfio-msi has. Built twice, with headers that lack
 * them, so that they are its own, and with the series' own.
 */
#include <stddef.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "../../tools/vfio-msi/abi.h"

#define NUMBER(x)	printf("%s %lu\n", #x, (unsigned long)(x))
#define FIELD(type, x)	NUMBER(offsetof(struct type, x))

int main(void)
{
	NUMBER(VFIO_RESERVED_MSI_IOVA);
	NUMBER(VFIO_DMA_MAP_FLAG_RESERVED_MSI_IOVA);
	NUMBER(VFIO_DMA_UNMAP_FLAG_RESERVED_MSI_IOVA);
	NUMBER(VFIO_IOMMU_TYPE1_INFO_CAP_MSI_GEOMETRY);
	NUMBER(VFIO_IOMMU_MSI_GEOMETRY_TRANSLATED);
	NUMBER(VFIO_IOMMU_MSI_GEOMETRY_REGISTERED);
	NUMBER(sizeof(struct vfio_iommu_type1_info_cap_msi_geometry));
	FIELD(vfio_iommu_type1_info_cap_msi_geometry, flags);
	FIELD(vfio_iommu_type1_info_cap_msi_geometry, granule);
	FIELD(vfio_iommu_type1_info_cap_msi_geometry, iova);
	FIELD(vfio_iommu_type1_info_cap_msi_geometry, size);
	FIELD(vfio_iommu_type1_info_cap_msi_geometry, doorbells);

	NUMBER(IOMMU_IOAS_MSI_WINDOW);
	NUMBER(IOMMU_IOAS_MSI_WINDOW_GET);
	NUMBER(IOMMU_IOAS_MSI_WINDOW_SET);
	NUMBER(IOMMU_IOAS_MSI_WINDOW_CLEAR);
	NUMBER(IOMMU_IOAS_MSI_WINDOW_TRANSLATED);
	NUMBER(IOMMU_IOAS_MSI_WINDOW_CHOSEN);
	NUMBER(sizeof(struct iommu_ioas_msi_window));
	FIELD(iommu_ioas_msi_window, ioas_id);
	FIELD(iommu_ioas_msi_window, op);
	FIELD(iommu_ioas_msi_window, out_flags);
	FIELD(iommu_ioas_msi_window, flags);
	FIELD(iommu_ioas_msi_window, iova);
	FIELD(iommu_ioas_msi_window, length);
	FIELD(iommu_ioas_msi_window, out_granule);
	FIELD(iommu_ioas_msi_window, out_doorbells);
	return 0;
}
