// SPDX-License-Identifier: MIT
/*
 * A VMM with nothing but what it takes to show where MSI doorbells may be: one virtual CPU, RAM from address 0 across 128 MiB, and
 * QEMU's edu device, assigned with VFIO, which copies memory and raises an MSI for the guest (payload.c).
 *
 *   vmm [--iommufd] PAYLOAD BDF [IOVA]
 *
 * With IOVA the window for doorbells is placed there first. The device is in a container of type1, or of iommufd that emulates it,
 * and with --iommufd in an IOAS. Runs on Arm hosts with KVM and GICv3; the device is bound to vfio-pci.
 */
#include <fcntl.h>
#include <glob.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/kvm.h>
#include <linux/pci_regs.h>

#include "guest.h"
#include "window.h"

static void __attribute__((noreturn, format(printf, 1, 2)))
die(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "vmm: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
	exit(1);
}

static int check(int ret, const char *what)
{
	if (ret < 0)
		die("%s: %s", what, strerror(errno));
	return ret;
}

#define ioctl_or_die(fd, request, ...) check(ioctl(fd, request, ##__VA_ARGS__), #request)

/* What a device has its IOVA space from: a container, or an IOAS of iommufd. All in which these differ is from here to map(). */
struct space {
	int fd;
	bool iommufd;
	__u32 ioas;
};

static int type1_attach(struct space *space, const char *bdf)
{
	char link[PATH_MAX], path[PATH_MAX] = {}, name[PATH_MAX + 16];
	int group;

	space->fd = check(open("/dev/vfio/vfio", O_RDWR), "/dev/vfio/vfio");
	snprintf(link, sizeof(link), "/sys/bus/pci/devices/%s/iommu_group", bdf);
	check(readlink(link, path, sizeof(path) - 1), link);
	snprintf(name, sizeof(name), "/dev/vfio/%s", basename(path));
	group = check(open(name, O_RDWR), name);
	ioctl_or_die(group, VFIO_GROUP_SET_CONTAINER, &space->fd);
	ioctl_or_die(space->fd, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU);
	return ioctl_or_die(group, VFIO_GROUP_GET_DEVICE_FD, bdf);
}

static int iommufd_attach(struct space *space, const char *bdf)
{
	struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach) };
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };
	struct iommu_ioas_alloc ioas = { .size = sizeof(ioas) };
	char pattern[PATH_MAX], name[PATH_MAX];
	glob_t found;
	int device;

	space->fd = check(open("/dev/iommu", O_RDWR), "/dev/iommu");
	ioctl_or_die(space->fd, IOMMU_IOAS_ALLOC, &ioas);
	space->ioas = ioas.out_ioas_id;
	snprintf(pattern, sizeof(pattern), "/sys/bus/pci/devices/%s/vfio-dev/vfio*", bdf);
	if (glob(pattern, 0, NULL, &found))
		die("%s: the device is not bound to vfio-pci", pattern);
	snprintf(name, sizeof(name), "/dev/vfio/devices/%s", basename(found.gl_pathv[0]));
	device = check(open(name, O_RDWR), name);
	bind.iommufd = space->fd;
	ioctl_or_die(device, VFIO_DEVICE_BIND_IOMMUFD, &bind);
	attach.pt_id = space->ioas;
	ioctl_or_die(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);
	return device;
}

static int type1_map(const struct space *space, void *ram)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)ram,
		.size = RAM_SIZE,
	};

	return ioctl(space->fd, VFIO_IOMMU_MAP_DMA, &map);
}

static int iommufd_map(const struct space *space, void *ram)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
		.ioas_id = space->ioas,
		.user_va = (uintptr_t)ram,
		.length = RAM_SIZE,
	};

	return ioctl(space->fd, IOMMU_IOAS_MAP, &map);
}

static int find_window(const struct space *space, struct msi_window *window)
{
	return space->iommufd ? iommufd_window(space->fd, space->ioas, window) : type1_window(space->fd, window);
}

static int place_window(const struct space *space, uint64_t iova)
{
	return space->iommufd ? iommufd_place_window(space->fd, space->ioas, iova) : type1_place_window(space->fd, iova);
}

/* Give a device a new space. Returns the device. */
static int attach(struct space *space, const char *bdf)
{
	return space->iommufd ? iommufd_attach(space, bdf) : type1_attach(space, bdf);
}

static int map(const struct space *space, void *ram)
{
	return space->iommufd ? iommufd_map(space, ram) : type1_map(space, ram);
}

