// SPDX-License-Identifier: GPL-2.0-only
/*
 * QEMU on the virtual host, with a guest that has the host's igbs: does the guest's driver work, and where does the host map the
 * doorbells?
 *
 *   host_test [OPTION of the test harness]... BDF BDF BDF [BDF...]
 *
 * The devices are bound to vfio-pci and behind different IOMMUs. The guest is guest.c on the host's own kernel, ./Image and
 * ./initrd. /usr/bin has Debian's QEMU, /opt/qemu that of patches/qemu.
 *
 *    unmodified QEMU					debian
 *    a guest with RAM at 128 MiB			versatile.*
 *    patched QEMU that is not told where		default_window
 *    that is told, or chooses				window, window_size, automatic
 *    device reset, guest reboot			window
 *    a BAR over the window				bar, bar_cuts
 *    several devices, behind several IOMMUs		hotplug, hotplug_late, unplug, askers
 *    two QEMUs, each with its window			two_qemus
 *    a guest with an IOMMU				virtio_iommu
 *    where auto and others are put			placed.*, relaxable
 *    a device that the host has no IOMMU for		mediated.window
 *    and another one in the same QEMU, in two containers	mediated.second_container
 *    on a kernel without the extension			no_extension
 *    QEMU replaces itself, or is replaced			live_update, live_transfer
 *    in iommufd's container				iommufd_container, iommufd_container_late
 *    as many mappings as there can be			no_entry_left
 *    what cannot be is refused in one line		refused.*
 *
 * and a VMM whose guest has RAM from address 0, which QEMU's virt board cannot, and makes use of a device, docs/examples/vmm.c, in
 * the kernel's container, which is type1's or, on the kernel "compat", iommufd's, in iommufd's, and in an IOAS of iommufd:
 *
 *    in the way of the default window			vmm.*.default_window
 *    with the window elsewhere				vmm.*.window
 *    with the window in the guest's memory		vmm.*.over_ram
 *
 * All tests are here because kselftest_harness.h, with its list of them, can be in one compilation unit of a program only. What
 * they are made of is declared in host_test.h: qemu.c, qmp.c, window.c and util.c.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "kselftest_harness.h"

#include "host_test.h"

#define TIMEOUT		300	/* seconds, of a test; ten times what one takes */
#define REFUSED_TIMEOUT	60	/* of one in which no guest boots */

#define MDEV		"c9abdcb8-4dbe-4d5c-a3a8-1f2b0a6e7d11"
#define MDEV2		"c9abdcb8-4dbe-4d5c-a3a8-1f2b0a6e7d12"

#define IGB		"-device vfio-pci,host=%s"

static char **bdfs;

/* There is none when the tool root has no sources that patches/qemu is for. */
#define NEEDS_QEMU() \
	do { \
		if (access(PATCHED, X_OK)) \
			SKIP(return, "there is no " PATCHED); \
	} while (0)

#define NEEDS_EXTENSION() \
	do { \
		NEEDS_QEMU(); \
		if (!offers_extension(CONTAINER)) \
			SKIP(return, "this kernel has no VFIO_RESERVED_MSI_IOVA"); \
	} while (0)

/* The whole life of a guest with one igb; "test" does more than "msix" and takes longer, see guest.c. */
static void life(const char *qemu, const char *property, __u64 iova, __u64 size, const char *what)
{
	struct vm vm;

	start_machine(&vm, qemu, virt, IGB "%s", bdfs[0], property);
	expect(&vm, "ready");
	ask(&vm, what, "1 tested");
	doorbell_is_in(&vm, bdfs[0], iova, size);
	stop(&vm);
}

/* A fixture whose variants say which backend QEMU has. */
#define SELECTS_BACKEND(name) \
	FIXTURE_SETUP(name) { native = variant->native; } \
	FIXTURE_TEARDOWN(name) {}

/* One that has nothing else. */
#define BACKENDS(name) \
	FIXTURE(name) {}; \
	FIXTURE_VARIANT(name) { bool native; }; \
	FIXTURE_VARIANT_ADD(name, legacy) {}; \
	FIXTURE_VARIANT_ADD(name, iommufd) { .native = true }

