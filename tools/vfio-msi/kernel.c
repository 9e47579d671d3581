// SPDX-License-Identifier: GPL-2.0-only
/* What only the kernel's devices tell: a container of type1 and an IOAS of iommufd, by the same names. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "abi.h"
#include "vfio-msi.h"

#define INFO_SIZE	65536	/* much more than GET_INFO ever filled */

static void space_init(struct space *space)
{
	*space = (struct space){ .container = -1, .group = -1, .device = -1, .iommufd = -1 };
}

void space_close(struct space *space)
{
	/* The device first: a group with an open device cannot leave its container. */
	int fds[] = { space->device, space->group, space->container, space->iommufd };

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	space_init(space);
}

bool same_live(const struct live *a, const struct live *b)
{
	return a->told == b->told && a->translated == b->translated && a->chosen == b->chosen &&
	       a->granule == b->granule && a->doorbells == b->doorbells && a->has_window == b->has_window &&
	       a->window.start == b->window.start && a->window.last == b->window.last &&
	       same_ranges(&a->apertures, &b->apertures);
}

/* Says why @path cannot be opened, and what to do about it. */
static int open_node(struct space *space, const char *path, const char *missing)
{
	int fd = open(path, O_RDWR | O_CLOEXEC), err = errno;

	if (fd >= 0)
		return fd;
	if (err == ENOENT || err == ENODEV || err == ENXIO)
		print(space->why, sizeof(space->why), "there is no %s: %s", path, missing);
	else if (err == EACCES || err == EPERM)
		print(space->why, sizeof(space->why), "%s: not allowed: run this as root", path);
	else if (err == EBUSY)
		print(space->why, sizeof(space->why), "%s: in use: end the program or virtual machine that has the device", path);
	else
		print(space->why, sizeof(space->why), "%s: %s", path, strerror(err));
	return -err;
}

static int call(struct space *space, int fd, unsigned long request, void *argument, const char *what)
{
	int ret = ioctl(fd, request, argument), err = errno;

	if (ret >= 0)
		return ret;
	if (err == EPERM)
		print(space->why, sizeof(space->why),
		      "%s: %s: the platform cannot tell whose MSIs arrive; allow_unsafe_interrupts=1 of the module accepts that",
		      what, strerror(err));
	else if (err == EBUSY)
		print(space->why, sizeof(space->why), "%s: in use: end the program or virtual machine that has the device", what);
	else
		print(space->why, sizeof(space->why), "%s: %s", what, strerror(err));
	return -err;
}

/* Type1 */

static int type1_open(struct space *space, const struct group *group, const struct device *device)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	char path[64];
	int ret;

	(void)device;
	space_init(space);
	ret = open_node(space, "/dev/vfio/vfio", "load the module vfio_iommu_type1");
	if (ret < 0)
		return ret;
	space->container = ret;
	if (ioctl(space->container, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) != 1) {
		print(space->why, sizeof(space->why), "/dev/vfio/vfio has no type1: load the module vfio_iommu_type1");
		return -EOPNOTSUPP;
	}

	print(path, sizeof(path), "/dev/vfio/%u", group->number);
	ret = open_node(space, path, "bind all devices of the group to vfio-pci");
	if (ret < 0)
		return ret;
	space->group = ret;
	ret = call(space, space->group, VFIO_GROUP_GET_STATUS, &status, "VFIO_GROUP_GET_STATUS");
	if (ret < 0)
		return ret;
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE)) {
		print(space->why, sizeof(space->why),
		      "group %u is not viable: bind its other devices to vfio-pci, or to no driver", group->number);
		return -EINVAL;
	}
	ret = call(space, space->group, VFIO_GROUP_SET_CONTAINER, &space->container, "VFIO_GROUP_SET_CONTAINER");
	if (ret < 0)
		return ret;
	return call(space, space->container, VFIO_SET_IOMMU, (void *)VFIO_TYPE1v2_IOMMU, "VFIO_SET_IOMMU");
}

static int type1_open_device(struct space *space, const struct device *device)
{
	int ret = call(space, space->group, VFIO_GROUP_GET_DEVICE_FD, (void *)device->name, "VFIO_GROUP_GET_DEVICE_FD");

	if (ret < 0)
		return ret;
	space->device = ret;
	return 0;
}

