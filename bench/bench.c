// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the operations of VFIO type1 and of iommufd cost, in nanoseconds of the guest's clock; under lab/run --icount these are
 * instructions.
 *
 *   bench IGB IGB IGB EDU VECTORS
 *
 * PCI addresses: three igbs behind three IOMMUs, a device behind the IOMMU of the first of them, and one with 32 MSI-X vectors.
 * The same program runs on any kernel, and does what the kernel lets it do. Each line is one figure:
 *
 *   operation <tab> domains <tab> mappings <tab> 1 if a window is registered, else 0 <tab> cost
 *
 * On a kernel that has no windows, 1 means that there is a mapping in the window's place. With iommufd it means that all is done
 * once more: there a chosen window is one reserved range where there was one for each device.
 *
 * Each figure is the median of several rounds, in which a container is brought back to the same state: the first round warms
 * the allocator's caches, and now and then one of them is empty or full.
 */
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <linux/iommufd.h>
#include <linux/sizes.h>
#include <linux/vfio.h>

#include <libvfio.h>

#define MAX_DOMAINS	3
#define MAX_VECTORS	32
#define ROUNDS		31
#define ROUNDS_LONG	5	/* of what takes a million instructions or more */
#define TICK		10000000ULL	/* from one to the next, see CONFIG_HZ in lab/kernel/base.config */

/* The IOVA space: what is mapped and unmapped again, the window, what is mapped already. No two share a page table. */
#define MAP_IOVA	((u64)SZ_4G)	/* and the same again for each size */
#define WINDOW_IOVA	(6 * (u64)SZ_4G)
#define WINDOW_SIZE	((u64)SZ_1M)
#define FILL_IOVA	(8 * (u64)SZ_4G)
#define FILL_STRIDE	((u64)SZ_8K)	/* every other page, so that nothing merges */

static char **igbs, *edu, *vectors_bdf;
static void *memory;		/* 1 GiB in one piece */
static bool has_windows, ioas_has_windows;
static u64 overhead;		/* of taking the time */

struct figure {
	u64 rounds[ROUNDS];
	int nr;
};

static u64 now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

/*
 * Begin at the same distance from the timer's tick, so that the same number of ticks falls into an operation each time, and
 * none into most; and let what the kernel puts off, until nobody reads what it frees, happen before.
 */
static void settle(void)
{
	struct timespec ts;
	u64 at;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	at = ((ts.tv_sec * 1000000000ULL + ts.tv_nsec) / TICK + 4) * TICK + TICK / 100;
	ts.tv_sec = at / 1000000000;
	ts.tv_nsec = at % 1000000000;
	VFIO_ASSERT_EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL), 0);
}

#define measure(figure, operation) do {						\
	u64 __start = (settle(), now());					\
	operation;								\
	(figure)->rounds[(figure)->nr++] = now() - __start - overhead;		\
} while (0)

static int compare(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

/* What is longer than a tick has some in it, which are not all alike, and what is long finds caches of the kernel full or not. */
static u64 rounded(u64 cost)
{
	u64 unit = cost < TICK / 10 ? 1 : cost < TICK ? 1000 : TICK / 100;

	return (cost + unit / 2) / unit * unit;
}

static u64 median(struct figure *f)
{
	qsort(f->rounds, f->nr, sizeof(f->rounds[0]), compare);
	return rounded(f->rounds[f->nr / 2]);
}

static void print(const char *operation, int domains, int mappings, bool window, struct figure *f)
{
	printf("%s\t%d\t%d\t%d\t%lu\n", operation, domains, mappings, window, median(f));
}

static void calibrate(void)
{
	struct figure f = {};

	for (int i = 0; i < ROUNDS; i++)
		measure(&f, );
	overhead = median(&f);
}

/* A container or, in its place, an IOAS of iommufd, and the groups in it. */
struct container {
	struct iommu *iommu;
	struct vfio_pci_device *devices[MAX_DOMAINS];
	int domains, mappings;
};

/* To an IOAS, for a domain that the kernel finds or allocates, or to an HWPT; when it is attached to one already, replaces that. */
static int attach(int device, u32 pt)
{
	struct vfio_device_attach_iommufd_pt args = { .argsz = sizeof(args), .pt_id = pt };

	return ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &args);
}