FIXTURE(qemu) {
};

FIXTURE_SETUP(qemu)
{
}

FIXTURE_TEARDOWN(qemu)
{
}

/* With QEMU's two backends. */
BACKENDS(backend);
SELECTS_BACKEND(backend)

TEST_F_TIMEOUT(qemu, debian, TIMEOUT)
{
	life(DEBIAN, "", DEFAULT_IOVA, DEFAULT_SIZE, "test");
}

TEST_F_TIMEOUT(qemu, default_window, TIMEOUT)
{
	NEEDS_QEMU();
	life(PATCHED, "", DEFAULT_IOVA, DEFAULT_SIZE, "test");
}

TEST_F_TIMEOUT(backend, no_extension, REFUSED_TIMEOUT)
{
	struct vm vm;

	NEEDS_QEMU();
	if (offers_extension(CONTAINER))
		SKIP(return, "this kernel has VFIO_RESERVED_MSI_IOVA");
	start(&vm, IGB ",x-msi-iova=auto", bdfs[0]);
	refuses(&vm, "x-msi-iova=auto", native ? "lacks IOMMU_IOAS_MSI_WINDOW" : "lacks VFIO_RESERVED_MSI_IOVA");
}

/* The same file, but not with the same behind it: there are no devices in it yet when QEMU looks for a place. */
TEST_F_TIMEOUT(qemu, iommufd_container, TIMEOUT)
{
	NEEDS_EXTENSION();
	bind_mount(IOMMUFD, CONTAINER);
	life(PATCHED, ",x-msi-iova=auto", 0xfff00000, DEFAULT_SIZE, "msix");
}

/* It accepts a window that the device does not, and the device is refused when it is opened. */
TEST_F_TIMEOUT(qemu, iommufd_container_late, REFUSED_TIMEOUT)
{
	struct vm vm;

	NEEDS_EXTENSION();
	bind_mount(IOMMUFD, CONTAINER);
	start(&vm, IGB ",x-msi-iova=64P", bdfs[0]);
	refuses(&vm, "x-msi-iova=64P", "outside of what the host's IOMMUs map");
}

/* Reset and reboot in the same guest: each boot takes a while. */
TEST_F_TIMEOUT(backend, window, TIMEOUT)
{
	struct vm vm;

	NEEDS_EXTENSION();
	boot(&vm, IGB ",x-msi-iova=0x%llx", bdfs[0], WINDOW_IOVA);
	ask(&vm, "msix", "1 tested");
	doorbell_is_in(&vm, bdfs[0], WINDOW_IOVA, DEFAULT_SIZE);

	ask(&vm, "reset", "reset");
	ask(&vm, "msix", "1 tested");
	doorbell_is_in(&vm, bdfs[0], WINDOW_IOVA, DEFAULT_SIZE);

	ask(&vm, "reboot", "ready");
	ask(&vm, "test", "1 tested");
	doorbell_is_in(&vm, bdfs[0], WINDOW_IOVA, DEFAULT_SIZE);
	stop(&vm);
}

TEST_F_TIMEOUT(qemu, window_size, TIMEOUT)
{
	NEEDS_EXTENSION();
	life(PATCHED, ",x-msi-iova=0x0f000000,x-msi-iova-size=64k", 0x0f000000, 0x10000, "msix");
}

/* The second is behind another IOMMU, and the order does not matter. */
TEST_F_TIMEOUT(backend, automatic, TIMEOUT)
{
	struct vm vm;

	NEEDS_EXTENSION();
	boot(&vm, IGB " " IGB ",x-msi-iova=auto", bdfs[0], bdfs[1]);
	ask(&vm, "msix", "2 tested");
	doorbell_is_in(&vm, bdfs[0], 0xfff00000, DEFAULT_SIZE);
	doorbell_is_in(&vm, bdfs[1], 0xfff00000, DEFAULT_SIZE);
	stop(&vm);
}