static int type1_look(struct space *space, struct live *live)
{
	struct vfio_iommu_type1_info_cap_msi_geometry geometry;
	struct vfio_iommu_type1_info_cap_iova_range ranges;
	struct vfio_iommu_type1_info *info = calloc(1, INFO_SIZE);
	struct vfio_info_cap_header header;
	char *bytes = (char *)info;
	int ret;

	*live = (struct live){ 0 };
	if (!info)
		return -ENOMEM;
	info->argsz = INFO_SIZE;
	ret = call(space, space->container, VFIO_IOMMU_GET_INFO, info, "VFIO_IOMMU_GET_INFO");
	if (ret < 0)
		goto out;
	live->offered = ioctl(space->container, VFIO_CHECK_EXTENSION, VFIO_RESERVED_MSI_IOVA) == 1;

	for (uint32_t at = info->flags & VFIO_IOMMU_INFO_CAPS ? info->cap_offset : 0; at; at = header.next) {
		if (at > INFO_SIZE - sizeof(geometry))
			break;
		memcpy(&header, bytes + at, sizeof(header));
		if (header.id == VFIO_IOMMU_TYPE1_INFO_CAP_MSI_GEOMETRY) {
			memcpy(&geometry, bytes + at, sizeof(geometry));
			live->told = true;
			live->translated = geometry.flags & VFIO_IOMMU_MSI_GEOMETRY_TRANSLATED;
			live->chosen = geometry.flags & VFIO_IOMMU_MSI_GEOMETRY_REGISTERED;
			live->granule = geometry.granule;
			live->doorbells = geometry.doorbells;
			live->has_window = geometry.size != 0;
			if (live->has_window)
				live->window = (struct range){ geometry.iova, geometry.iova + geometry.size - 1 };
		}
		if (header.id != VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE)
			continue;
		memcpy(&ranges, bytes + at, sizeof(ranges));
		for (uint32_t i = 0; i < ranges.nr_iovas; i++) {
			struct vfio_iova_range range;

			if (at + sizeof(ranges) + (i + 1) * sizeof(range) > INFO_SIZE)
				break;
			memcpy(&range, bytes + at + sizeof(ranges) + i * sizeof(range), sizeof(range));
			ranges_add(&live->apertures, (struct range){ range.start, range.end });
		}
	}
	ret = 0;
out:
	free(info);
	return ret;
}

static int type1_choose(struct space *space, struct range window)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_RESERVED_MSI_IOVA,
		.iova = window.start,
		.size = window.last - window.start + 1,
	};

	return ioctl(space->container, VFIO_IOMMU_MAP_DMA, &map) ? -errno : 0;
}

static int type1_release(struct space *space, struct range window)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.flags = VFIO_DMA_UNMAP_FLAG_RESERVED_MSI_IOVA,
		.iova = window.start,
		.size = window.last - window.start + 1,
	};

	return ioctl(space->container, VFIO_IOMMU_UNMAP_DMA, &unmap) ? -errno : 0;
}

/* With the last group the domain goes, and the window with it. */
static int type1_detach(struct space *space)
{
	close(space->device);
	space->device = -1;
	return call(space, space->group, VFIO_GROUP_UNSET_CONTAINER, NULL, "VFIO_GROUP_UNSET_CONTAINER");
}

const struct backend type1 = {
	.name = "type1",
	.extension = "VFIO_RESERVED_MSI_IOVA",
	.open = type1_open,
	.open_device = type1_open_device,
	.look = type1_look,
	.choose = type1_choose,
	.release = type1_release,
	.detach = type1_detach,
};

/* iommufd */

static bool cdev_path(const struct device *device, char *path, size_t size)
{
	char directory[256];
	struct dirent *entry;
	bool found = false;
	DIR *dir;

	print(directory, sizeof(directory), "%s/bus/pci/devices/%s/vfio-dev", sysfs, device->name);
	dir = opendir(directory);
	while (dir && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, "vfio", 4))
			continue;
		print(path, size, "/dev/vfio/devices/%s", entry->d_name);
		found = true;
	}
	if (dir)
		closedir(dir);
	return found;
}