static void map_ram(const struct space *space, void *ram)
{
	struct msi_window window;
	int error;

	if (!map(space, ram))
		return;
	error = errno;
	if (find_window(space, &window))
		die("guest RAM, 0x0 to 0x%lx, cannot be mapped (%s): this kernel keeps a part of it, probably for MSI doorbells, and "
		    "cannot be told to place them elsewhere", RAM_SIZE - 1, strerror(error));
	if (!window.size)
		die("guest RAM, 0x0 to 0x%lx, cannot be mapped (%s)", RAM_SIZE - 1, strerror(error));
	die("guest RAM, 0x0 to 0x%lx, cannot be mapped (%s): MSI doorbells are at 0x%llx, size 0x%llx; place them elsewhere",
	    RAM_SIZE - 1, strerror(error), window.iova, window.size);
}

/* Let the device do DMA, and have its MSI signal irq. Returns its registers. */
static void *start_device(int device, int irq)
{
	struct vfio_region_info bar = { .argsz = sizeof(bar), .index = VFIO_PCI_BAR0_REGION_INDEX };
	struct vfio_region_info config = { .argsz = sizeof(config), .index = VFIO_PCI_CONFIG_REGION_INDEX };
	struct {
		struct vfio_irq_set set;
		int fd;
	} msi = {
		.set = {
			.argsz = sizeof(msi),
			.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			.index = VFIO_PCI_MSI_IRQ_INDEX,
			.count = 1,
		},
		.fd = irq,
	};
	uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	void *registers;

	ioctl_or_die(device, VFIO_DEVICE_GET_REGION_INFO, &config);
	ioctl_or_die(device, VFIO_DEVICE_GET_REGION_INFO, &bar);
	check(pwrite(device, &command, sizeof(command), config.offset + PCI_COMMAND), "enabling DMA");
	ioctl_or_die(device, VFIO_DEVICE_SET_IRQS, &msi);
	registers = mmap(NULL, EDU_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, device, bar.offset);
	check(registers == MAP_FAILED ? -1 : 0, "mapping the registers");
	return registers;
}

/* Where the device's MSI goes, as the host programmed it. */
static uint64_t msi_address(const char *bdf)
{
	char path[PATH_MAX];
	uint32_t low = 0, high = 0;
	uint8_t at = 0, id = 0;
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/config", bdf);
	fd = check(open(path, O_RDONLY), path);
	check(pread(fd, &at, 1, PCI_CAPABILITY_LIST), path);
	while (at && pread(fd, &id, 1, at) == 1 && id != PCI_CAP_ID_MSI)
		check(pread(fd, &at, 1, at + PCI_CAP_LIST_NEXT), path);
	check(pread(fd, &low, 4, at + PCI_MSI_ADDRESS_LO), path);
	check(pread(fd, &high, 4, at + PCI_MSI_ADDRESS_HI), path);
	close(fd);
	return low | (uint64_t)high << 32;
}

static void add_memory(int vm, unsigned slot, uint64_t address, uint64_t size, void *memory)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.guest_phys_addr = address,
		.memory_size = size,
		.userspace_addr = (uintptr_t)memory,
	};

	ioctl_or_die(vm, KVM_SET_USER_MEMORY_REGION, &region);
}

static void add_gic(int vm)
{
	struct kvm_create_device create = { .type = KVM_DEV_TYPE_ARM_VGIC_V3 };
	uint64_t distributor = GICD_BASE, redistributor = GICR_BASE;
	struct kvm_device_attr attr = { .group = KVM_DEV_ARM_VGIC_GRP_ADDR };

	ioctl_or_die(vm, KVM_CREATE_DEVICE, &create);
	attr.attr = KVM_VGIC_V3_ADDR_TYPE_DIST;
	attr.addr = (uintptr_t)&distributor;
	ioctl_or_die(create.fd, KVM_SET_DEVICE_ATTR, &attr);
	attr.attr = KVM_VGIC_V3_ADDR_TYPE_REDIST;
	attr.addr = (uintptr_t)&redistributor;
	ioctl_or_die(create.fd, KVM_SET_DEVICE_ATTR, &attr);
	attr = (struct kvm_device_attr){ .group = KVM_DEV_ARM_VGIC_GRP_CTRL, .attr = KVM_DEV_ARM_VGIC_CTRL_INIT };
	ioctl_or_die(create.fd, KVM_SET_DEVICE_ATTR, &attr);
}