static int detach(int device)
{
	struct vfio_device_detach_iommufd_pt args = { .argsz = sizeof(args) };

	return ioctl(device, VFIO_DEVICE_DETACH_IOMMUFD_PT, &args);
}

/* Bound, attached to nothing. id: its own in iommufd, or NULL. */
static struct vfio_pci_device *bind_device(const char *bdf, struct iommu *iommu, u32 *id)
{
	struct vfio_pci_device *device = vfio_pci_device_alloc(bdf, iommu);
	struct vfio_device_bind_iommufd args = { .argsz = sizeof(args), .iommufd = iommu->iommufd };

	vfio_pci_cdev_open(device, bdf);
	ioctl_assert(device->fd, VFIO_DEVICE_BIND_IOMMUFD, &args);
	if (id)
		*id = args.out_devid;
	return device;
}

static void unbind_device(struct vfio_pci_device *device)
{
	VFIO_ASSERT_EQ(close(device->fd), 0);
	vfio_pci_device_free(device);
}

static void open_container(struct container *c, const char *mode, int domains)
{
	*c = (struct container) { .iommu = iommu_init(mode), .domains = domains };
	for (int i = 0; i < domains; i++) {
		if (c->iommu->iommufd) {
			c->devices[i] = bind_device(igbs[i], c->iommu, NULL);
			VFIO_ASSERT_EQ(attach(c->devices[i]->fd, c->iommu->ioas_id), 0);
			continue;
		}
		c->devices[i] = vfio_pci_device_alloc(igbs[i], c->iommu);
		vfio_pci_group_setup(c->devices[i], igbs[i]);
		vfio_container_set_iommu(c->devices[i]);
	}
}

static void close_container(struct container *c)
{
	for (int i = 0; i < c->domains; i++) {
		if (c->iommu->iommufd) {
			unbind_device(c->devices[i]);
			continue;
		}
		VFIO_ASSERT_EQ(close(c->devices[i]->group_fd), 0);
		vfio_pci_device_free(c->devices[i]);
	}
	iommu_cleanup(c->iommu);
}

#define IOAS_FLAGS	(IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE)

static int ioas_map(struct container *c, u32 flags, u64 *iova, u64 size)
{
	struct iommu_ioas_map args = {
		.size = sizeof(args),
		.flags = flags,
		.ioas_id = c->iommu->ioas_id,
		.user_va = (u64)memory,
		.length = size,
		.iova = *iova,
	};
	int ret = ioctl(c->iommu->iommufd, IOMMU_IOAS_MAP, &args);

	*iova = args.iova;
	return ret;
}

static int ioas_unmap(struct container *c, u64 iova, u64 size)
{
	struct iommu_ioas_unmap args = {
		.size = sizeof(args),
		.ioas_id = c->iommu->ioas_id,
		.iova = iova,
		.length = size,
	};

	return ioctl(c->iommu->iommufd, IOMMU_IOAS_UNMAP, &args);
}

/* iova and size: what SET takes. Returns errno, negative. */
static int msi_window(struct iommu *iommu, u32 ioas, u16 op, u64 iova, u64 size)
{
	struct iommu_ioas_msi_window args = {
		.size = sizeof(args),
		.ioas_id = ioas,
		.op = op,
		.iova = iova,
		.length = size,
	};

	return ioctl(iommu->iommufd, IOMMU_IOAS_MSI_WINDOW, &args) ? -errno : 0;
}

/* So that the one or the other is in force, where there is a choice. */
static void choose_window(struct iommu *iommu, u32 ioas, bool window)
{
	if (!ioas_has_windows)
		return;
	if (window)
		VFIO_ASSERT_EQ(msi_window(iommu, ioas, IOMMU_IOAS_MSI_WINDOW_SET, WINDOW_IOVA, WINDOW_SIZE), 0);
	else
		VFIO_ASSERT_EQ(msi_window(iommu, ioas, IOMMU_IOAS_MSI_WINDOW_CLEAR, 0, 0), 0);
}

static int get_window(struct container *c)
{
	return msi_window(c->iommu, c->iommu->ioas_id, IOMMU_IOAS_MSI_WINDOW_GET, 0, 0);
}

static int set_window(struct container *c, u64 iova)
{
	return msi_window(c->iommu, c->iommu->ioas_id, IOMMU_IOAS_MSI_WINDOW_SET, iova, WINDOW_SIZE);
}

