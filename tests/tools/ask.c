// SPDX-License-Identifier: GPL-2.0-only
/*
 * Asks the kernel what vfio-msi is asked, without any of its code:
 *
 *   ask geometry BDF                 of a container with the group in it
 *   ask map BDF WINDOW RANGE...      START+SIZE, mapped with type1; WINDOW, if not 0, is registered first: 1 MiB
 *   ask hold BDF SECONDS             the group, open
 *   ask nobody COMMAND...            as a user who may do nothing
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/vfio.h>

static int open_group(const char *bdf)
{
	char path[128], link[256], node[300];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", bdf);
	n = readlink(path, link, sizeof(link) - 1);
	if (n < 0)
		exit(3);
	link[n] = '\0';
	snprintf(node, sizeof(node), "/dev/vfio/%s", strrchr(link, '/') + 1);
	fd = open(node, O_RDWR);
	if (fd < 0)
		exit(3);
	return fd;
}

static int open_container(const char *bdf)
{
	int container = open("/dev/vfio/vfio", O_RDWR), group = open_group(bdf);

	if (container < 0 || ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) ||
	    ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		exit(3);
	/* That of iommufd attaches the device now. */
	if (ioctl(group, VFIO_GROUP_GET_DEVICE_FD, bdf) < 0)
		exit(3);
	return container;
}

static void geometry(const char *bdf)
{
	static _Alignas(8) char bytes[65536];
	struct vfio_iommu_type1_info *info = (void *)bytes;
	struct vfio_info_cap_header *header;

	info->argsz = sizeof(bytes);
	if (ioctl(open_container(bdf), VFIO_IOMMU_GET_INFO, info))
		exit(3);
	for (__u32 at = info->cap_offset; at; at = header->next) {
		header = (void *)(bytes + at);
		if (header->id == VFIO_IOMMU_TYPE1_INFO_CAP_MSI_GEOMETRY) {
			struct vfio_iommu_type1_info_cap_msi_geometry *cap = (void *)header;

			printf("geometry %u %u %u 0x%llx 0x%llx %u\n", cap->flags & VFIO_IOMMU_MSI_GEOMETRY_TRANSLATED ? 1 : 0,
			       cap->flags & VFIO_IOMMU_MSI_GEOMETRY_REGISTERED ? 1 : 0, cap->granule, cap->iova, cap->size,
			       cap->doorbells);
		}
		if (header->id == VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE) {
			struct vfio_iommu_type1_info_cap_iova_range *cap = (void *)header;

			for (__u32 i = 0; i < cap->nr_iovas; i++)
				printf("range 0x%llx 0x%llx\n", cap->iova_ranges[i].start, cap->iova_ranges[i].end);
		}
	}
}

static void map(const char *bdf, const char *window, char **ranges, int nr)
{
	struct vfio_iommu_type1_dma_map reserve = {
		.argsz = sizeof(reserve),
		.flags = VFIO_DMA_MAP_FLAG_RESERVED_MSI_IOVA,
		.iova = strtoull(window, NULL, 0),
		.size = 1 << 20,
	};
	int container = open_container(bdf);

	if (reserve.iova && ioctl(container, VFIO_IOMMU_MAP_DMA, &reserve))
		printf("window %s\n", strerror(errno));
	for (int i = 0; i < nr; i++) {
		struct vfio_iommu_type1_dma_map memory = {
			.argsz = sizeof(memory),
			.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		};
		char *end;

		memory.iova = strtoull(ranges[i], &end, 0);
		memory.size = strtoull(end + 1, NULL, 0);
		memory.vaddr = (__u64)(unsigned long)mmap(NULL, memory.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
							  -1, 0);
		printf("%s %s\n", ranges[i], ioctl(container, VFIO_IOMMU_MAP_DMA, &memory) ? strerror(errno) : "ok");
	}
}

int main(int argc, char *argv[])
{
	if (argc == 3 && !strcmp(argv[1], "geometry")) {
		geometry(argv[2]);
	} else if (argc > 4 && !strcmp(argv[1], "map")) {
		map(argv[2], argv[3], argv + 4, argc - 4);
	} else if (argc == 4 && !strcmp(argv[1], "hold")) {
		open_group(argv[2]);
		printf("held\n");
		fflush(stdout);
		sleep(atoi(argv[3]));
	} else if (argc > 2 && !strcmp(argv[1], "nobody")) {
		if (setgid(65534) || setuid(65534))
			return 3;
		execvp(argv[2], argv + 2);
		return 127;
	} else {
		return 2;
	}
	return 0;
}
