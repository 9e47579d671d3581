// SPDX-License-Identifier: GPL-2.0-only
/*
 * What drivers of emulated devices do with a container in which user space registered a window for doorbells: they pin pages,
 * and read and write memory, at IOVAs that a guest gives them. The device is that of vfio_pin.c, alone in the container or
 * beside a real one:
 *
 *   pin_test [OPTION of the test harness]... BDF...
 *
 *    vfio_pin_pages() and vfio_dma_rw() work on memory		memory, rw
 *    fail on the window, and change nothing			window, rw_window
 *    fail across its border, and leave no page pinned		border, rw_border
 *    pinned pages are no obstacle to the window		register_pinned, release_pinned
 *    memory with pinned pages can be unmapped around it	unmap_around, unmap_all
 *    pinned pages are dirty, those of the window never are	dirty_tracking, dirty_detach
 *    on v1 nothing is pinned, rw is as on v2			v1
 */
#include <libgen.h>
#include <limits.h>
#include <unistd.h>

#include <linux/bits.h>

#include "kselftest_harness.h"
#include "vfio_pin.h"
#include "vfio_reserved_msi.h"

/* In granules: memory, the window, and memory again. */
#define BELOW		0
#define WINDOW		16
#define ABOVE		32
#define END		48

#define MEMORY_BITS	(GENMASK(WINDOW - 1, BELOW) | GENMASK(END - 1, ABOVE))

static char **bdfs;
static int nr_bdfs;

FIXTURE(pin) {
	struct container c;
	int group_fd;
	int fd;
	struct dma_region below, window, above;
};

FIXTURE_VARIANT(pin) {
	bool beside_real;
};

FIXTURE_VARIANT_ADD(pin, alone) {
	.beside_real = false,
};

FIXTURE_VARIANT_ADD(pin, beside_real) {
	.beside_real = true,
};

/* Open the emulated device, with its group in the container. */
static int device_open(struct container *c, int *group_fd)
{
	const char *link = "/sys/bus/platform/devices/" VFIO_PIN_DEVICE "/iommu_group";
	char path[PATH_MAX] = {}, group_path[PATH_MAX];
	int fd;

	VFIO_ASSERT_GT(readlink(link, path, sizeof(path) - 1), 0, "There is no %s: load vfio_pin.ko\n", link);
	snprintf_assert(group_path, sizeof(group_path), "/dev/vfio/%s", basename(path));

	*group_fd = open(group_path, O_RDWR);
	VFIO_ASSERT_GE(*group_fd, 0, "open(%s) failed\n", group_path);
	ioctl_assert(*group_fd, VFIO_GROUP_SET_CONTAINER, &c->iommu->container_fd);
	VFIO_ASSERT_EQ(ioctl(c->iommu->container_fd, VFIO_SET_IOMMU, c->iommu->mode->iommu_type), 0);

	fd = ioctl(*group_fd, VFIO_GROUP_GET_DEVICE_FD, VFIO_PIN_DEVICE);
	VFIO_ASSERT_GE(fd, 0);
	return fd;
}