static void set_register(int vcpu, uint64_t id, uint64_t value)
{
	struct kvm_one_reg reg = { .id = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | id, .addr = (uintptr_t)&value };

	ioctl_or_die(vcpu, KVM_SET_ONE_REG, &reg);
}

struct msi {
	int eventfd;
	int vm;
};

/*
 * Hands the device's MSIs on to the guest. Not KVM_IRQFD: a shared interrupt may have to kick all virtual CPUs, which KVM does
 * with smp_call_function_many(), and that warns in the handler of the device's interrupt.
 */
static void *forward(void *arg)
{
	struct msi *msi = arg;
	struct kvm_irq_level line = { .irq = KVM_ARM_IRQ_TYPE_SPI << KVM_ARM_IRQ_TYPE_SHIFT | MSI_INTID };
	uint64_t count;

	for (;;) {
		check(read(msi->eventfd, &count, sizeof(count)), "the MSI's eventfd");
		line.level = 1;
		ioctl_or_die(msi->vm, KVM_IRQ_LINE, &line);
		line.level = 0;
		ioctl_or_die(msi->vm, KVM_IRQ_LINE, &line);
	}
	return NULL;
}

/* Runs the guest; returns its result. */
static uint32_t run(void *ram, void *registers, int irq)
{
	int kvm = check(open("/dev/kvm", O_RDWR), "/dev/kvm");
	int vm = ioctl_or_die(kvm, KVM_CREATE_VM, 0);
	int vcpu = ioctl_or_die(vm, KVM_CREATE_VCPU, 0);
	static struct msi msi; /* the thread stays */
	struct kvm_vcpu_init init;
	pthread_t thread;
	struct kvm_run *exit;

	add_memory(vm, 0, 0, RAM_SIZE, ram);
	add_memory(vm, 1, EDU_BASE, EDU_SIZE, registers);
	ioctl_or_die(vm, KVM_ARM_PREFERRED_TARGET, &init);
	ioctl_or_die(vcpu, KVM_ARM_VCPU_INIT, &init);
	add_gic(vm);
	msi = (struct msi){ .eventfd = irq, .vm = vm };
	if (pthread_create(&thread, NULL, forward, &msi))
		die("there is no thread for MSIs");
	set_register(vcpu, KVM_REG_ARM_CORE_REG(regs.pc), 0);
	set_register(vcpu, KVM_REG_ARM_CORE_REG(sp_el1), STACK);

	exit = mmap(NULL, ioctl_or_die(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	check(exit == MAP_FAILED ? -1 : 0, "mapping the virtual CPU");
	ioctl_or_die(vcpu, KVM_RUN, 0);
	if (exit->exit_reason != KVM_EXIT_MMIO || exit->mmio.phys_addr != VMM_RESULT)
		die("the guest ended with KVM's exit %u", exit->exit_reason);
	return *(uint32_t *)exit->mmio.data;
}

int main(int argc, char *argv[])
{
	struct space space = { .iommufd = argc > 1 && !strcmp(argv[1], "--iommufd") };
	int device, payload, irq, ret;
	struct msi_window window;
	void *ram, *registers;
	uint32_t result;

	argc -= space.iommufd;
	argv += space.iommufd;
	if (argc < 3 || argc > 4)
		die("usage: vmm [--iommufd] PAYLOAD BDF [IOVA]");

	device = attach(&space, argv[2]);
	/* Before memory is mapped, and before MSIs are enabled. */
	if (argc == 4) {
		ret = place_window(&space, strtoull(argv[3], NULL, 0));
		if (ret)
			die("MSI doorbells cannot be placed at %s: %s", argv[3], strerror(-ret));
	}

	ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(ram == MAP_FAILED ? -1 : 0, "guest RAM");
	map_ram(&space, ram);
	payload = check(open(argv[1], O_RDONLY), argv[1]);
	check(read(payload, ram, STACK / 2), argv[1]);

	irq = check(eventfd(0, EFD_CLOEXEC), "eventfd");
	registers = start_device(device, irq);
	result = run(ram, registers, irq);
	if (result != RESULT_OK)
		die("the guest says %s", result == RESULT_WRONG_DATA ? "that DMA brought other data" : "that no interrupt is pending");

	check(find_window(&space, &window), "the MSI window");
	printf("guest RAM 0x0 to 0x%lx, copied through 0x%lx; MSI to 0x%lx; window 0x%llx, size 0x%llx, %u doorbell\n", RAM_SIZE - 1,
	       MIDDLE, msi_address(argv[2]), window.iova, window.size, window.doorbells);
	return 0;
}