/* What the host reserves is not in the IOVA ranges, but for these: memory may be there. */
TEST_F_TIMEOUT(backend, relaxable, REFUSED_TIMEOUT)
{
	char regions[128];
	struct vm vm;
	FILE *file;

	NEEDS_EXTENSION();
	snprintf(regions, sizeof(regions), "/sys/bus/pci/devices/%s/iommu_group/reserved_regions", bdfs[0]);
	file = fopen("/tmp/regions", "w");
	CHECK(file);
	fprintf(file, "0x0000000008000000 0x00000000080fffff msi\n0x00000000ffe80000 0x00000000ffffffff direct-relaxable\n");
	fclose(file);
	bind_mount("/tmp/regions", regions);
	start(&vm, "-S " IGB ",x-msi-iova=auto", bdfs[0]);
	made(&vm);
	registered_is(&vm, 0xffd80000, DEFAULT_SIZE);
	quit(&vm);
}

/*
 * QEMU cannot map a BAR that is the window or lies in it. When the BAR goes away QEMU unmaps it all the same, and the window stays,
 * used or not.
 */
TEST_F_TIMEOUT(qemu, bar, TIMEOUT)
{
	struct vm vm;

	NEEDS_EXTENSION();
	boot(&vm, "-trace vfio_listener_region_del " IGB ",x-msi-iova=0x3e000000,x-msi-iova-size=128k", bdfs[0]);
	ask(&vm, "bar 0 0x3e000000", "moved");
	registered_is(&vm, 0x3e000000, 0x20000);
	ask(&vm, "bar 3 0x3e004000", "moved");
	registered_is(&vm, 0x3e000000, 0x20000);
	ask(&vm, "msix", "1 tested");
	doorbell_is_in(&vm, bdfs[0], 0x3e000000, 0x20000);
	stop(&vm);
	said(&vm, "region_del 0x3e000000 - 0x3e01ffff");
	said(&vm, "overlap gpex_mmio_window");
	said(&vm, "peer-to-peer");
}

/* Nor can it map one that cuts the window, on the left or on the right. It unmaps all of the BAR, and the window stays whole. */
TEST_F_TIMEOUT(qemu, bar_cuts, TIMEOUT)
{
	struct vm vm;

	NEEDS_EXTENSION();
	boot(&vm, "-trace vfio_listener_region_del " IGB ",x-msi-iova=0x3e018000,x-msi-iova-size=64k", bdfs[0]);
	ask(&vm, "bar 0 0x3e000000", "moved");
	ask(&vm, "bar 0 0x3e020000", "moved");
	registered_is(&vm, 0x3e018000, 0x10000);
	stop(&vm);
	said(&vm, "region_del 0x3e000000 - 0x3e01ffff");
	said(&vm, "region_del 0x3e020000 - 0x3e03ffff");
	said(&vm, "peer-to-peer");
}

/* The guest's IOMMU is bypassed at first, for a device that is plugged in later as well. Each has its own container. */
TEST_F_TIMEOUT(backend, virtio_iommu, TIMEOUT)
{
	struct vm vm;

	NEEDS_EXTENSION();
	boot(&vm, PORT " -device virtio-iommu-pci " IGB ",x-msi-iova=auto", bdfs[0]);
	ask(&vm, "resv 0x00000000fff00000", "reserved");
	ask(&vm, native ? "msix" : "test", "1 tested");
	doorbell_is_in(&vm, bdfs[0], 0xfff00000, DEFAULT_SIZE);
	plug(&vm, bdfs[1], "addr=0.1,x-msi-iova=auto");
	unplug(&vm, "hot");
	plug_again(&vm, bdfs[1], "x-msi-iova=0xf0000000");
	ask(&vm, "rescan", "rescanned");
	ask(&vm, "msix", "2 tested");
	msi_is_in(bdfs[1], WINDOW_IOVA, DEFAULT_SIZE);
	stop(&vm);
}

TEST_F_TIMEOUT(backend, hotplug, TIMEOUT)
{
	struct vm vm;

	NEEDS_EXTENSION();
	boot(&vm, PORT " " IGB ",x-msi-iova=0x%llx", bdfs[0], WINDOW_IOVA);
	ask(&vm, "msix", "1 tested");

	/* One that asks for another window is refused, and the guest does not suffer. */
	plug_refused(&vm, bdfs[1], "x-msi-iova=0xe0000000", "x-msi-iova=0xe0000000: the container has its MSI doorbells at 0xf0000000");
	ask(&vm, "msix", "1 tested");

	plug(&vm, bdfs[1], "");
	ask(&vm, "rescan", "rescanned");
	ask(&vm, "msix", "2 tested");
	doorbell_is_in(&vm, bdfs[0], WINDOW_IOVA, DEFAULT_SIZE);
	doorbell_is_in(&vm, bdfs[1], WINDOW_IOVA, DEFAULT_SIZE);
	stop(&vm);
}

