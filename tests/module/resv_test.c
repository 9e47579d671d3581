// SPDX-License-Identifier: GPL-2.0-only
/*
 * A window for doorbells in a container whose devices do not all have the same reserved regions: those of iommu_resv.c.
 *
 *   resv_test [OPTION of the test harness]... JOINING BDF BDF BDF
 *
 * JOINING is behind the IOMMU of the first BDF, has MSI-X, and needs no driver.
 *
 *    doorbells do not go back to where memory is, even if the group with the	release_left_behind
 *    default window has left its domain to another one
 *    the default window of such a domain stays out of the IOVA ranges		default_left_behind
 *    a group whose MSIs are translated does not share the domain of one whose	join_without_cookie,
 *    are not, with a window or without						join_without_cookie_window
 *    a region that a device has brought to an attached group is kept clear of	hotplug_register
 *    and does not keep other groups from being attached			hotplug_attach
 *    a detach that runs out of memory leaves no region of the group in the way	detach_register, detach_release
 *    when out of memory no such window gets lost				left_behind_no_memory
 *    default windows that differ: the geometry names none of them,		windows_differ
 *    doorbells are in each domain's own
 *    and a window is released only if memory is in none of them		release_differ
 */
#include <limits.h>
#include <unistd.h>

#include <sys/eventfd.h>

#include "kselftest_harness.h"
#include "vfio_fail_nth.h"
#include "vfio_reserved_msi.h"

#define RULE "/sys/module/iommu_resv/parameters/rule"
#define TRANSLATED VFIO_IOMMU_MSI_GEOMETRY_TRANSLATED

/* Where the default window of a device is that has been moved. */
#define ELSEWHERE 0x50000000UL

static const char *no_fault_injection;
static char *joining;
static char **bdfs;
static int nr_bdfs;

FIXTURE(resv) {
	struct container c;
	iova_t iova;
	u64 size;
};

FIXTURE_VARIANT(resv) {
	const char *iommu_mode;
};

FIXTURE_VARIANT_ADD(resv, vfio_type1_iommu) {
	.iommu_mode = MODE_VFIO_TYPE1_IOMMU,
};

FIXTURE_VARIANT_ADD(resv, vfio_type1v2_iommu) {
	.iommu_mode = MODE_VFIO_TYPE1V2_IOMMU,
};

static void rule(const char *bdf, const char *what)
{
	char line[64];

	snprintf_assert(line, sizeof(line), "%s %s", bdf, what);
	VFIO_ASSERT_TRUE(write_file(RULE, line), "'%s' to " RULE " failed: load iommu_resv.ko\n", line);
}

static void rules_stock(void)
{
	int i;

	rule(joining, "stock");
	for (i = 0; i < nr_bdfs; i++)
		rule(bdfs[i], "stock");
}

/* A container with the first device alone, as all tests begin. */
FIXTURE_SETUP(resv)
{
	rules_stock();
	container_init(&self->c, variant->iommu_mode, bdfs, nr_bdfs, true);
	for (int i = 1; i < nr_bdfs; i++)
		container_detach(&self->c, i);

	self->iova = self->c.space + 16 * self->c.granule;
	self->size = 16 * self->c.granule;
}

FIXTURE_TEARDOWN(resv)
{
	container_cleanup(&self->c);
	rules_stock();
}

/* Make the container anew, without a group. */
static void start_again(struct container *c)
{
	const char *mode = c->iommu->mode->name;

	container_for_each(c, container_detach_thread);
	iommu_cleanup(c->iommu);
	c->iommu = iommu_init(mode);
}

/* Enable the first MSI-X of a device that no driver is there for, and return where it goes; 0 if that fails. */
static iova_t msi_address(struct vfio_pci_device *device)
{
	struct {
		struct vfio_irq_set set;
		int fd;
	} irq = {
		.set.argsz = sizeof(irq),
		.set.flags = VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_EVENTFD,
		.set.index = VFIO_PCI_MSIX_IRQ_INDEX,
		.set.count = 1,
		.fd = eventfd(0, 0),
	};
	u64 addr = 0;
	int ret;

	VFIO_ASSERT_GE(irq.fd, 0);
	ret = ioctl(device->fd, VFIO_DEVICE_SET_IRQS, &irq);
	VFIO_ASSERT_EQ(close(irq.fd), 0);
	if (!ret)
		VFIO_ASSERT_EQ(__vfio_pci_msix_addr(device, 0, &addr), 0);

	return addr;
}

static bool in_window(iova_t iova, iova_t window, u64 size)
{
	return iova >= window && iova < window + size;
}