static int clear_window(struct container *c)
{
	return msi_window(c->iommu, c->iommu->ioas_id, IOMMU_IOAS_MSI_WINDOW_CLEAR, 0, 0);
}

static int map(struct container *c, u64 iova, u64 size)
{
	struct vfio_iommu_type1_dma_map args = {
		.argsz = sizeof(args),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (u64)memory,
		.iova = iova,
		.size = size,
	};

	if (c->iommu->iommufd)
		return ioas_map(c, IOAS_FLAGS | IOMMU_IOAS_MAP_FIXED_IOVA, &iova, size);
	return __iommu_map_dma(c->iommu, &args);
}

static int unmap(struct container *c, u64 iova, u64 size)
{
	struct vfio_iommu_type1_dma_unmap args = {
		.argsz = sizeof(args),
		.iova = iova,
		.size = size,
	};

	if (c->iommu->iommufd)
		return ioas_unmap(c, iova, size);
	return __iommu_unmap_dma(c->iommu, &args);
}

static void fill(struct container *c, int mappings)
{
	for (; c->mappings < mappings; c->mappings++)
		VFIO_ASSERT_EQ(map(c, FILL_IOVA + c->mappings * FILL_STRIDE, SZ_4K), 0);
}

static void bench_map(struct container *c, bool window)
{
	static const struct {
		const char *name;
		u64 size;
		int rounds;
	} sizes[] = {
		{ "4 KiB", SZ_4K, ROUNDS },
		{ "2 MiB", SZ_2M, ROUNDS },
		{ "1 GiB", SZ_1G, ROUNDS_LONG },
	};
	char what[64];

	for (int i = 0; i < ARRAY_SIZE(sizes); i++) {
		u64 iova = MAP_IOVA + i * (u64)SZ_4G;
		struct figure mapped = {}, unmapped = {};
		int ret;

		for (int round = 0; round < sizes[i].rounds; round++) {
			measure(&mapped, ret = map(c, iova, sizes[i].size));
			VFIO_ASSERT_EQ(ret, 0);
			measure(&unmapped, ret = unmap(c, iova, sizes[i].size));
			VFIO_ASSERT_EQ(ret, 0);
		}
		snprintf_assert(what, sizeof(what), "%s %s", c->iommu->iommufd ? "IOAS_MAP" : "MAP_DMA", sizes[i].name);
		print(what, c->domains, c->mappings, window, &mapped);
		snprintf_assert(what, sizeof(what), "%s %s", c->iommu->iommufd ? "IOAS_UNMAP" : "UNMAP_DMA", sizes[i].name);
		print(what, c->domains, c->mappings, window, &unmapped);
	}
}

static void bench_questions(struct container *c, bool window)
{
	union {
		struct vfio_iommu_type1_info info;
		char space[SZ_4K];
	} answer;
	struct figure info = {}, extension = {};
	int ret;

	for (int round = 0; round < ROUNDS; round++) {
		answer.info = (struct vfio_iommu_type1_info) { .argsz = sizeof(answer) };
		measure(&info, ret = ioctl(c->iommu->container_fd, VFIO_IOMMU_GET_INFO, &answer));
		VFIO_ASSERT_EQ(ret, 0);
		measure(&extension, ret = iommu_check_extension(c->iommu, VFIO_TYPE1v2_IOMMU));
		VFIO_ASSERT_EQ(ret, 1);
	}
	print("GET_INFO", c->domains, c->mappings, window, &info);
	print("CHECK_EXTENSION", c->domains, c->mappings, window, &extension);
}

static void bench_window(struct container *c)
{
	struct figure reserve = {}, again = {}, release = {};
	int ret;

	for (int round = 0; round < ROUNDS; round++) {
		measure(&reserve, ret = __iommu_reserve_msi(c->iommu, WINDOW_IOVA, WINDOW_SIZE));
		VFIO_ASSERT_EQ(ret, 0);
		measure(&again, ret = __iommu_reserve_msi(c->iommu, WINDOW_IOVA, WINDOW_SIZE));
		VFIO_ASSERT_EQ(ret, -EEXIST);
		measure(&release, ret = __iommu_release_msi(c->iommu, WINDOW_IOVA, WINDOW_SIZE, NULL));
		VFIO_ASSERT_EQ(ret, 0);
	}
	print("register", c->domains, c->mappings, false, &reserve);
	print("register, refused: EEXIST", c->domains, c->mappings, true, &again);
	print("release", c->domains, c->mappings, true, &release);
}