/* The first to ask comes when the other's doorbell is mapped. */
TEST_F_TIMEOUT(backend, hotplug_late, TIMEOUT)
{
	struct vm vm;

	NEEDS_EXTENSION();
	boot(&vm, PORT " " IGB, bdfs[0]);
	ask(&vm, "msix", "1 tested");
	plug_refused(&vm, bdfs[1], "x-msi-iova=0xf0000000", "x-msi-iova=0xf0000000: too late");
	plug(&vm, bdfs[1], "x-msi-iova=0x08000000");
	ask(&vm, "msix", "1 tested");
	doorbell_is_in(&vm, bdfs[0], DEFAULT_IOVA, DEFAULT_SIZE);
	stop(&vm);
}

/*
 * A window goes with the last device that asked for it, even if that was never there, and stays while it is used. Function 1 of a
 * slot goes without asking the guest, which does not see it when there is no function 0.
 */
TEST_F_TIMEOUT(backend, unplug, TIMEOUT)
{
	struct vm vm;

	NEEDS_EXTENSION();
	boot(&vm, "-trace vfio_msi_window_keep " PORT " " IGB, bdfs[0]);

	plug_refused(&vm, bdfs[0], "x-msi-iova=0xf0000000", native ? "error bind device" : "already attached");
	expect_window(&vm, DEFAULT_IOVA);
	plug_refused(&vm, bdfs[1], "x-msi-iova=0xf0000000,x-pci-vendor-id=65535", "invalid PCI vendor ID");
	wait_for_window(&vm, DEFAULT_IOVA);

	plug(&vm, bdfs[1], "addr=0.1,x-msi-iova=0xf0000000");
	expect_window(&vm, WINDOW_IOVA);
	unplug(&vm, "hot");
	wait_for_window(&vm, DEFAULT_IOVA);

	plug(&vm, bdfs[1], "addr=0.1,x-msi-iova=0xe0000000");
	ask(&vm, "msix", "1 tested");
	doorbell_is_in(&vm, bdfs[0], 0xe0000000, DEFAULT_SIZE);
	unplug(&vm, "hot");
	plug_refused(&vm, bdfs[1], "addr=0.1,x-msi-iova=0xf0000000", "x-msi-iova=0xf0000000: the container has its MSI doorbells at 0xe0000000");
	ask(&vm, "msix", "1 tested");
	doorbell_is_in(&vm, bdfs[0], 0xe0000000, DEFAULT_SIZE);
	stop(&vm);
	said(&vm, "vfio_msi_window_keep");
}

/* Two that ask for the same share it, and it stays until the last of them goes. */
TEST_F_TIMEOUT(backend, askers, REFUSED_TIMEOUT)
{
	struct vm vm;

	NEEDS_EXTENSION();
	start(&vm, "-S -trace vfio_msi_window_* " PORT " " IGB
	      " " IGB ",bus=empty,addr=0.1,id=hot,x-msi-iova=0xf0000000"
	      " " IGB ",bus=empty,addr=0.2,id=other,x-msi-iova=auto,x-msi-iova-size=1M", bdfs[0], bdfs[1], bdfs[2]);
	made(&vm);
	unplug(&vm, "hot");
	plug_again(&vm, bdfs[1], "addr=0.1");
	registered_is(&vm, WINDOW_IOVA, DEFAULT_SIZE);
	unplug(&vm, "other");
	wait_for_window(&vm, DEFAULT_IOVA);
	quit(&vm);
	said(&vm, "vfio_msi_window_register");
	said(&vm, "vfio_msi_window_share");
	said(&vm, "vfio_msi_window_release");
}