static void space_init(struct container *c)
{
	iommu_msi_geometry(c->iommu, &c->initial);
	c->granule = c->initial.granule;
	VFIO_ASSERT_EQ(c->granule, getpagesize(), "Pages are pinned, and granules counted\n");

	c->space = SZ_1G;
	c->space_vaddr = mmap(NULL, SPACE_GRANULES * c->granule, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	VFIO_ASSERT_NE(c->space_vaddr, MAP_FAILED);
}

static void space_cleanup(struct container *c)
{
	VFIO_ASSERT_EQ(munmap(c->space_vaddr, SPACE_GRANULES * c->granule), 0);
}

FIXTURE_SETUP(pin)
{
	struct container *c = &self->c;

	c->iommu = iommu_init(MODE_VFIO_TYPE1V2_IOMMU);
	self->fd = device_open(c, &self->group_fd);

	if (variant->beside_real) {
		c->bdfs = bdfs;
		c->nr_devices = 1;
		container_attach(c, 0);
	}

	space_init(c);
	self->below = space_region(c, BELOW, WINDOW - BELOW);
	self->window = space_region(c, WINDOW, ABOVE - WINDOW);
	self->above = space_region(c, ABOVE, END - ABOVE);
	iommu_map(c->iommu, &self->below);
	iommu_reserve_msi(c->iommu, self->window.iova, self->window.size);
	iommu_map(c->iommu, &self->above);
}

FIXTURE_TEARDOWN(pin)
{
	VFIO_ASSERT_EQ(close(self->fd), 0);
	VFIO_ASSERT_EQ(close(self->group_fd), 0);
	container_for_each(&self->c, container_detach_thread);
	iommu_cleanup(self->c.iommu);
	space_cleanup(&self->c);
}

/* Pin or unpin pages, given in granules of the space. */
static int pages(struct container *c, int fd, unsigned long request, int start, int count)
{
	struct vfio_pin_pages args = {
		.iova = c->space + start * c->granule,
		.pages = count,
	};
	int ret = ioctl(fd, request, &args);

	return ret < 0 ? -errno : ret;
}

#define pin(start, count) pages(&self->c, self->fd, VFIO_PIN_PIN, start, count)
#define unpin(start, count) pages(&self->c, self->fd, VFIO_PIN_UNPIN, start, count)

static int dma_rw(struct container *c, int fd, u64 offset, void *data, size_t size, bool write)
{
	struct vfio_pin_rw args = {
		.iova = c->space + offset,
		.data = (u64)data,
		.size = size,
		.write = write,
	};

	return ioctl(fd, VFIO_PIN_RW, &args) ? -errno : 0;
}

/* How often the device was told to unpin pages. */
#define unmaps() ioctl(self->fd, VFIO_PIN_UNMAPS)

#define unmap_everything(unmapped) \
	unmap(self->c.iommu, self->c.space, END * self->c.granule, 0, unmapped)

TEST_F(pin, memory)
{
	u64 unmapped;

	ASSERT_EQ(WINDOW, pin(BELOW, WINDOW));
	ASSERT_EQ(END - ABOVE, pin(ABOVE, END - ABOVE));
	ASSERT_EQ(1, pin(BELOW, 1));

	ASSERT_EQ(0, unpin(BELOW, WINDOW));
	ASSERT_EQ(0, unpin(ABOVE, END - ABOVE));
	ASSERT_EQ(0, unmap_everything(&unmapped));
	ASSERT_EQ(0, unmaps());
}

TEST_F(pin, window)
{
	struct container *c = &self->c;
	u64 unmapped;
	int i;

	for (i = WINDOW; i < ABOVE; i++)
		ASSERT_EQ(-EINVAL, without_effect(c, pin(i, 1)));
	ASSERT_EQ(-EINVAL, without_effect(c, pin(WINDOW, ABOVE - WINDOW)));

	ASSERT_EQ(0, unmap_everything(&unmapped));
	ASSERT_EQ(0, unmaps());
	ASSERT_TRUE(window_registered(c, self->window.iova, self->window.size));
}

/* What is pinned would have to be unpinned when it is unmapped. */
TEST_F(pin, border)
{
	struct container *c = &self->c;
	u64 unmapped;

	ASSERT_EQ(-EINVAL, without_effect(c, pin(WINDOW - 1, 2)));
	ASSERT_EQ(-EINVAL, without_effect(c, pin(BELOW, WINDOW + 1)));
	ASSERT_EQ(-EINVAL, without_effect(c, pin(ABOVE - 1, 2)));
	ASSERT_EQ(-EINVAL, without_effect(c, pin(BELOW, END)));

	ASSERT_EQ(0, unmap_everything(&unmapped));
	ASSERT_EQ(self->below.size + self->above.size, unmapped);
	ASSERT_EQ(0, unmaps());

	ASSERT_EQ(-EINVAL, pin(BELOW, 1));
}

TEST_F(pin, border_keeps_pinned)
{
	u64 unmapped;

	ASSERT_EQ(1, pin(WINDOW - 1, 1));
	ASSERT_EQ(-EINVAL, pin(WINDOW - 2, 3));

	ASSERT_EQ(0, unmap_everything(&unmapped));
	ASSERT_EQ(1, unmaps());
}

TEST_F(pin, rw)
{
	struct container *c = &self->c;
	u64 above = ABOVE * c->granule;
	char data[64];

	/* Over the border of two pages. */
	memset(c->space_vaddr, 'a', END * c->granule);
	ASSERT_EQ(0, dma_rw(c, self->fd, c->granule - 32, data, 64, false));
	ASSERT_EQ(0, memcmp(data, c->space_vaddr + c->granule - 32, 64));

	memset(data, 'b', 64);
	ASSERT_EQ(0, dma_rw(c, self->fd, above + c->granule - 32, data, 64, true));
	ASSERT_EQ(0, memcmp(data, c->space_vaddr + above + c->granule - 32, 64));
}

static void test_rw_window(struct __test_metadata *_metadata, struct container *c, int fd)
{
	char data[64] = { 'd' };
	int i, write;

	memset(c->space_vaddr, 'a', END * c->granule);

	for (write = 0; write < 2; write++) {
		for (i = WINDOW; i < ABOVE; i++) {
			ASSERT_EQ(-EINVAL, without_effect(c, dma_rw(c, fd, i * c->granule, data, 64, write)));
			ASSERT_EQ(-EINVAL, without_effect(c, dma_rw(c, fd, (i + 1) * c->granule - 64, data, 64, write)));
		}
	}

	/* Nor did anything go to the memory that would be there if the window was a mapping. */
	for (i = 0; i < END * c->granule; i++)
		ASSERT_EQ('a', ((char *)c->space_vaddr)[i]);
}

TEST_F(pin, rw_window)
{
	test_rw_window(_metadata, &self->c, self->fd);
}

TEST_F(pin, rw_border)
{
	struct container *c = &self->c;
	char data[64] = {};
	int write;

	for (write = 0; write < 2; write++) {
		ASSERT_EQ(-EINVAL, without_effect(c, dma_rw(c, self->fd, WINDOW * c->granule - 32, data, 64, write)));
		ASSERT_EQ(-EINVAL, without_effect(c, dma_rw(c, self->fd, ABOVE * c->granule - 32, data, 64, write)));
	}
}

TEST_F(pin, register_pinned)
{
	struct container *c = &self->c;
	u64 unmapped;

	iommu_release_msi(c->iommu, self->window.iova, self->window.size);
	ASSERT_EQ(WINDOW, pin(BELOW, WINDOW));
	ASSERT_EQ(1, pin(ABOVE, 1));

	iommu_reserve_msi(c->iommu, self->window.iova, self->window.size);
	ASSERT_EQ(-EINVAL, pin(WINDOW, 1));
	ASSERT_EQ(1, pin(ABOVE + 1, 1));

	ASSERT_EQ(0, unpin(BELOW, END));
	ASSERT_EQ(0, unmap_everything(&unmapped));
	ASSERT_EQ(0, unmaps());
}

/* The window's IOVA may become memory, and memory's the window. */
TEST_F(pin, release_pinned)
{
	struct container *c = &self->c;
	u64 unmapped;

	ASSERT_EQ(2, pin(BELOW, 2));
	iommu_release_msi(c->iommu, self->window.iova, self->window.size);
	iommu_map(c->iommu, &self->window);
	ASSERT_EQ(1, pin(WINDOW, 1));
	ASSERT_EQ(END, pin(BELOW, END));
	ASSERT_EQ(-EEXIST, reserve_without_effect(c, self->window.iova, self->window.size));

	iommu_unmap(c->iommu, &self->window);
	ASSERT_EQ(1, unmaps());
	iommu_reserve_msi(c->iommu, self->window.iova, self->window.size);
	ASSERT_EQ(-EINVAL, pin(WINDOW, 1));

	ASSERT_EQ(0, unmap_everything(&unmapped));
	ASSERT_EQ(self->below.size + self->above.size, unmapped);
	ASSERT_EQ(3, unmaps());
	ASSERT_TRUE(window_registered(c, self->window.iova, self->window.size));
}

TEST_F(pin, unmap_around)
{
	struct container *c = &self->c;
	u64 unmapped;

	ASSERT_EQ(1, pin(WINDOW - 1, 1));
	ASSERT_EQ(3, pin(ABOVE, 3));

	ASSERT_EQ(0, unmap_everything(&unmapped));
	ASSERT_EQ(self->below.size + self->above.size, unmapped);
	ASSERT_EQ(2, unmaps());
	ASSERT_TRUE(window_registered(c, self->window.iova, self->window.size));
	ASSERT_EQ(-EINVAL, pin(WINDOW - 1, 1));
	ASSERT_EQ(-EINVAL, pin(ABOVE, 1));
}

TEST_F(pin, unmap_all)
{
	struct container *c = &self->c;
	u64 unmapped;

	ASSERT_EQ(1, pin(BELOW, 1));
	ASSERT_EQ(1, pin(END - 1, 1));

	ASSERT_EQ(0, __iommu_unmap_all(c->iommu, &unmapped));
	ASSERT_EQ(self->below.size + self->above.size, unmapped);
	ASSERT_EQ(2, unmaps());
	ASSERT_TRUE(window_registered(c, self->window.iova, self->window.size));
}

/* The bits of all the space. */
static u64 dirty_bits(struct container *c)
{
	u64 bitmap = 0;

	VFIO_ASSERT_EQ(get_dirty_bitmap(c, c->space, END * c->granule, &bitmap), 0);
	return bitmap;
}

TEST_F(pin, dirty_tracking)
{
	struct container *c = &self->c;
	u64 bitmap = 0, unmapped;
	char data[64] = {};

	ASSERT_EQ(1, pin(BELOW + 3, 1));
	ASSERT_EQ(0, dirty_pages(c->iommu, VFIO_IOMMU_DIRTY_PAGES_FLAG_START));
	ASSERT_EQ(1, pin(ABOVE + 5, 1));
	ASSERT_EQ(0, dma_rw(c, self->fd, 7 * c->granule, data, 64, true));
	ASSERT_EQ(0, dma_rw(c, self->fd, 9 * c->granule, data, 64, false));
	ASSERT_EQ(0, dma_rw(c, self->fd, (ABOVE + 11) * c->granule - 32, data, 64, true));
	ASSERT_EQ(-EINVAL, pin(WINDOW, 1));
	ASSERT_EQ(-EINVAL, dma_rw(c, self->fd, WINDOW * c->granule, data, 64, true));

	if (variant->beside_real) {
		/* It may write to all that is mapped. */
		ASSERT_EQ(MEMORY_BITS, dirty_bits(c));
		ASSERT_EQ(MEMORY_BITS, dirty_bits(c));
		ASSERT_EQ(0, unmap_dirty_bitmap(c, c->space, END * c->granule, &bitmap, &unmapped));
		ASSERT_EQ(MEMORY_BITS, bitmap);
	} else {
		ASSERT_EQ(BIT(3) | BIT(7) | BIT(ABOVE + 5) | BIT(ABOVE + 10) | BIT(ABOVE + 11), dirty_bits(c));

		/* What is pinned stays dirty, and is so once more after it was unpinned. */
		ASSERT_EQ(BIT(3) | BIT(ABOVE + 5), dirty_bits(c));
		ASSERT_EQ(0, unpin(BELOW + 3, 1));
		ASSERT_EQ(BIT(3) | BIT(ABOVE + 5), dirty_bits(c));
		ASSERT_EQ(BIT(ABOVE + 5), dirty_bits(c));

		ASSERT_EQ(0, unmap_dirty_bitmap(c, c->space, END * c->granule, &bitmap, &unmapped));
		ASSERT_EQ(BIT(ABOVE + 5), bitmap);
	}

	ASSERT_EQ(self->below.size + self->above.size, unmapped);
	ASSERT_EQ(0, dirty_bits(c));
	ASSERT_EQ(0, dirty_pages(c->iommu, VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP));
	ASSERT_TRUE(window_registered(c, self->window.iova, self->window.size));
}

/* When the real device leaves, all is dirty for a last time, and from then on what is pinned. */
TEST_F(pin, dirty_detach)
{
	struct container *c = &self->c;

	if (!variant->beside_real)
		SKIP(return, "There is no real device to detach");

	ASSERT_EQ(1, pin(ABOVE + 5, 1));
	ASSERT_EQ(0, dirty_pages(c->iommu, VFIO_IOMMU_DIRTY_PAGES_FLAG_START));
	ASSERT_EQ(MEMORY_BITS, dirty_bits(c));

	container_detach(c, 0);
	ASSERT_EQ(MEMORY_BITS, dirty_bits(c));
	ASSERT_EQ(BIT(ABOVE + 5), dirty_bits(c));
	ASSERT_EQ(0, dirty_pages(c->iommu, VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP));
	ASSERT_EQ(0, unpin(ABOVE + 5, 1));
}

TEST(v1)
{
	struct container c = { .iommu = iommu_init(MODE_VFIO_TYPE1_IOMMU) };
	struct dma_region below, above;
	char data[64] = {};
	int group_fd, fd;

	fd = device_open(&c, &group_fd);
	space_init(&c);
	below = space_region(&c, BELOW, WINDOW - BELOW);
	above = space_region(&c, ABOVE, END - ABOVE);
	iommu_map(c.iommu, &below);
	iommu_reserve_msi(c.iommu, c.space + WINDOW * c.granule, (ABOVE - WINDOW) * c.granule);
	iommu_map(c.iommu, &above);

	ASSERT_EQ(-EACCES, pages(&c, fd, VFIO_PIN_PIN, BELOW, 1));
	ASSERT_EQ(-EACCES, pages(&c, fd, VFIO_PIN_PIN, WINDOW, 1));

	ASSERT_EQ(0, dma_rw(&c, fd, 0, data, 64, true));
	ASSERT_EQ(-EINVAL, dma_rw(&c, fd, WINDOW * c.granule - 32, data, 64, true));
	test_rw_window(_metadata, &c, fd);

	ASSERT_EQ(0, close(fd));
	ASSERT_EQ(0, close(group_fd));
	iommu_cleanup(c.iommu);
	space_cleanup(&c);
}

int main(int argc, char *argv[])
{
	bdfs = vfio_selftests_get_bdfs(&argc, argv, &nr_bdfs);
	return test_harness_run(argc, argv);
}