/* The group that brought the default window leaves, and another one stays in its domain. */
static struct vfio_pci_device *leave_behind(struct container *c)
{
	struct vfio_pci_device *device;

	rule(joining, "none");
	device = vfio_pci_device_init(joining, c->iommu);
	container_detach(c, 0);

	return device;
}

TEST_F(resv, release_left_behind)
{
	struct container *c = &self->c;
	struct vfio_pci_device *device;
	iova_t doorbell;

	iommu_reserve_msi(c->iommu, self->iova, self->size);
	ASSERT_EQ(0, map_granule(c, c->initial.iova));

	device = leave_behind(c);
	ASSERT_EQ(-EBUSY, release_without_effect(c, self->iova, self->size));

	unmap_granule(c, c->initial.iova);
	iommu_release_msi(c->iommu, self->iova, self->size);
	ASSERT_TRUE(window_default(c));

	doorbell = msi_address(device);
	ASSERT_TRUE(in_window(doorbell, c->initial.iova, c->initial.size));
	ASSERT_EQ(-EINVAL, map_granule(c, c->initial.iova));

	vfio_pci_device_cleanup(device);
}

TEST_F(resv, default_left_behind)
{
	struct container *c = &self->c;
	struct vfio_pci_device *device;

	ASSERT_FALSE(iova_usable(c->iommu, c->initial.iova, c->granule));
	device = leave_behind(c);

	ASSERT_FALSE(iova_usable(c->iommu, c->initial.iova, c->granule));
	ASSERT_EQ(-EINVAL, map_granule(c, c->initial.iova));
	ASSERT_TRUE(window_default(c));
	ASSERT_TRUE(in_window(msi_address(device), c->initial.iova, c->initial.size));

	vfio_pci_device_cleanup(device);
}

/* The group without a default window comes first, and its domain has no place for doorbells. */
static void join_without_cookie(struct __test_metadata *_metadata, struct container *c, iova_t iova, u64 size)
{
	struct vfio_iommu_type1_info_cap_msi_geometry geometry;
	struct vfio_pci_device *device;

	start_again(c);
	rule(joining, "none");
	device = vfio_pci_device_init(joining, c->iommu);
	iommu_msi_geometry(c->iommu, &geometry);
	ASSERT_EQ(0, geometry.flags & TRANSLATED);

	if (size)
		iommu_reserve_msi(c->iommu, iova, size);

	container_attach(c, 0);
	iommu_map(c->iommu, &c->region);
	ASSERT_TRUE(size ? window_registered(c, iova, size) : window_default(c));
	ASSERT_TRUE(container_works(c));

	vfio_pci_device_cleanup(device);
}

TEST_F(resv, join_without_cookie)
{
	join_without_cookie(_metadata, &self->c, 0, 0);
}

TEST_F(resv, join_without_cookie_window)
{
	join_without_cookie(_metadata, &self->c, self->iova, self->size);
}

static void reserve_region(const char *bdf, iova_t iova)
{
	char what[32];

	snprintf_assert(what, sizeof(what), "reserved 0x%lx", iova);
	rule(bdf, what);
}

TEST_F(resv, hotplug_register)
{
	struct container *c = &self->c;
	iova_t region = self->iova + 2 * c->granule;

	reserve_region(bdfs[0], region);

	ASSERT_EQ(-EINVAL, reserve_without_effect(c, self->iova, self->size));
	ASSERT_EQ(-EINVAL, reserve_without_effect(c, region, c->granule));

	/* Mappings have never been checked against it. */
	ASSERT_TRUE(granule_maps(c, region));

	ASSERT_TRUE(container_registers(c, region + c->granule, c->granule));
}

TEST_F(resv, hotplug_attach)
{
	struct container *c = &self->c;

	iommu_reserve_msi(c->iommu, self->iova, self->size);
	reserve_region(bdfs[0], self->iova);

	/* It is noticed when a group leaves, */
	container_attach(c, 1);
	container_detach(c, 1);

	/* and in the way of nobody else. */
	for (int i = 1; i < c->nr_devices; i++)
		container_attach(c, i);
	ASSERT_TRUE(container_works(c));

	/* It would be if it were the new group's. */
	container_detach(c, 1);
	reserve_region(bdfs[1], self->iova);
	int group_fd = group_open(sysfs_iommu_group_get(bdfs[1]));

	ASSERT_EQ(-EINVAL, without_effect(c, group_attach(group_fd, c->iommu)));
	ASSERT_EQ(0, close(group_fd));
}

static void move_elsewhere(void)
{
	char what[32];

	snprintf_assert(what, sizeof(what), "at 0x%lx", ELSEWHERE);
	rule(bdfs[1], what);
}

static void attach_elsewhere(struct container *c)
{
	move_elsewhere();
	container_attach(c, 1);
}