/*
 * Another QEMU takes over, and the guest goes on. The new one knows the window, although it did not place it: another window is
 * refused, a device that says "auto" shares it.
 */
static void update(void (*how)(struct vm *vm))
{
	struct vm vm;

	boot(&vm, "-trace vfio_msi_window_* -object memory-backend-memfd,id=ram,size=256M -machine memory-backend=ram,aux-ram-share=on "
	      PORT " " IGB ",x-msi-iova=auto", bdfs[0]);
	ask(&vm, "msix", "1 tested");
	doorbell_is_in(&vm, bdfs[0], 0xfff00000, DEFAULT_SIZE);
	how(&vm);
	ask(&vm, "msix", "1 tested");
	doorbell_is_in(&vm, bdfs[0], 0xfff00000, DEFAULT_SIZE);
	plug_refused(&vm, bdfs[1], "x-msi-iova=0xf0000000", "x-msi-iova=0xf0000000: the container has its MSI doorbells at 0xfff00000");
	plug(&vm, bdfs[1], "x-msi-iova=auto");
	stop(&vm);
	said(&vm, "vfio_msi_window_adopt");
	said(&vm, "vfio_msi_window_share");
}

TEST_F_TIMEOUT(backend, live_update, TIMEOUT)
{
	NEEDS_EXTENSION();
	update(live_update);
}

TEST_F_TIMEOUT(backend, live_transfer, TIMEOUT)
{
	NEEDS_EXTENSION();
	update(live_transfer);
}

/* It is of containers that are opened from now on. */
#define ENTRY_LIMIT	"/sys/module/vfio_iommu_type1/parameters/dma_entry_limit"

TEST_F_TIMEOUT(qemu, no_entry_left, REFUSED_TIMEOUT)
{
	struct vm vm;
	int status;

	NEEDS_EXTENSION();
	write_file(ENTRY_LIMIT, "0");
	start(&vm, IGB ",x-msi-iova=auto", bdfs[0]);
	status = finish(&vm);
	write_file(ENTRY_LIMIT, "65535");
	refused(&vm, status, "x-msi-iova=auto", "dma_entry_limit");
}

TEST_F_TIMEOUT(qemu, two_qemus, TIMEOUT)
{
	struct vm one, two;

	NEEDS_EXTENSION();
	start(&one, IGB ",x-msi-iova=0x%llx", bdfs[0], WINDOW_IOVA);
	start(&two, IGB ",x-msi-iova=3584M", bdfs[1]);
	expect(&one, "ready");
	expect(&two, "ready");
	ask(&one, "msix", "1 tested");
	ask(&two, "msix", "1 tested");
	doorbell_is_in(&one, bdfs[0], WINDOW_IOVA, DEFAULT_SIZE);
	doorbell_is_in(&two, bdfs[1], 0xe0000000, DEFAULT_SIZE);
	stop(&one);
	stop(&two);
}

/* Devices that the host has no IOMMU for */

BACKENDS(mediated);

static const char *const mdevs[] = { MDEV, MDEV2 };

FIXTURE_SETUP(mediated)
{
	native = variant->native;
	for (int i = 0; i < 2; i++)
		write_file("/sys/class/mdev_bus/mtty/mdev_supported_types/mtty-1/create", mdevs[i]);
}

/* A test that fails just ends. */
FIXTURE_TEARDOWN_PARENT(mediated)
{
	char path[128];

	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "/sys/bus/mdev/devices/%s/remove", mdevs[i]);
		write_file(path, "1");
	}
}

#define MEDIATED(uuid)	"-device vfio-pci,sysfsdev=/sys/bus/mdev/devices/" uuid

/* Its container has no IOVA ranges: any will do. */
TEST_F_TIMEOUT(mediated, window, TIMEOUT)
{
	struct vm vm;

	NEEDS_EXTENSION();
	boot(&vm, MEDIATED(MDEV) ",x-msi-iova=auto");
	registered_is(&vm, 0xfff00000, DEFAULT_SIZE);
	stop(&vm);
	/* As high as can be, but not to the very end, since that is no address. */
	start(&vm, "-S " MEDIATED(MDEV) ",x-msi-iova=auto,x-msi-iova-size=4G");
	made(&vm);
	registered_is(&vm, -(1ULL << 32) - getpagesize(), 1ULL << 32);
	quit(&vm);
}