static int iommufd_open(struct space *space, const struct group *group, const struct device *device)
{
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };
	struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach) };
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
	char path[512];
	int ret;

	(void)group;
	space_init(space);
	ret = open_node(space, "/dev/iommu", "load the module iommufd, or use a kernel with CONFIG_IOMMUFD");
	if (ret < 0)
		return ret;
	space->iommufd = ret;
	if (!cdev_path(device, path, sizeof(path))) {
		print(space->why, sizeof(space->why), "%s has no device of its own: use a kernel with CONFIG_VFIO_DEVICE_CDEV",
		      device->name);
		return -ENOENT;
	}
	ret = open_node(space, path, "use a kernel with CONFIG_VFIO_DEVICE_CDEV");
	if (ret < 0)
		return ret;
	space->device = ret;

	bind.iommufd = space->iommufd;
	ret = call(space, space->device, VFIO_DEVICE_BIND_IOMMUFD, &bind, "VFIO_DEVICE_BIND_IOMMUFD");
	if (ret < 0)
		return ret;
	ret = call(space, space->iommufd, IOMMU_IOAS_ALLOC, &alloc, "IOMMU_IOAS_ALLOC");
	if (ret < 0)
		return ret;
	space->ioas = alloc.out_ioas_id;
	attach.pt_id = space->ioas;
	return call(space, space->device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach, "VFIO_DEVICE_ATTACH_IOMMUFD_PT");
}

static int iommufd_open_device(struct space *space, const struct device *device)
{
	(void)space;
	(void)device;
	return 0;
}

static int iommufd_look(struct space *space, struct live *live)
{
	struct iommu_ioas_msi_window get = {
		.size = sizeof(get),
		.ioas_id = space->ioas,
		.op = IOMMU_IOAS_MSI_WINDOW_GET,
	};
	struct iommu_ioas_iova_ranges ranges = { .size = sizeof(ranges), .ioas_id = space->ioas };
	struct iommu_iova_range *list;
	int ret;

	*live = (struct live){ 0 };
	if (!ioctl(space->iommufd, IOMMU_IOAS_MSI_WINDOW, &get)) {
		live->offered = true;
		live->told = true;
		live->translated = get.out_flags & IOMMU_IOAS_MSI_WINDOW_TRANSLATED;
		live->chosen = get.out_flags & IOMMU_IOAS_MSI_WINDOW_CHOSEN;
		live->granule = get.out_granule;
		live->doorbells = get.out_doorbells;
		live->has_window = get.length != 0;
		if (live->has_window)
			live->window = (struct range){ get.iova, get.iova + get.length - 1 };
	}

	/* The first call tells how many there are. */
	ret = call(space, space->iommufd, IOMMU_IOAS_IOVA_RANGES, &ranges, "IOMMU_IOAS_IOVA_RANGES");
	if (ret < 0 && ret != -EMSGSIZE)
		return ret;
	list = calloc(ranges.num_iovas + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	ranges.allowed_iovas = (uintptr_t)list;
	ret = call(space, space->iommufd, IOMMU_IOAS_IOVA_RANGES, &ranges, "IOMMU_IOAS_IOVA_RANGES");
	for (uint32_t i = 0; ret >= 0 && i < ranges.num_iovas; i++)
		ranges_add(&live->apertures, (struct range){ list[i].start, list[i].last });
	free(list);
	return ret < 0 ? ret : 0;
}

static int iommufd_choose(struct space *space, struct range window)
{
	struct iommu_ioas_msi_window set = {
		.size = sizeof(set),
		.ioas_id = space->ioas,
		.op = IOMMU_IOAS_MSI_WINDOW_SET,
		.iova = window.start,
		.length = window.last - window.start + 1,
	};

	return ioctl(space->iommufd, IOMMU_IOAS_MSI_WINDOW, &set) ? -errno : 0;
}

static int iommufd_release(struct space *space, struct range window)
{
	struct iommu_ioas_msi_window clear = {
		.size = sizeof(clear),
		.ioas_id = space->ioas,
		.op = IOMMU_IOAS_MSI_WINDOW_CLEAR,
	};

	(void)window;
	return ioctl(space->iommufd, IOMMU_IOAS_MSI_WINDOW, &clear) ? -errno : 0;
}

static int iommufd_detach(struct space *space)
{
	struct vfio_device_detach_iommufd_pt detach = { .argsz = sizeof(detach) };

	return call(space, space->device, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach, "VFIO_DEVICE_DETACH_IOMMUFD_PT");
}

const struct backend iommufd = {
	.name = "iommufd",
	.extension = "IOMMU_IOAS_MSI_WINDOW",
	.open = iommufd_open,
	.open_device = iommufd_open_device,
	.look = iommufd_look,
	.choose = iommufd_choose,
	.release = iommufd_release,
	.detach = iommufd_detach,
};