static int open_group(const char *bdf)
{
	char path[32];
	int fd;

	snprintf_assert(path, sizeof(path), "/dev/vfio/%d", sysfs_iommu_group_get(bdf));
	fd = open(path, O_RDWR);
	VFIO_ASSERT_GE(fd, 0, "open(%s) failed\n", path);
	return fd;
}

/* One group more, with a domain of its own or in the first one. */
static void bench_attach(struct container *c, bool window)
{
	static const char * const names[][2] = {
		{ "attach, new domain", "detach, last of its domain" },
		{ "attach, existing domain", "detach, not the last of its domain" },
	};

	for (int existing = 0; existing < 2; existing++) {
		int domains = c->domains + !existing;
		struct figure attach = {}, detach = {};
		int group, ret;

		/* Replay walks the mappings. That is as long as mapping them was, and 1000 are enough to see it. */
		if (domains > MAX_DOMAINS || (!existing && c->mappings > 1000))
			continue;

		group = open_group(existing ? edu : igbs[c->domains]);
		for (int round = 0; round < (c->mappings ? ROUNDS_LONG : ROUNDS); round++) {
			measure(&attach, ret = ioctl(group, VFIO_GROUP_SET_CONTAINER, &c->iommu->container_fd));
			VFIO_ASSERT_EQ(ret, 0);
			measure(&detach, ret = ioctl(group, VFIO_GROUP_UNSET_CONTAINER));
			VFIO_ASSERT_EQ(ret, 0);
		}
		VFIO_ASSERT_EQ(close(group), 0);
		print(names[existing][0], domains, c->mappings, window, &attach);
		print(names[existing][1], domains, c->mappings, window, &detach);
	}
}

static void bench_container(int domains)
{
	static const int mappings[] = { 0, 1000, 60000 };
	struct container c;

	open_container(&c, MODE_VFIO_TYPE1V2_IOMMU, domains);
	for (int i = 0; i < ARRAY_SIZE(mappings); i++) {
		fill(&c, mappings[i]);

		bench_map(&c, false);
		bench_questions(&c, false);
		bench_attach(&c, false);
		if (has_windows) {
			VFIO_ASSERT_EQ(__iommu_reserve_msi(c.iommu, WINDOW_IOVA, WINDOW_SIZE), 0);
			bench_map(&c, true);
			bench_questions(&c, true);
			bench_attach(&c, true);
			VFIO_ASSERT_EQ(__iommu_release_msi(c.iommu, WINDOW_IOVA, WINDOW_SIZE, NULL), 0);
			bench_window(&c);
		} else {
			/* What a window is to those who map: one entry more to pass by. */
			VFIO_ASSERT_EQ(map(&c, WINDOW_IOVA, SZ_4K), 0);
			bench_map(&c, true);
			VFIO_ASSERT_EQ(unmap(&c, WINDOW_IOVA, SZ_4K), 0);
		}
	}
	close_container(&c);
}