/*
 * The igb's IOMMU does not reach as far as the first device's window, so that it gets a container of its own. The kernel lets the
 * third one into that, too, but what it asks for is in the other.
 */
TEST_F_TIMEOUT(mediated, second_container, REFUSED_TIMEOUT)
{
	struct vm vm;

	NEEDS_EXTENSION();
	start(&vm, "-S -trace vfio_msi_window_* " MEDIATED(MDEV) ",x-msi-iova=64P " IGB ",x-msi-iova=auto "
	      MEDIATED(MDEV2) ",x-msi-iova=64P", bdfs[0]);
	made(&vm);
	quit(&vm);
	said(&vm, "vfio_msi_window_register " MDEV);
	said(&vm, "iova=0xfff00000");
	said(&vm, "vfio_msi_window_share " MDEV2);
}

/* What cannot be */

FIXTURE(refused) {
};

FIXTURE_VARIANT(refused) {
	const char *properties;
	const char *reason;
	const char *culprit;	/* the one that it is about, if it is not all of them */
	const char *others;	/* options before the device */
	const char *first;	/* properties of another one, if there is one */
	bool native;
};

#define REFUSED(name, ...) FIXTURE_VARIANT_ADD(refused, name) { __VA_ARGS__ }
/* With iommufd, too, where its words or the kernel's make a difference. */
#define REFUSED_TOO(name, ...) \
	REFUSED(name, __VA_ARGS__); \
	REFUSED(iommufd_##name, __VA_ARGS__, .native = true)

#define VIOMMU		"-device virtio-iommu-pci"
#define ROOM		"-m 256,slots=1,maxmem=1G"

REFUSED(no_address, "x-msi-iova=here", "not an address, nor auto");
REFUSED(empty_address, "x-msi-iova=", "not an address, nor auto");
REFUSED(negative, "x-msi-iova=-0x1000", "not an address, nor auto");
REFUSED(address_of_65_bits, "x-msi-iova=0x10000000000000000", "out of range");
REFUSED(octal, "x-msi-iova=01000000", "not a multiple of 0x1000");
REFUSED_TOO(unaligned, "x-msi-iova=0xf0000800", "not a multiple of 0x1000");
REFUSED(wraps, "x-msi-iova=0xfffffffffffff000", "beyond the end");
REFUSED_TOO(beyond_aperture, "x-msi-iova=64P", "outside of what the host's IOMMUs map");
REFUSED_TOO(over_ram, "x-msi-iova=0x40000000", "overlap mach-virt.ram, 0x40000000 to 0x4fffffff");
REFUSED(over_end_of_ram, "x-msi-iova=0x4ff00000,x-msi-iova-size=2M", "mach-virt.ram", .culprit = "x-msi-iova=0x4ff00000");
REFUSED(over_room, "x-msi-iova=0x80000000", "overlap room for more memory", .others = ROOM);
REFUSED(size_zero, "x-msi-iova=0xf0000000,x-msi-iova-size=0", "not a positive multiple of 0x1000", .culprit = "x-msi-iova-size=0");
REFUSED_TOO(size_unaligned, "x-msi-iova=0xf0000000,x-msi-iova-size=6k", "multiple of 0x1000", .culprit = "x-msi-iova-size=6k");
REFUSED(size_alone, "x-msi-iova-size=1M", "without x-msi-iova");
REFUSED(size_all_alone, "x-msi-iova-size=0xffffffffffffffff", "without x-msi-iova");
REFUSED(size_all, "x-msi-iova=auto,x-msi-iova-size=0xffffffffffffffff", "not a positive multiple of 0x1000",
	.culprit = "x-msi-iova-size=0xffffffffffffffff");
REFUSED(size_no_size, "x-msi-iova=auto,x-msi-iova-size=big", "not a size", .culprit = "x-msi-iova-size=big");
REFUSED_TOO(size_too_large, "x-msi-iova=auto,x-msi-iova-size=8E", "no 0x8000000000000000 bytes are free", .culprit = "x-msi-iova=auto");
/* The guest's IOMMU may show the devices all memory that there is, whether it does so now or not. */
REFUSED(viommu_ram, "x-msi-iova=0x40000000", "mach-virt.ram", .others = VIOMMU ",boot-bypass=off");
REFUSED(viommu_room, "x-msi-iova=0x80000000", "room for more memory", .others = VIOMMU " " ROOM);
REFUSED_TOO(viommu_auto, "x-msi-iova=auto", "no 0x100000 bytes are free", .others = VIOMMU ",boot-bypass=off");
/* A container has one window. */
REFUSED_TOO(second_window, "x-msi-iova=0xe0000000", "the container has its MSI doorbells at 0xf0000000, size 0x100000",
	    .first = "x-msi-iova=0xf0000000");
REFUSED_TOO(second_size, "x-msi-iova=0xf0000000,x-msi-iova-size=64k", "the container has its MSI doorbells at 0xf0000000, size 0x100000",
	    .culprit = "x-msi-iova-size=64k", .first = "x-msi-iova=0xf0000000");
REFUSED(automatic_size, "x-msi-iova=auto,x-msi-iova-size=1M", "size 0x10000", .culprit = "x-msi-iova-size=1M",
	.first = "x-msi-iova=auto,x-msi-iova-size=64k");

SELECTS_BACKEND(refused)

TEST_F_TIMEOUT(refused, refused, REFUSED_TIMEOUT)
{
	char first[128] = "";
	struct vm vm;

	NEEDS_EXTENSION();
	if (variant->first)
		snprintf(first, sizeof(first), IGB ",%s", bdfs[1], variant->first);
	start(&vm, "%s %s " IGB ",%s", variant->others ?: "", first, bdfs[0], variant->properties);
	refuses(&vm, variant->culprit ?: variant->properties, variant->reason);
}

/* What can be, and is seen without a guest */

FIXTURE(placed) {
};

FIXTURE_VARIANT(placed) {
	const char *options, *properties;
	__u64 iova, size;
	const char *says;
	bool native;
};

SELECTS_BACKEND(placed)

#define PLACED(name, ...) \
	FIXTURE_VARIANT_ADD(placed, name) { __VA_ARGS__ }; \
	FIXTURE_VARIANT_ADD(placed, iommufd_##name) { __VA_ARGS__, .native = true }

PLACED(in_default, "", "x-msi-iova=0x08000000", DEFAULT_IOVA, DEFAULT_SIZE, "overlap gicv3_");
PLACED(below_room, "-m 256,slots=1,maxmem=4G", "x-msi-iova=auto", 0x7ff00000, DEFAULT_SIZE, "");
/* The end of what the IOMMU maps. */
PLACED(above_4g, "", "x-msi-iova=auto,x-msi-iova-size=4G", 0xffff00000000, 1ULL << 32, "");

TEST_F_TIMEOUT(placed, placed, REFUSED_TIMEOUT)
{
	struct vm vm;

	NEEDS_EXTENSION();
	start(&vm, "-S %s " IGB ",%s", variant->options, bdfs[0], variant->properties);
	made(&vm);
	registered_is(&vm, variant->iova, variant->size);
	quit(&vm);
	said(&vm, variant->says);
}

/* A guest with RAM at 128 MiB: QEMU maps all of it, or cannot. */

BACKENDS(versatile);
SELECTS_BACKEND(versatile)

TEST_F_TIMEOUT(versatile, default_window, REFUSED_TIMEOUT)
{
	struct vm vm;

	NEEDS_QEMU();
	start_machine(&vm, PATCHED, versatilepb, IGB, bdfs[0]);
	ASSERT_EQ(1, finish(&vm));
	said(&vm, "memory listener initialization failed: Region versatile.ram: vfio_container_dma_map(");
}

TEST_F_TIMEOUT(versatile, window, REFUSED_TIMEOUT)
{
	struct vm vm;

	NEEDS_EXTENSION();
	start_machine(&vm, PATCHED, versatilepb, IGB ",x-msi-iova=auto", bdfs[0]);
	made(&vm);
	registered_is(&vm, 0xfff00000, DEFAULT_SIZE);
	quit(&vm);
}

/* The same with a VMM that makes use of the device. */

FIXTURE(vmm) {
	char said[1024];	/* on stdout and stderr */
	bool extension;
};

FIXTURE_VARIANT(vmm) {
	const char *device;	/* behind /dev/vfio/vfio, if there is no option */
	const char *option;
	const char *overlap;	/* why memory cannot be mapped over a window */
};

FIXTURE_VARIANT_ADD(vmm, container) { .device = CONTAINER, .overlap = "File exists" };
FIXTURE_VARIANT_ADD(vmm, iommufd_container) { .device = IOMMUFD, .overlap = "File exists" };
FIXTURE_VARIANT_ADD(vmm, iommufd) { .device = IOMMUFD, .option = "--iommufd", .overlap = "Invalid argument" };

FIXTURE_SETUP(vmm)
{
	self->extension = offers_extension(variant->device);
	if (!variant->option && strcmp(variant->device, CONTAINER))
		bind_mount(variant->device, CONTAINER);
}

FIXTURE_TEARDOWN(vmm)
{
}

/* Returns the exit status. */
static int run_vmm(FIXTURE_DATA(vmm) *self, const FIXTURE_VARIANT(vmm) *variant, const char *iova)
{
	const char *args[6] = { "vmm" };
	int out[2], status, nr = 1;
	pid_t pid;

	if (variant->option)
		args[nr++] = variant->option;
	args[nr++] = "payload";
	args[nr++] = getenv("VFIO_EDU_BDF");
	args[nr++] = iova;

	CHECK(!pipe2(out, O_CLOEXEC));
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		dup2(out[1], 1);
		dup2(out[1], 2);
		execv("vmm", (char **)args);
		_exit(127);
	}
	close(out[1]);
	status = finish_program(pid, out[0], self->said, sizeof(self->said));
	printf("# %s", self->said);
	return status;
}

TEST_F_TIMEOUT(vmm, default_window, TIMEOUT)
{
	ASSERT_EQ(1, run_vmm(self, variant, NULL));
	ASSERT_NE(NULL, strstr(self->said, "guest RAM, 0x0 to 0xfffffff, cannot be mapped (Invalid argument)"));
	/* Only a kernel that can do better says where they are. */
	if (self->extension)
		ASSERT_NE(NULL, strstr(self->said, "MSI doorbells are at 0x8000000, size 0x100000; place them elsewhere"));
}

TEST_F_TIMEOUT(vmm, window, TIMEOUT)
{
	if (!self->extension) {
		ASSERT_EQ(1, run_vmm(self, variant, "0x10000000"));
		ASSERT_NE(NULL, strstr(self->said, "MSI doorbells cannot be placed at 0x10000000: Operation not supported"));
		return;
	}
	ASSERT_EQ(0, run_vmm(self, variant, "0x10000000"));
	ASSERT_NE(NULL, strstr(self->said, "copied through 0x8000000; MSI to 0x100000"));
	ASSERT_NE(NULL, strstr(self->said, "window 0x10000000, size 0x100000, 1 doorbell\n"));
}

TEST_F_TIMEOUT(vmm, over_ram, TIMEOUT)
{
	char words[128];

	if (!self->extension)
		SKIP(return, "this kernel lets nobody choose the window");
	/* The window comes first, and it is the memory that fails. */
	ASSERT_EQ(1, run_vmm(self, variant, "0x4000000"));
	snprintf(words, sizeof(words), "cannot be mapped (%s): MSI doorbells are at 0x4000000", variant->overlap);
	ASSERT_NE(NULL, strstr(self->said, words));
}

int main(int argc, char *argv[])
{
	int nr_bdfs = 0;

	while (nr_bdfs < argc - 1 && strchr(argv[argc - 1 - nr_bdfs], ':'))
		nr_bdfs++;
	if (nr_bdfs < 3) {
		fprintf(stderr, "usage: host_test [OPTION of the test harness]... BDF BDF BDF [BDF...]\n");
		return KSFT_FAIL;
	}
	bdfs = argv + argc - nr_bdfs;
	setvbuf(stdout, NULL, _IOLBF, 0);
	return test_harness_run(argc - nr_bdfs, argv);
}