/* Pages of this order and larger ones fail. */
#define MIN_ORDER "/sys/kernel/debug/fail_page_alloc/min-order"

/*
 * Make one allocation fail of those that collecting the groups' regions takes: of objects alone, as now and then a slab wants pages,
 * and there is one more to count.
 */
#define without_memory(fd, nth, call) ({						\
	bool __injected;								\
	int __err;									\
											\
	VFIO_ASSERT_TRUE(write_file(MIN_ORDER, "16"));					\
	VFIO_ASSERT_TRUE(filters_set("iommu_get_group_resv_regions", NULL));		\
	__err = fail_nth(fd, nth, &__injected, call);					\
	filters_restore();								\
	VFIO_ASSERT_TRUE(write_file(MIN_ORDER, "1"));					\
	__err;										\
})

/* Which of them it is. That the IOMMU driver has none for a region is not noticed. */
static int which;

/* How often that failed a call after a detach. */
static int refused;

/*
 * Fail each allocation of detaching the second group, which never fails, whatever it could not find out. Call @after each time, and
 * once more with nothing that failed.
 */
static void detach_each(struct __test_metadata *_metadata, struct container *c, int fd,
			void (*after)(struct __test_metadata *_metadata, struct container *c, int fd))
{
	int group_fd, nth, failed = 0;
	bool injected = true;

	group_fd = group_open(sysfs_iommu_group_get(bdfs[1]));

	for (nth = 1; injected && nth < MAX_NTH; nth++) {
		ASSERT_EQ(0, group_attach(group_fd, c->iommu));

		/* The IOMMU core warns if it cannot take a group back. */
		ASSERT_TRUE(filters_set("vfio_iommu_type1_detach_group", "iommu_detach_group"));
		ASSERT_EQ(0, fail_nth(fd, nth, &injected, ioctl(group_fd, VFIO_GROUP_UNSET_CONTAINER)));
		filters_restore();
		failed += injected;

		after(_metadata, c, fd);
	}

	TH_LOG("%d allocations failed", failed);
	ASSERT_GT(failed, 0);
	ASSERT_FALSE(injected);
	ASSERT_EQ(0, close(group_fd));
}

static void detach_no_memory(struct __test_metadata *_metadata, struct container *c, int fd,
			     void (*after)(struct __test_metadata *_metadata, struct container *c, int fd))
{
	refused = 0;
	for (which = 1; !refused && which <= 8; which++)
		detach_each(_metadata, c, fd, after);
	ASSERT_GT(refused, 0);
}

/* The region of the group that has left is not in the way of a window. */
static void register_after(struct __test_metadata *_metadata, struct container *c, int fd)
{
	iova_t iova = c->space + 16 * c->granule;
	u64 size = 16 * c->granule;
	int ret;

	ret = without_memory(fd, which, __iommu_reserve_msi(c->iommu, iova, size));
	if (ret) {
		ASSERT_EQ(-ENOMEM, ret);
		ASSERT_TRUE(window_default(c));
		refused++;
		ASSERT_EQ(0, __iommu_reserve_msi(c->iommu, iova, size));
	}

	ASSERT_TRUE(window_registered(c, iova, size));
	iommu_release_msi(c->iommu, iova, size);
}

TEST_F_TIMEOUT(resv, detach_register, 300)
{
	int fd;

	if (no_fault_injection)
		SKIP(return, "%s\n", no_fault_injection);

	fd = open("/proc/thread-self/fail-nth", O_RDWR);
	ASSERT_LE(0, fd);
	reserve_region(bdfs[1], self->iova);
	detach_no_memory(_metadata, &self->c, fd, register_after);
	ASSERT_TRUE(container_registers(&self->c, self->iova, self->size));
	ASSERT_EQ(0, close(fd));
}

/* Nor is memory in its default window in the way of the release. That asks the groups only if the detach could not. */
static void release_after(struct __test_metadata *_metadata, struct container *c, int fd)
{
	iova_t iova = c->space + 16 * c->granule;
	u64 size = 16 * c->granule;
	int ret;

	ASSERT_EQ(0, map_granule(c, ELSEWHERE));

	ret = without_memory(fd, which, __iommu_release_msi(c->iommu, iova, size, NULL));
	if (ret) {
		ASSERT_EQ(-ENOMEM, ret);
		ASSERT_TRUE(window_registered(c, iova, size));
		refused++;
		ASSERT_EQ(0, __iommu_release_msi(c->iommu, iova, size, NULL));
	}

	ASSERT_TRUE(window_default(c));
	unmap_granule(c, ELSEWHERE);
	iommu_reserve_msi(c->iommu, iova, size);
}