/* The container's first group: the backend comes with it, and goes. */
static void bench_first_group(void)
{
	struct figure attach = {}, detach = {};
	int group = open_group(igbs[0]), ret;

	for (int round = 0; round < ROUNDS; round++) {
		struct iommu *iommu = iommu_init(MODE_VFIO_TYPE1V2_IOMMU);

		ioctl_assert(group, VFIO_GROUP_SET_CONTAINER, &iommu->container_fd);
		measure(&attach, ret = ioctl(iommu->container_fd, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
		VFIO_ASSERT_EQ(ret, 0);
		measure(&detach, ret = ioctl(group, VFIO_GROUP_UNSET_CONTAINER));
		VFIO_ASSERT_EQ(ret, 0);
		iommu_cleanup(iommu);
	}
	VFIO_ASSERT_EQ(close(group), 0);
	print("SET_IOMMU, with the first group", 1, 0, false, &attach);
	print("detach, last of the container", 1, 0, false, &detach);
}

static int set_vectors(struct vfio_pci_device *device, const int *eventfds, int count)
{
	union {
		struct vfio_irq_set set;
		char space[sizeof(struct vfio_irq_set) + MAX_VECTORS * sizeof(int)];
	} args = {
		.set = {
			.argsz = sizeof(struct vfio_irq_set) + count * sizeof(int),
			.flags = VFIO_IRQ_SET_ACTION_TRIGGER | (count ? VFIO_IRQ_SET_DATA_EVENTFD : VFIO_IRQ_SET_DATA_NONE),
			.index = VFIO_PCI_MSIX_IRQ_INDEX,
			.count = count,
		},
	};

	memcpy(args.set.data, eventfds, count * sizeof(int));
	return ioctl(device->fd, VFIO_DEVICE_SET_IRQS, &args);
}

/* The first time in a domain maps the doorbell. */
static void bench_vectors(const char *mode, int count, bool window)
{
	struct figure enable[2] = {}, disable[2] = {};
	int eventfds[MAX_VECTORS];
	bool iommufd = false;
	char what[64];

	for (int i = 0; i < count; i++) {
		eventfds[i] = eventfd(0, 0);
		VFIO_ASSERT_GE(eventfds[i], 0);
	}
	for (int round = 0; round < ROUNDS; round++) {
		struct iommu *iommu = iommu_init(mode);
		struct vfio_pci_device *device = vfio_pci_device_init(vectors_bdf, iommu);

		VFIO_ASSERT_GE(device->msix_info.count, count, "%s has too few vectors\n", vectors_bdf);
		iommufd = iommu->iommufd;
		if (iommufd)
			choose_window(iommu, iommu->ioas_id, window);
		else if (window)
			iommu_reserve_msi(iommu, WINDOW_IOVA, WINDOW_SIZE);
		for (int time = 0; time < 2; time++) {
			int ret;

			measure(&enable[time], ret = set_vectors(device, eventfds, count));
			VFIO_ASSERT_EQ(ret, 0);
			measure(&disable[time], ret = set_vectors(device, NULL, 0));
			VFIO_ASSERT_EQ(ret, 0);
		}
		vfio_pci_device_cleanup(device);
		iommu_cleanup(iommu);
	}
	for (int time = 0; time < 2; time++) {
		const char *which = time ? "again" : "first time";
		const char *vectors = count == 1 ? "vector" : "vectors";
		const char *where = iommufd ? "IOAS: " : "";

		snprintf_assert(what, sizeof(what), "%senable %d MSI-X %s, %s", where, count, vectors, which);
		print(what, 1, 0, window, &enable[time]);
		snprintf_assert(what, sizeof(what), "%sdisable %d MSI-X %s, %s", where, count, vectors, which);
		print(what, 1, 0, window, &disable[time]);
	}
	for (int i = 0; i < count; i++)
		VFIO_ASSERT_EQ(close(eventfds[i]), 0);
}

/* A device's MSI, through IOMMU and interrupt controller to the eventfd. */
static void bench_trigger(bool window)
{
	struct iommu *iommu = iommu_init(MODE_VFIO_TYPE1V2_IOMMU);
	struct vfio_pci_device *device = vfio_pci_device_init(igbs[0], iommu);
	struct figure trigger = {};
	u64 count;

	if (window)
		iommu_reserve_msi(iommu, WINDOW_IOVA, WINDOW_SIZE);
	device->driver.region = (struct dma_region) { .vaddr = memory, .iova = MAP_IOVA, .size = SZ_2M };
	iommu_map(iommu, &device->driver.region);
	vfio_pci_driver_init(device);

	for (int round = 0; round < ROUNDS; round++) {
		ssize_t ret;

		measure(&trigger, vfio_pci_driver_send_msi(device);
			ret = read(device->msi_eventfds[device->driver.msi], &count, sizeof(count)));
		VFIO_ASSERT_EQ(ret, sizeof(count));
		VFIO_ASSERT_EQ(count, 1);
	}
	print("MSI, from register write to eventfd", 1, 1, window, &trigger);
	vfio_pci_device_cleanup(device);
	iommu_cleanup(iommu);
}

/* A doorbell in the last domain forbids to move the window in any. */
static void bench_busy(int domains, int mappings)
{
	struct vfio_pci_device *last;
	struct figure busy = {};
	struct container c;
	int fd;

	open_container(&c, MODE_VFIO_TYPE1V2_IOMMU, domains);
	fill(&c, mappings);
	last = c.devices[domains - 1];
	__vfio_pci_group_get_device_fd(last, igbs[domains - 1], NULL);
	VFIO_ASSERT_GE(last->fd, 0);
	fd = eventfd(0, 0);
	VFIO_ASSERT_EQ(set_vectors(last, &fd, 1), 0);

	for (int round = 0; round < ROUNDS; round++) {
		int ret;

		measure(&busy, ret = __iommu_reserve_msi(c.iommu, WINDOW_IOVA, WINDOW_SIZE));
		VFIO_ASSERT_EQ(ret, -EBUSY);
	}
	print("register, refused: EBUSY", domains, mappings, false, &busy);
	VFIO_ASSERT_EQ(close(last->fd), 0);
	VFIO_ASSERT_EQ(close(fd), 0);
	close_container(&c);
}

/* Where the kernel puts a mapping when it may choose, and what it says that it may be. */
static void bench_ioas_iova(struct container *c, bool window)
{
	struct figure mapped = {}, asked = {};
	struct iommu_iova_range ranges[16];
	int ret;

	for (int round = 0; round < ROUNDS; round++) {
		struct iommu_ioas_iova_ranges args = {
			.size = sizeof(args),
			.ioas_id = c->iommu->ioas_id,
			.num_iovas = ARRAY_SIZE(ranges),
			.allowed_iovas = (u64)ranges,
		};
		u64 iova = 0;

		measure(&mapped, ret = ioas_map(c, IOAS_FLAGS, &iova, SZ_4K));
		VFIO_ASSERT_EQ(ret, 0);
		VFIO_ASSERT_EQ(ioas_unmap(c, iova, SZ_4K), 0);
		measure(&asked, ret = ioctl(c->iommu->iommufd, IOMMU_IOAS_IOVA_RANGES, &args));
		VFIO_ASSERT_EQ(ret, 0);
	}
	print("IOAS_MAP 4 KiB, IOVA not given", c->domains, c->mappings, window, &mapped);
	print("IOAS_IOVA_RANGES", c->domains, c->mappings, window, &asked);
}

/* One device more, which gets an HWPT of its own or the first one. */
static void bench_ioas_attach(struct container *c, bool window)
{
	static const char * const names[][2] = {
		{ "attach to IOAS, new HWPT", "detach, last of its HWPT" },
		{ "attach to IOAS, existing HWPT", "detach, not the last of its HWPT" },
	};

	for (int existing = 0; existing < 2; existing++) {
		int domains = c->domains + !existing;
		struct figure attached = {}, detached = {};
		struct vfio_pci_device *device;
		int ret;

		/* A new HWPT gets all mappings, as a new domain of type1 does. */
		if (domains > MAX_DOMAINS || (!existing && c->mappings > 1000))
			continue;

		device = bind_device(existing ? edu : igbs[c->domains], c->iommu, NULL);
		for (int round = 0; round < (c->mappings ? ROUNDS_LONG : ROUNDS); round++) {
			measure(&attached, ret = attach(device->fd, c->iommu->ioas_id));
			VFIO_ASSERT_EQ(ret, 0);
			measure(&detached, ret = detach(device->fd));
			VFIO_ASSERT_EQ(ret, 0);
		}
		unbind_device(device);
		print(names[existing][0], domains, c->mappings, window, &attached);
		print(names[existing][1], domains, c->mappings, window, &detached);
	}
}

static void bench_ioas_window(struct container *c)
{
	struct figure ask = {}, set = {}, ask_chosen = {}, move = {}, clear = {};
	int ret;

	for (int round = 0; round < ROUNDS; round++) {
		measure(&ask, ret = get_window(c));
		VFIO_ASSERT_EQ(ret, 0);
		measure(&set, ret = set_window(c, WINDOW_IOVA));
		VFIO_ASSERT_EQ(ret, 0);
		measure(&ask_chosen, ret = get_window(c));
		VFIO_ASSERT_EQ(ret, 0);
		measure(&move, ret = set_window(c, WINDOW_IOVA + WINDOW_SIZE));
		VFIO_ASSERT_EQ(ret, 0);
		measure(&clear, ret = clear_window(c));
		VFIO_ASSERT_EQ(ret, 0);
	}
	print("MSI_WINDOW GET", c->domains, c->mappings, false, &ask);
	print("MSI_WINDOW GET", c->domains, c->mappings, true, &ask_chosen);
	print("MSI_WINDOW SET", c->domains, c->mappings, false, &set);
	print("MSI_WINDOW SET", c->domains, c->mappings, true, &move);
	print("MSI_WINDOW CLEAR", c->domains, c->mappings, true, &clear);
}

/* As bench_busy(). The doorbell stays: this comes last. */
static void bench_ioas_busy(struct container *c)
{
	struct figure busy = {};
	int fd = eventfd(0, 0);

	VFIO_ASSERT_EQ(set_vectors(c->devices[c->domains - 1], &fd, 1), 0);
	for (int round = 0; round < ROUNDS; round++) {
		int ret;

		measure(&busy, ret = set_window(c, WINDOW_IOVA));
		VFIO_ASSERT_EQ(ret, -EBUSY);
	}
	print("MSI_WINDOW SET, refused: EBUSY", c->domains, c->mappings, false, &busy);
	VFIO_ASSERT_EQ(close(fd), 0);
}

static void bench_ioas(int domains)
{
	static const int mappings[] = { 0, 1000, 60000 };
	struct container c;

	open_container(&c, MODE_IOMMUFD, domains);
	for (int i = 0; i < ARRAY_SIZE(mappings); i++) {
		fill(&c, mappings[i]);
		/* Without windows as well: the more is mapped and unmapped, the more are the trees balanced. */
		for (int window = 0; window < 2; window++) {
			choose_window(c.iommu, c.iommu->ioas_id, window);
			bench_map(&c, window);
			bench_ioas_iova(&c, window);
			bench_ioas_attach(&c, window);
			choose_window(c.iommu, c.iommu->ioas_id, false);
		}
		if (ioas_has_windows)
			bench_ioas_window(&c);
	}
	if (ioas_has_windows)
		bench_ioas_busy(&c);
	close_container(&c);
}

static u32 alloc_ioas(struct iommu *iommu)
{
	struct iommu_ioas_alloc args = { .size = sizeof(args) };

	ioctl_assert(iommu->iommufd, IOMMU_IOAS_ALLOC, &args);
	return args.out_ioas_id;
}

static u32 alloc_hwpt(struct iommu *iommu, u32 device, u32 ioas)
{
	struct iommu_hwpt_alloc args = { .size = sizeof(args), .dev_id = device, .pt_id = ioas };

	ioctl_assert(iommu->iommufd, IOMMU_HWPT_ALLOC, &args);
	return args.out_hwpt_id;
}

static int destroy(struct iommu *iommu, u32 id)
{
	struct iommu_destroy args = { .size = sizeof(args), .id = id };

	return ioctl(iommu->iommufd, IOMMU_DESTROY, &args);
}

/*
 * A device that moves: between HWPTs of one IOAS, as with every change that a guest makes to its own page tables, between
 * IOASes, and in and out. With an MSI, whose doorbell goes with it.
 */
static void bench_moves(bool msi, bool window)
{
	enum { ALLOC, WITHIN, BETWEEN, DETACH, ATTACH, DETACH_IOAS, ATTACH_IOAS, MOVES };
	static const char * const names[] = {
		[ALLOC] = "HWPT_ALLOC",
		[WITHIN] = "replace within IOAS",
		[BETWEEN] = "replace between IOASes",
		[DETACH] = "detach from HWPT",
		[ATTACH] = "attach to HWPT",
		[DETACH_IOAS] = "detach, last of its HWPT",
		[ATTACH_IOAS] = "attach to IOAS, new HWPT",
	};
	struct iommu *iommu = iommu_init(MODE_IOMMUFD);
	u32 ioas[] = { iommu->ioas_id, alloc_ioas(iommu) };
	struct figure figures[MOVES] = {};
	struct vfio_pci_device *device;
	int fd = eventfd(0, 0), ret;
	u32 id, home, near, far;
	char what[64];

	for (int i = 0; i < ARRAY_SIZE(ioas); i++)
		choose_window(iommu, ioas[i], window);
	device = bind_device(vectors_bdf, iommu, &id);
	home = alloc_hwpt(iommu, id, ioas[0]);
	near = alloc_hwpt(iommu, id, ioas[0]);
	far = alloc_hwpt(iommu, id, ioas[1]);
	VFIO_ASSERT_EQ(attach(device->fd, home), 0);
	if (msi)
		VFIO_ASSERT_EQ(set_vectors(device, &fd, 1), 0);

	for (int round = 0; round < ROUNDS; round++) {
		u32 other;

		measure(&figures[ALLOC], other = alloc_hwpt(iommu, id, ioas[0]));
		VFIO_ASSERT_EQ(destroy(iommu, other), 0);

		measure(&figures[WITHIN], ret = attach(device->fd, near));
		VFIO_ASSERT_EQ(ret, 0);
		VFIO_ASSERT_EQ(attach(device->fd, home), 0);
		measure(&figures[BETWEEN], ret = attach(device->fd, far));
		VFIO_ASSERT_EQ(ret, 0);
		VFIO_ASSERT_EQ(attach(device->fd, home), 0);

		measure(&figures[DETACH], ret = detach(device->fd));
		VFIO_ASSERT_EQ(ret, 0);
		measure(&figures[ATTACH], ret = attach(device->fd, home));
		VFIO_ASSERT_EQ(ret, 0);

		VFIO_ASSERT_EQ(detach(device->fd), 0);
		measure(&figures[ATTACH_IOAS], ret = attach(device->fd, ioas[0]));
		VFIO_ASSERT_EQ(ret, 0);
		measure(&figures[DETACH_IOAS], ret = detach(device->fd));
		VFIO_ASSERT_EQ(ret, 0);
		VFIO_ASSERT_EQ(attach(device->fd, home), 0);
	}
	for (int i = msi; i < MOVES; i++) {
		snprintf_assert(what, sizeof(what), "%s%s", names[i], msi ? ", MSI" : "");
		print(what, 1, 0, window, &figures[i]);
	}
	unbind_device(device);
	VFIO_ASSERT_EQ(close(fd), 0);
	iommu_cleanup(iommu);
}

int main(int argc, char *argv[])
{
	static char output[SZ_1M];
	struct container holes;
	struct iommu *iommu;

	if (argc < MAX_DOMAINS + 3) {
		fprintf(stderr, "usage: bench IGB IGB IGB... EDU VECTORS\n");
		return 2;
	}
	igbs = argv + 1;
	edu = argv[argc - 2];
	vectors_bdf = argv[argc - 1];

	/* Writing means interrupts: not before all is measured. */
	setvbuf(stdout, output, _IOFBF, sizeof(output));

	/* One page of its own size: the same physical layout on every kernel, and nothing to be merged or split meanwhile. */
	memory = mmap(NULL, SZ_1G, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB | (30 << MAP_HUGE_SHIFT) | MAP_POPULATE, -1, 0);
	VFIO_ASSERT_NE(memory, MAP_FAILED, "There is no free page of 1 GiB: boot with hugepagesz=1G hugepages=1\n");

	iommu = iommu_init(MODE_VFIO_TYPE1V2_IOMMU);
	has_windows = iommu_check_extension(iommu, VFIO_RESERVED_MSI_IOVA) == 1;
	iommu_cleanup(iommu);

	calibrate();
	bench_first_group();
	for (int window = 0; window <= has_windows; window++) {
		/* In this order: what many vectors leave in the kernel's caches is enough for one. */
		bench_vectors(MODE_VFIO_TYPE1V2_IOMMU, MAX_VECTORS, window);
		bench_vectors(MODE_VFIO_TYPE1V2_IOMMU, 1, window);
		bench_trigger(window);
	}
	for (int domains = 1; domains <= MAX_DOMAINS; domains++) {
		bench_container(domains);
		if (has_windows) {
			bench_busy(domains, 0);
			bench_busy(domains, 60000);
		}
	}

	iommu = iommu_init(MODE_IOMMUFD);
	ioas_has_windows = !msi_window(iommu, iommu->ioas_id, IOMMU_IOAS_MSI_WINDOW_GET, 0, 0);
	iommu_cleanup(iommu);

	/* Holes where a mapping fits: else one allocator's page is full now and then, and each round allocates and frees the next. */
	open_container(&holes, MODE_IOMMUFD, 0);
	fill(&holes, 1000);
	for (int i = 0; i < 1000; i += 2)
		VFIO_ASSERT_EQ(unmap(&holes, FILL_IOVA + i * FILL_STRIDE, SZ_4K), 0);

	for (int window = 0; window < 2; window++) {
		bench_vectors(MODE_IOMMUFD, MAX_VECTORS, window);
		bench_vectors(MODE_IOMMUFD, 1, window);
		bench_moves(false, window);
		bench_moves(true, window);
	}
	for (int domains = 1; domains <= MAX_DOMAINS; domains++)
		bench_ioas(domains);
	close_container(&holes);
	return 0;
}