TEST_F_TIMEOUT(resv, detach_release, 300)
{
	struct container *c = &self->c;
	int fd;

	if (no_fault_injection)
		SKIP(return, "%s\n", no_fault_injection);

	fd = open("/proc/thread-self/fail-nth", O_RDWR);
	ASSERT_LE(0, fd);
	move_elsewhere();
	iommu_reserve_msi(c->iommu, self->iova, self->size);
	detach_no_memory(_metadata, c, fd, release_after);
	ASSERT_TRUE(container_works(c));
	ASSERT_EQ(0, close(fd));
}

/* The default window of the domain that was left behind takes memory to remember. */
TEST_F_TIMEOUT(resv, left_behind_no_memory, 300)
{
	struct container *c = &self->c;
	struct vfio_pci_device *device;
	int fd, nth, ret, failed = 0;
	bool injected = true;

	if (no_fault_injection)
		SKIP(return, "%s\n", no_fault_injection);

	fd = open("/proc/thread-self/fail-nth", O_RDWR);
	ASSERT_LE(0, fd);
	device = leave_behind(c);

	for (nth = 1; injected && nth < MAX_NTH; nth++) {
		ret = fail_nth(fd, nth, &injected, __iommu_reserve_msi(c->iommu, self->iova, self->size));
		if (ret) {
			ASSERT_EQ(-ENOMEM, ret);
			ASSERT_TRUE(window_default(c));
			failed++;
		} else if (injected) {
			iommu_release_msi(c->iommu, self->iova, self->size);
		}
	}

	ASSERT_GT(failed, 0);
	ASSERT_TRUE(window_registered(c, self->iova, self->size));
	ASSERT_TRUE(in_window(msi_address(device), self->iova, self->size));

	vfio_pci_device_cleanup(device);
	ASSERT_EQ(0, close(fd));
}

TEST_F(resv, windows_differ)
{
	struct vfio_iommu_type1_info_cap_msi_geometry geometry;
	struct container *c = &self->c;

	attach_elsewhere(c);
	iommu_msi_geometry(c->iommu, &geometry);
	ASSERT_EQ(TRANSLATED, geometry.flags);
	ASSERT_EQ(0, geometry.iova);
	ASSERT_EQ(0, geometry.size);

	ASSERT_FALSE(iova_usable(c->iommu, c->initial.iova, c->granule));
	ASSERT_FALSE(iova_usable(c->iommu, ELSEWHERE, c->granule));

	ASSERT_TRUE(in_window(msi_address(c->devices[0]), c->initial.iova, c->initial.size));
	ASSERT_TRUE(in_window(msi_address(c->devices[1]), ELSEWHERE, c->initial.size));

	/* With the other domain gone they agree again. */
	container_detach(c, 1);
	iommu_msi_geometry(c->iommu, &geometry);
	ASSERT_EQ(c->initial.iova, geometry.iova);
	ASSERT_EQ(c->initial.size, geometry.size);
	ASSERT_TRUE(iova_usable(c->iommu, ELSEWHERE, c->granule));
}

TEST_F(resv, release_differ)
{
	const iova_t windows[] = { self->c.initial.iova, ELSEWHERE };
	struct vfio_iommu_type1_info_cap_msi_geometry geometry;
	struct container *c = &self->c;

	attach_elsewhere(c);
	ASSERT_TRUE(self->iova != ELSEWHERE);
	iommu_reserve_msi(c->iommu, self->iova, self->size);
	ASSERT_TRUE(window_registered(c, self->iova, self->size));

	for (int i = 0; i < ARRAY_SIZE(windows); i++) {
		ASSERT_EQ(0, map_granule(c, windows[i]));
		ASSERT_EQ(-EBUSY, release_without_effect(c, self->iova, self->size));
		unmap_granule(c, windows[i]);
	}

	iommu_release_msi(c->iommu, self->iova, self->size);
	iommu_msi_geometry(c->iommu, &geometry);
	ASSERT_EQ(TRANSLATED, geometry.flags);
	ASSERT_EQ(0, geometry.size);
	ASSERT_TRUE(in_window(msi_address(c->devices[1]), ELSEWHERE, c->initial.size));
}

int main(int argc, char *argv[])
{
	char **all;
	int nr;

	all = vfio_selftests_get_bdfs(&argc, argv, &nr);
	if (nr < 3)
		ksft_exit_skip("A device and two others behind different IOMMUs are needed\n");
	joining = all[0];
	bdfs = all + 1;
	nr_bdfs = nr - 1;
	require_msi_support(bdfs, nr_bdfs);
	no_fault_injection = knobs_set();
	return test_harness_run(argc, argv);
}
