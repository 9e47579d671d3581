// SPDX-License-Identifier: GPL-2.0-only
/*
 * Random operations on a container, with a window for doorbells and without, next to a model that says
 * how each of them ends and what there is to see afterwards. Anything else is a difference, and fails:
 *
 *   model_test [-m v1|v2] [--seeds N] [--first-seed N] [--operations N] BDF...
 *   model_test [-m v1|v2] --seed N [--operations N] BDF...	one seed, and each of its operations
 *
 * The devices' groups are attached and detached, addresses are read out of MSI-X tables, and an edu, if
 * there is one, raises its MSI and copies memory. At least one device has MSI-X. A seed gives the same
 * operations on every machine that has such devices and pages of the same size.
 *
 * After each operation are compared: its errno and what it returned, all that VFIO_IOMMU_GET_INFO says,
 * the dirty bits of all mappings if they are tracked, and the addresses in the MSI-X tables.
 *
 * The model is model.c. A run fails, too, when it is long and never came across some rule of rules.h.
 */
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <linux/io.h>
#include <linux/pci_regs.h>
#include <linux/sizes.h>

#include <libvfio.h>

#include "model.h"

#define MEMORY		SZ_4M
#define BITMAP_BYTES	SZ_64K
#define ENTRIES		65535	/* the kernel's default */
#define CANARY		0xa5a5a5a5a5a5a5a5ULL

/* The edu, and what it has in its BAR. */
#define EDU_ID		0x11e81234
#define EDU_RAISE	0x60
#define EDU_ACK		0x64
#define EDU_DMA_SRC	0x80
#define EDU_DMA_DST	0x88
#define EDU_DMA_COUNT	0x90
#define EDU_DMA_CMD	0x98
#define EDU_DMA_BUFFER	0x40000
#define EDU_DMA_LIMIT	SZ_256M

struct group {
	const char *bdf;
	char path[32];
	int fd;			/* of the group, always open */
	bool slow;

	/* While the device is open. */
	struct vfio_pci_device *device;
	void *edu_bar;
	int eventfd;
	__u32 vectors;		/* enabled */
};

struct world {
	struct model m;
	struct group groups[MAX_GROUPS];
	int container;

	__u64 random;

	/* The same memory twice, each followed by a hole. */
	u8 *views[2];
	int memfd;
	__u64 *bitmap, *bits;	/* what the kernel and what the model say */
	__u64 doorbell_offset;	/* of an MSI's address, in its granule */

	bool verbose;
	char said[256];		/* the operation that is under way */
	char difference[1024];
	__u64 counts[2][NR_RULES];
};

static const char *program;
static const char *const mode_names[] = { "v1", "v2" };

/* Say what is different, once: what follows may be a consequence. */
static bool __attribute__((format(printf, 2, 3))) differ(struct world *w, const char *fmt, ...)
{
	va_list args;

	if (!w->difference[0]) {
		va_start(args, fmt);
		vsnprintf(w->difference, sizeof(w->difference), fmt, args);
		va_end(args);
	}

	return false;
}

static void __attribute__((format(printf, 2, 3))) say(struct world *w, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(w->said, sizeof(w->said), fmt, args);
	va_end(args);
}

static const char *error_name(int error)
{
	return error ? strerrorname_np(error) : "ok";
}

/* Compare how an operation ended, and count it. */
static bool ends(struct world *w, enum rule rule, int ret)
{
	int error = ret < 0 ? errno : 0;
	int expected = model_error(&w->m, rule);

	w->counts[w->m.v2][rule]++;

	if (w->verbose)
		printf("# %s: %s (%s: %s)\n", w->said, error_name(error), rules[rule].name,
		       rules[rule].what);

	if (error == expected)
		return true;

	return differ(w, "the model expects %s (%s: %s), the kernel says %s",
		      error_name(expected), rules[rule].name, rules[rule].what, error_name(error));
}

/* Compare a value that the kernel gave. */
static bool same(struct world *w, const char *what, __u64 expected, __u64 got)
{
	if (expected == got)
		return true;

	return differ(w, "the model expects %s to be 0x%llx, the kernel says 0x%llx", what, expected, got);
}

/* splitmix64: good enough, and each seed is as good as any other. */
static __u64 next(struct world *w)
{
	__u64 z = w->random += 0x9e3779b97f4a7c15ULL;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static __u64 below(struct world *w, __u64 limit)
{
	return next(w) % limit;
}

static bool one_in(struct world *w, __u64 n)
{
	return !below(w, n);
}

/* Ranges: places where something ends or begins, and what is around them. */

static __u64 edge(struct world *w)
{
	struct model *m = &w->m;
	struct mapping *mapping;

	switch (below(w, 16)) {
	case 0 ... 2:
		return m->default_iova;
	case 3 ... 5:
		return m->default_iova + m->default_size;
	case 6 ... 7:
		return window_iova(m);
	case 8 ... 9:
		return window_iova(m) + window_size(m);
	case 10 ... 11:
		if (!m->nr_mappings)
			return SZ_1G;
		mapping = &m->mappings[below(w, m->nr_mappings)];
		return mapping->iova + (one_in(w, 2) ? mapping->size : 0);
	case 12:
		return 0;
	case 13:
		return m->aperture_last + 1;
	case 14:
		return SZ_1G;
	default:
		return one_in(w, 4) ? 1ULL << 63 : SZ_4G;
	}
}

static __u64 around(struct world *w, __u64 iova)
{
	iova += (below(w, 7) - 3) * w->m.granule;

	if (one_in(w, 32))
		iova += one_in(w, 2) ? 1 : -1;
	else if (one_in(w, 32))
		iova += w->m.granule / 2;

	return iova;
}

static void any_range(struct world *w, __u64 *iova, __u64 *size)
{
	__u64 granule = w->m.granule, other;

	*iova = around(w, edge(w));
	*size = (1 + below(w, 4)) * granule;

	switch (below(w, 24)) {
	case 0 ... 5:
		/* From one place to another one. */
		other = around(w, edge(w));
		if (other < *iova) {
			*size = *iova - other;
			*iova = other;
		} else if (other > *iova) {
			*size = other - *iova;
		}
		break;
	case 6 ... 7:
		*iova = w->m.default_iova;
		*size = w->m.default_size;
		break;
	case 8:
		/* The end of all addresses, and beyond. */
		*iova = -(1 + below(w, 3)) * granule;
		*size = (1 + below(w, 3)) * granule;
		break;
	case 9:
		*size = 0;
		break;
	case 10:
		if (one_in(w, 2))
			*size += 1;
		else if (one_in(w, 2))
			*size = -*iova;
		else
			*size = one_in(w, 2) ? ~0ULL : 1ULL << 63;
		break;
	}
}

/* Something that is there, exactly, or with an end moved. False if there is nothing. */
static bool entry_range(struct world *w, __u64 *iova, __u64 *size)
{
	struct model *m = &w->m;
	__u64 n = below(w, m->nr_mappings + 3), granule = m->granule;

	if (n < m->nr_mappings) {
		*iova = m->mappings[n].iova;
		*size = m->mappings[n].size;
	} else {
		if (!m->registered)
			return false;
		*iova = m->window_iova;
		*size = m->window_size;
	}

	switch (below(w, 12)) {
	case 0:
		if (*size > granule)
			*size -= granule;
		break;
	case 1:
		if (*size > granule) {
			*iova += granule;
			*size -= granule;
		}
		break;
	case 2:
		*size += granule;
		break;
	case 3:
		if (*iova) {
			*iova -= granule;
			*size += granule;
		}
		break;
	case 4:
		if (*iova) {
			*iova -= granule;
			*size += 2 * granule;
		}
		break;
	}

	return true;
}

/* An end of something that is there, be it the window. */
static __u64 entry_end(struct world *w)
{
	struct model *m = &w->m;
	__u64 n = below(w, m->nr_mappings + 1), iova = window_iova(m), size = window_size(m);

	if (n < m->nr_mappings) {
		iova = m->mappings[n].iova;
		size = m->mappings[n].size;
	}

	return one_in(w, 2) ? iova : iova + size;
}

/* From something to something else, with what is in between, and the window among it. */
static void span(struct world *w, __u64 *iova, __u64 *size)
{
	__u64 start = entry_end(w), end = entry_end(w), other;

	if (start > end) {
		other = start;
		start = end;
		end = other;
	}

	if (one_in(w, 4))
		start += w->m.granule;
	if (one_in(w, 4))
		end -= w->m.granule;

	*iova = start;
	*size = end > start ? end - start : w->m.granule;
}

static void some_range(struct world *w, __u64 *iova, __u64 *size)
{
	if (one_in(w, 6))
		span(w, iova, size);
	else if (!one_in(w, 2) || !entry_range(w, iova, size))
		any_range(w, iova, size);
}

/* How many bytes of memory there are from an address on, and where they are in it. */
static __u64 memory_at(struct world *w, __u64 vaddr, __u64 *offset)
{
	int i;

	for (i = 0; i < 2; i++) {
		*offset = vaddr - (__u64)w->views[i];
		if (*offset < MEMORY)
			return MEMORY - *offset;
	}

	*offset = 0;
	return 0;
}

/* An address as it is would be another one each time. */
static const char *vaddr_text(struct world *w, __u64 vaddr)
{
	static char text[64];
	__u64 offset;

	if (memory_at(w, vaddr, &offset))
		snprintf(text, sizeof(text), "memory %d + 0x%llx",
			 vaddr - (__u64)w->views[1] < MEMORY, offset);
	else
		snprintf(text, sizeof(text), "0x%llx", vaddr);

	return text;
}

static int map_dma(struct world *w, struct vfio_iommu_type1_dma_map *map)
{
	return ioctl(w->container, VFIO_IOMMU_MAP_DMA, map);
}

static bool compare_map(struct world *w, struct vfio_iommu_type1_dma_map *map)
{
	__u64 usable, offset;
	enum rule rule;

	usable = memory_at(w, map->vaddr, &offset);
	say(w, "MAP_DMA argsz %u flags 0x%x vaddr %s iova 0x%llx size 0x%llx",
	    map->argsz, map->flags, vaddr_text(w, map->vaddr), map->iova, map->size);

	rule = model_map(&w->m, map, usable, offset);
	return ends(w, rule, map_dma(w, map));
}

static bool do_map(struct world *w)
{
	static const __u32 prots[] = {
		VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		VFIO_DMA_MAP_FLAG_READ,
		VFIO_DMA_MAP_FLAG_WRITE,
	};
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = prots[below(w, ARRAY_SIZE(prots))],
	};
	__u64 granule = w->m.granule, pages = MEMORY / granule;

	if (one_in(w, 8))
		some_range(w, &map.iova, &map.size);
	else
		any_range(w, &map.iova, &map.size);

	/* From one place to another one is mostly more than there is memory. */
	if (map.size > MEMORY && !one_in(w, 8) && map.iova + map.size > map.iova)
		map.size = (1 + below(w, 8)) * granule;

	map.vaddr = (__u64)w->views[0];
	if (map.size <= MEMORY)
		map.vaddr += below(w, pages - map.size / granule + 1) * granule;

	switch (below(w, 64)) {
	case 0:
		map.vaddr = (__u64)w->views[0] + MEMORY - granule * below(w, 3);
		break;
	case 1:
		map.vaddr = one_in(w, 2) ? 0 : ~0ULL - granule + 1;
		break;
	case 2:
		map.vaddr += granule / 2;
		break;
	case 3:
		map.flags = 0;
		break;
	case 4:
		map.flags |= VFIO_DMA_MAP_FLAG_VADDR;
		break;
	case 5:
		map.flags |= 1 << (4 + below(w, 28));
		break;
	case 6:
		map.argsz -= 1 + below(w, 8);
		break;
	}

	return compare_map(w, &map);
}

static bool do_vaddr(struct world *w)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_VADDR,
	};
	struct model *m = &w->m;
	struct mapping *mapping;
	int i;

	some_range(w, &map.iova, &map.size);
	map.vaddr = (__u64)w->views[1];

	/* One that lacks it, more often than not: as long as it does nothing can be attached. */
	if (m->nr_mappings && !one_in(w, 3)) {
		for (i = 0; i < m->nr_mappings - 1; i++)
			if (m->mappings[i].vaddr_invalid)
				break;

		mapping = &m->mappings[i];
		map.iova = mapping->iova;
		map.size = mapping->size;
		map.vaddr = (__u64)w->views[below(w, 2)] + mapping->memory;
	}

	if (one_in(w, 16))
		map.vaddr += 1;

	return compare_map(w, &map);
}

static bool do_register(struct world *w)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_RESERVED_MSI_IOVA,
	};

	any_range(w, &map.iova, &map.size);

	/* IOVA ranges and a window can have these ends in common, and no others. */
	if (one_in(w, 8)) {
		map.size = (1 + below(w, 4)) * w->m.granule;
		map.iova = one_in(w, 2) ? 0 : w->m.aperture_last + 1 - map.size;
	}

	switch (below(w, 24)) {
	case 0:
		map.flags |= 1 << below(w, 3);
		break;
	case 1:
		map.vaddr = (__u64)w->views[0];
		break;
	case 2:
		map.argsz -= 1;
		break;
	}

	return compare_map(w, &map);
}

/* An argument that has a bitmap in it, and room for more than its argsz says. */
struct unmap_args {
	struct vfio_iommu_type1_dma_unmap unmap;
	struct vfio_bitmap bitmap;
};

struct dirty_args {
	struct vfio_iommu_type1_dirty_bitmap dirty;
	struct vfio_iommu_type1_dirty_bitmap_get get;
};

/* A bitmap for a range; mostly one that suits it. */
static enum access any_bitmap(struct world *w, struct vfio_bitmap *bitmap, __u64 size)
{
	__u64 granule = w->m.granule, bytes = (size / granule + 63) / 64 * 8;
	enum access access = ACCESS_OK;

	bitmap->pgsize = granule;
	bitmap->size = bytes <= BITMAP_BYTES ? bytes : 8;
	bitmap->data = (void *)w->bitmap;

	switch (below(w, 24)) {
	case 0:
		bitmap->pgsize = one_in(w, 2) ? granule / 2 : granule * 2;
		break;
	case 1:
		bitmap->size -= bitmap->size ? 8 : 0;
		break;
	case 2:
		bitmap->size += 8 * below(w, 2);
		break;
	case 3:
		bitmap->size = DIRTY_BITMAP_MAX + 8;
		break;
	case 4 ... 5:
		bitmap->data = (void *)(w->views[0] + MEMORY);
		access = ACCESS_FAULT;
		break;
	case 6:
		bitmap->data = (void *)(1ULL << 63);
		access = ACCESS_DENIED;
		break;
	}

	/* More room than is needed has to be there, or it is not asked for. */
	if (access == ACCESS_OK && bitmap->size > BITMAP_BYTES && bitmap->size <= DIRTY_BITMAP_MAX)
		bitmap->size = 8;

	return access;
}

static const char *bitmap_text(const struct vfio_bitmap *bitmap, enum access access)
{
	static const char *const accesses[] = {
		[ACCESS_OK] = "",
		[ACCESS_FAULT] = ", no memory there",
		[ACCESS_DENIED] = ", no address of user space",
	};
	static char text[128];

	snprintf(text, sizeof(text), ", bitmap: pgsize 0x%llx size 0x%llx%s",
		 bitmap->pgsize, bitmap->size, accesses[access]);
	return text;
}

/* Bits are compared to the end of @bytes, and the kernel is to write no further. */
static void bitmaps_clear(struct world *w, __u64 bytes)
{
	if (bytes > BITMAP_BYTES)
		bytes = BITMAP_BYTES;

	memset(w->bitmap, 0, bytes);
	memset(w->bits, 0, bytes);
	w->bitmap[bytes / 8] = CANARY;
}

static bool bitmaps_equal(struct world *w, __u64 iova, __u64 bytes)
{
	__u64 i;

	if (bytes > BITMAP_BYTES)
		bytes = BITMAP_BYTES;

	for (i = 0; i < bytes / 8; i++) {
		__u64 different = w->bitmap[i] ^ w->bits[i];
		int bit;

		if (!different)
			continue;

		bit = __builtin_ctzll(different);
		return differ(w, "the model expects IOVA 0x%llx to be %s, the kernel says %s",
			      iova + (i * 64 + bit) * w->m.granule,
			      w->bits[i] >> bit & 1 ? "dirty" : "clean",
			      w->bitmap[i] >> bit & 1 ? "dirty" : "clean");
	}

	if (w->bitmap[i] != CANARY)
		return differ(w, "the kernel wrote behind the end of the bitmap");

	return true;
}

static bool compare_unmap(struct world *w, struct unmap_args *args, enum access access)
{
	struct vfio_iommu_type1_dma_unmap *unmap = &args->unmap, before = *unmap;
	enum rule rule;
	__u64 unmapped;
	int ret;

	bitmaps_clear(w, args->bitmap.size);
	say(w, "UNMAP_DMA argsz %u flags 0x%x iova 0x%llx size 0x%llx%s",
	    unmap->argsz, unmap->flags, unmap->iova, unmap->size,
	    unmap->flags & VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP ?
	    bitmap_text(&args->bitmap, access) : "");

	rule = model_unmap(&w->m, unmap, &args->bitmap, access, w->bits, &unmapped);
	ret = ioctl(w->container, VFIO_IOMMU_UNMAP_DMA, unmap);
	if (!ends(w, rule, ret))
		return false;

	/* On failure it is what it was. */
	if (ret)
		unmapped = before.size;
	if (unmap->size != unmapped)
		return differ(w, "the model expects a returned size of 0x%llx, the kernel says 0x%llx",
			      unmapped, unmap->size);

	before.size = unmapped;
	if (memcmp(&before, unmap, sizeof(before)))
		return differ(w, "the kernel changed another field than the size");

	return bitmaps_equal(w, unmap->iova, args->bitmap.size);
}

static bool do_unmap(struct world *w)
{
	struct unmap_args args = { .unmap.argsz = sizeof(args.unmap) };

	some_range(w, &args.unmap.iova, &args.unmap.size);

	switch (below(w, 32)) {
	case 0 ... 1:
		args.unmap.flags |= VFIO_DMA_UNMAP_FLAG_ALL;
		if (one_in(w, 4))
			break;
		args.unmap.iova = 0;
		args.unmap.size = 0;
		break;
	case 2:
		args.unmap.flags |= 1 << (4 + below(w, 28));
		break;
	case 3:
		args.unmap.argsz -= 1 + below(w, 8);
		break;
	}

	return compare_unmap(w, &args, ACCESS_OK);
}

static bool do_invalidate(struct world *w)
{
	struct unmap_args args = {
		.unmap.argsz = sizeof(args.unmap),
		.unmap.flags = VFIO_DMA_UNMAP_FLAG_VADDR,
	};

	if (one_in(w, 3))
		span(w, &args.unmap.iova, &args.unmap.size);
	else
		some_range(w, &args.unmap.iova, &args.unmap.size);

	if (one_in(w, 8)) {
		args.unmap.flags |= VFIO_DMA_UNMAP_FLAG_ALL;
		args.unmap.iova = 0;
		args.unmap.size = 0;
	}

	return compare_unmap(w, &args, ACCESS_OK);
}

static bool do_unmap_bitmap(struct world *w)
{
	struct unmap_args args = {
		.unmap.argsz = sizeof(args),
		.unmap.flags = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP,
	};
	enum access access;

	some_range(w, &args.unmap.iova, &args.unmap.size);
	access = any_bitmap(w, &args.bitmap, args.unmap.size);

	switch (below(w, 16)) {
	case 0:
		args.unmap.flags |= one_in(w, 2) ? VFIO_DMA_UNMAP_FLAG_ALL :
						   VFIO_DMA_UNMAP_FLAG_VADDR;
		break;
	case 1:
		args.unmap.argsz -= 1 + below(w, sizeof(args.bitmap));
		break;
	}

	return compare_unmap(w, &args, access);
}

static bool do_release(struct world *w)
{
	struct unmap_args args = {
		.unmap.argsz = sizeof(args.unmap),
		.unmap.flags = VFIO_DMA_UNMAP_FLAG_RESERVED_MSI_IOVA,
		.unmap.iova = window_iova(&w->m),
		.unmap.size = window_size(&w->m),
	};

	if (!w->m.registered && !one_in(w, 4))
		return true;

	switch (below(w, 8)) {
	case 0 ... 1:
		some_range(w, &args.unmap.iova, &args.unmap.size);
		break;
	case 2:
		/* An end of it. */
		args.unmap.size -= w->m.granule;
		if (one_in(w, 2))
			args.unmap.iova += w->m.granule;
		break;
	case 3:
		/* As ALL, or with something else beside. */
		args.unmap.flags |= 1 << below(w, 3);
		if (one_in(w, 2)) {
			args.unmap.iova = 0;
			args.unmap.size = 0;
		}
		break;
	}

	return compare_unmap(w, &args, ACCESS_OK);
}

static bool compare_dirty(struct world *w, struct dirty_args *args, enum access access)
{
	struct vfio_bitmap *bitmap = &args->get.bitmap;
	enum rule rule;
	int ret;

	bitmaps_clear(w, bitmap->size);
	say(w, "DIRTY_PAGES argsz %u flags 0x%x iova 0x%llx size 0x%llx%s", args->dirty.argsz,
	    args->dirty.flags, args->get.iova, args->get.size, bitmap_text(bitmap, access));

	rule = model_dirty_pages(&w->m, &args->dirty, &args->get, access, w->bits);
	ret = ioctl(w->container, VFIO_IOMMU_DIRTY_PAGES, args);

	return ends(w, rule, ret) && bitmaps_equal(w, args->get.iova, bitmap->size);
}

static bool do_dirty(struct world *w)
{
	struct dirty_args args = { .dirty.argsz = sizeof(args) };
	enum access access;

	some_range(w, &args.get.iova, &args.get.size);
	access = any_bitmap(w, &args.get.bitmap, args.get.size);

	if (one_in(w, w->m.tracking ? 10 : 3))
		args.dirty.flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_START;
	else if (one_in(w, 10))
		args.dirty.flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP;
	else
		args.dirty.flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP;

	switch (below(w, 24)) {
	case 0:
		/* All but a flag that stands alone. */
		args.dirty.flags = one_in(w, 2) ? 3 : 6;
		break;
	case 1:
		args.dirty.flags |= 1 << (3 + below(w, 29));
		break;
	case 2:
		args.dirty.argsz = sizeof(args.dirty) - 1 - below(w, 4);
		break;
	case 3:
		args.dirty.argsz -= 1 + below(w, sizeof(args.get));
		break;
	}

	return compare_dirty(w, &args, access);
}

/* Groups and their devices */

static int any_group(struct world *w)
{
	return below(w, w->m.nr_groups);
}

static bool do_attach(struct world *w)
{
	int i = any_group(w), j;
	enum rule rule;

	/* One that is not attached, mostly. */
	for (j = 0; j < w->m.nr_groups && w->m.groups[i].attached && !one_in(w, 8); j++)
		i = (i + 1) % w->m.nr_groups;

	say(w, "SET_CONTAINER of group %s", w->groups[i].bdf);
	rule = model_attach(&w->m, i);
	return ends(w, rule, ioctl(w->groups[i].fd, VFIO_GROUP_SET_CONTAINER, &w->container));
}

static int group_open(struct group *group)
{
	group->fd = open(group->path, O_RDWR);
	VFIO_ASSERT_GE(group->fd, 0, "open(%s) failed: %s\n", group->path, strerror(errno));
	return 0;
}

static bool detach(struct world *w, int i, bool by_closing)
{
	struct group *group = &w->groups[i];
	enum rule rule;

	say(w, "%s of group %s", by_closing ? "close" : "UNSET_CONTAINER", group->bdf);
	rule = model_detach(&w->m, i);
	if (!by_closing)
		return ends(w, rule, ioctl(group->fd, VFIO_GROUP_UNSET_CONTAINER));

	VFIO_ASSERT_EQ(close(group->fd), 0);
	return ends(w, rule, group_open(group));
}

static bool do_detach(struct world *w)
{
	int i = any_group(w), attached = 0, j;
	bool by_closing;

	for (j = 0; j < w->m.nr_groups; j++)
		attached += w->m.groups[j].attached;

	for (j = 0; j < w->m.nr_groups && !w->m.groups[i].attached && !one_in(w, 8); j++)
		i = (i + 1) % w->m.nr_groups;

	/* With the last one all goes, and what led there is lost. */
	if (w->m.backend && attached == 1 && w->m.groups[i].attached && !one_in(w, 4))
		return true;

	/* That takes all of the group's files to be closed, and cannot fail. */
	by_closing = w->m.groups[i].attached && !w->m.groups[i].open && one_in(w, 4);
	return detach(w, i, by_closing);
}

static bool do_set_iommu(struct world *w)
{
	unsigned long type = w->m.v2 ? VFIO_TYPE1v2_IOMMU : VFIO_TYPE1_IOMMU;
	enum rule rule;

	if (one_in(w, 6))
		type = 99;

	say(w, "SET_IOMMU %lu", type);
	rule = model_set_iommu(&w->m, type);
	return ends(w, rule, ioctl(w->container, VFIO_SET_IOMMU, type));
}

static void region_get(struct vfio_pci_device *device, int index, struct vfio_region_info *info)
{
	*info = (struct vfio_region_info) { .argsz = sizeof(*info), .index = index };
	ioctl_assert(device->fd, VFIO_DEVICE_GET_REGION_INFO, info);
}

static void irq_get(struct vfio_pci_device *device, int index, struct vfio_irq_info *info)
{
	*info = (struct vfio_irq_info) { .argsz = sizeof(*info), .index = index };
	ioctl_assert(device->fd, VFIO_DEVICE_GET_IRQ_INFO, info);
}

/* As vfio_pci_device_init(), but for what attaches the group, and the driver. */
static void device_setup(struct group *group)
{
	struct vfio_pci_device *device = group->device;
	__u32 id;
	int i;

	device->info.argsz = sizeof(device->info);
	ioctl_assert(device->fd, VFIO_DEVICE_GET_INFO, &device->info);
	region_get(device, VFIO_PCI_CONFIG_REGION_INDEX, &device->config_space);
	irq_get(device, VFIO_PCI_MSI_IRQ_INDEX, &device->msi_info);
	irq_get(device, VFIO_PCI_MSIX_IRQ_INDEX, &device->msix_info);

	for (i = 0; i < PCI_STD_NUM_BARS; i++) {
		struct vfio_pci_bar *bar = &device->bars[i];

		region_get(device, i, &bar->info);
		if (!(bar->info.flags & VFIO_REGION_INFO_FLAG_MMAP))
			continue;

		bar->vaddr = mmap(NULL, bar->info.size, PROT_READ | PROT_WRITE, MAP_SHARED,
				  device->fd, bar->info.offset);
		VFIO_ASSERT_NE(bar->vaddr, MAP_FAILED);
	}

	id = vfio_pci_config_readl(device, PCI_VENDOR_ID);
	group->edu_bar = id == EDU_ID ? device->bars[0].vaddr : NULL;
	vfio_pci_cmd_set(device, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	group->eventfd = eventfd(0, EFD_NONBLOCK);
	VFIO_ASSERT_GE(group->eventfd, 0);
}

static void device_cleanup(struct group *group)
{
	struct vfio_pci_device *device = group->device;
	int i;

	for (i = 0; i < PCI_STD_NUM_BARS; i++)
		if (device->bars[i].vaddr)
			VFIO_ASSERT_EQ(munmap(device->bars[i].vaddr, device->bars[i].info.size), 0);

	VFIO_ASSERT_EQ(close(group->eventfd), 0);
	VFIO_ASSERT_EQ(close(device->fd), 0);
	vfio_pci_device_free(device);
	group->device = NULL;
}

static bool open_device(struct world *w, int i)
{
	struct group *group = &w->groups[i];
	struct iommu iommu = {};
	enum rule rule;
	int ret;

	say(w, "GET_DEVICE_FD of %s", group->bdf);
	rule = model_open(&w->m, i);

	group->device = vfio_pci_device_alloc(group->bdf, &iommu);
	group->device->group_fd = group->fd;
	__vfio_pci_group_get_device_fd(group->device, group->bdf, NULL);
	ret = group->device->fd;
	if (!ends(w, rule, ret) || ret < 0) {
		if (ret >= 0)
			VFIO_ASSERT_EQ(close(ret), 0);
		vfio_pci_device_free(group->device);
		group->device = NULL;
		return !w->difference[0];
	}

	device_setup(group);
	return true;
}

static bool do_open(struct world *w)
{
	int i = any_group(w), j;

	/* One that is attached, mostly. */
	for (j = 0; j < w->m.nr_groups; j++, i = (i + 1) % w->m.nr_groups)
		if ((w->m.groups[i].attached && !w->groups[i].device) || one_in(w, 8))
			break;

	/* Some devices are reset when opened and when closed, a tenth of a second each. */
	if (w->groups[i].device || (w->groups[i].slow && !one_in(w, 4)))
		return true;

	return open_device(w, i);
}

static bool close_device(struct world *w, int i)
{
	say(w, "close of %s", w->groups[i].bdf);
	device_cleanup(&w->groups[i]);
	return ends(w, model_close(&w->m, i), 0);
}

/* One that is open, or -1. */
static int open_group(struct world *w)
{
	int i = any_group(w), j;

	for (j = 0; j < w->m.nr_groups; j++, i = (i + 1) % w->m.nr_groups)
		if (w->groups[i].device)
			return i;

	return -1;
}

static bool do_close(struct world *w)
{
	int i = open_group(w);

	return i < 0 || close_device(w, i);
}

static int irq_index(struct group *group)
{
	return group->device->msix_info.count ? VFIO_PCI_MSIX_IRQ_INDEX : VFIO_PCI_MSI_IRQ_INDEX;
}

static bool enable(struct world *w, int i, __u32 vectors)
{
	struct group *group = &w->groups[i];
	size_t argsz = sizeof(struct vfio_irq_set) + vectors * sizeof(int);
	struct vfio_irq_set *set = calloc_assert(1, argsz);
	enum rule rule;
	int ret;
	__u32 j;

	*set = (struct vfio_irq_set) {
		.argsz = argsz,
		.flags = VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_EVENTFD,
		.index = irq_index(group),
		.count = vectors,
	};
	for (j = 0; j < vectors; j++)
		memcpy(set->data + j * sizeof(int), &group->eventfd, sizeof(int));

	say(w, "SET_IRQS of %s, %u vectors", group->bdf, vectors);
	rule = model_enable(&w->m, i);
	ret = ioctl(group->device->fd, VFIO_DEVICE_SET_IRQS, set);
	free(set);
	group->vectors = vectors;
	return ends(w, rule, ret);
}

static bool do_enable(struct world *w)
{
	int i = open_group(w);
	struct group *group = &w->groups[i];

	if (i < 0 || w->m.groups[i].enabled)
		return true;

	if (irq_index(group) == VFIO_PCI_MSI_IRQ_INDEX)
		return enable(w, i, 1);

	return enable(w, i, 1 + below(w, group->device->msix_info.count));
}

static bool do_disable(struct world *w)
{
	struct vfio_irq_set set = {
		.argsz = sizeof(set),
		.flags = VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_NONE,
	};
	int i = open_group(w);
	enum rule rule;

	if (i < 0)
		return true;

	set.index = irq_index(&w->groups[i]);
	say(w, "SET_IRQS of %s, no vectors", w->groups[i].bdf);
	rule = model_disable(&w->m, i);
	return ends(w, rule, ioctl(w->groups[i].device->fd, VFIO_DEVICE_SET_IRQS, &set));
}

/* The edu, open, or NULL. */
static struct group *open_edu(struct world *w, int *i)
{
	for (*i = 0; *i < w->m.nr_groups; (*i)++)
		if (w->groups[*i].device && w->groups[*i].edu_bar)
			return &w->groups[*i];

	return NULL;
}

/* The window is where the doorbell is: an MSI arrives. */
static bool do_raise(struct world *w)
{
	struct pollfd pollfd = { .events = POLLIN };
	struct group *edu;
	__u64 value;
	int i;

	edu = open_edu(w, &i);
	if (!edu || !w->m.groups[i].enabled)
		return true;

	say(w, "an MSI of %s", edu->bdf);
	pollfd.fd = edu->eventfd;
	writel(1, edu->edu_bar + EDU_RAISE);
	if (!ends(w, RAISE, 0))
		return false;
	if (poll(&pollfd, 1, 5000) != 1)
		return differ(w, "the MSI did not arrive");

	writel(1, edu->edu_bar + EDU_ACK);
	VFIO_ASSERT_EQ(read(edu->eventfd, &value, sizeof(value)), sizeof(value));
	return value == 1 ? true : differ(w, "%llu MSIs arrived instead of one", value);
}

static void edu_dma(struct group *edu, __u64 src, __u64 dst, __u64 size, __u32 command)
{
	/* It begins after 100 ms. */
	struct timespec pause = { .tv_nsec = 5000000 };
	int tries = 1000;

	writeq(src, edu->edu_bar + EDU_DMA_SRC);
	writeq(dst, edu->edu_bar + EDU_DMA_DST);
	writeq(size, edu->edu_bar + EDU_DMA_COUNT);
	writeq(command, edu->edu_bar + EDU_DMA_CMD);
	while (readq(edu->edu_bar + EDU_DMA_CMD) & 1) {
		VFIO_ASSERT_GT(tries--, 0, "the edu does not come to an end\n");
		nanosleep(&pause, NULL);
	}
}

/* A mapping that it reaches and may use in this way. */
static struct mapping *edu_mapping(struct world *w, __u32 flag)
{
	struct model *m = &w->m;
	__u64 first, i;

	if (!m->nr_mappings)
		return NULL;

	first = below(w, m->nr_mappings);
	for (i = 0; i < m->nr_mappings; i++) {
		struct mapping *mapping = &m->mappings[(first + i) % m->nr_mappings];

		if (mapping->flags & flag && mapping->iova + mapping->size <= EDU_DMA_LIMIT)
			return mapping;
	}

	return NULL;
}

/* What is mapped is there for devices, be it over the default window: the edu copies some of it. */
static bool do_copy(struct world *w)
{
	struct mapping *src, *dst;
	struct group *edu;
	__u64 from, to;
	int i;

	edu = open_edu(w, &i);
	src = edu_mapping(w, VFIO_DMA_MAP_FLAG_READ);
	dst = edu_mapping(w, VFIO_DMA_MAP_FLAG_WRITE);
	if (!edu || !src || !dst)
		return true;

	/* The ends of mappings, where windows are. */
	from = one_in(w, 2) ? 0 : src->size - 64;
	to = one_in(w, 2) ? 0 : dst->size - 64;
	memset(w->views[0] + dst->memory + to, 0, 64);
	memset(w->views[0] + src->memory + from, 'x', 64);

	say(w, "%s copies from IOVA 0x%llx to 0x%llx", edu->bdf, src->iova + from, dst->iova + to);
	edu_dma(edu, src->iova + from, EDU_DMA_BUFFER, 64, 1);
	memset(w->views[0] + dst->memory + to, 'y', 64);
	edu_dma(edu, EDU_DMA_BUFFER, dst->iova + to, 64, 3);

	if (!ends(w, COPY, 0))
		return false;
	for (i = 0; i < 64; i++)
		if (w->views[0][dst->memory + to + i] != 'x')
			return differ(w, "byte %d is '%c'", i, w->views[0][dst->memory + to + i]);

	return true;
}

/* What there is to see */

static bool do_extension(struct world *w)
{
	static const unsigned long extensions[] = {
		VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU, VFIO_DMA_CC_IOMMU, VFIO_UNMAP_ALL,
		VFIO_UPDATE_VADDR, VFIO_RESERVED_MSI_IOVA, VFIO_RESERVED_MSI_IOVA + 1, 99,
	};
	unsigned long extension = extensions[below(w, ARRAY_SIZE(extensions))];
	int expected, answer;
	enum rule rule;

	say(w, "CHECK_EXTENSION %lu", extension);
	rule = model_extension(&w->m, extension, &expected);
	answer = ioctl(w->container, VFIO_CHECK_EXTENSION, extension);
	if (!ends(w, rule, answer))
		return false;

	return same(w, "the answer", expected, answer);
}

static __u32 info_size(const struct model_info *info)
{
	return sizeof(struct vfio_iommu_type1_info) +
	       sizeof(struct vfio_iommu_type1_info_cap_migration) +
	       sizeof(struct vfio_iommu_type1_info_dma_avail) +
	       sizeof(struct vfio_iommu_type1_info_cap_msi_geometry) +
	       sizeof(struct vfio_iommu_type1_info_cap_iova_range) +
	       info->nr_ranges * sizeof(info->ranges[0]);
}

static bool do_info_short(struct world *w)
{
	struct {
		struct vfio_iommu_type1_info info;
		__u64 canary;
	} args = { .info.argsz = below(w, sizeof(args.info) + 1), .canary = CANARY };
	struct model_info expected;
	__u32 argsz = args.info.argsz;
	enum rule rule;
	int ret;

	say(w, "GET_INFO argsz %u", argsz);
	rule = model_info_short(&w->m, argsz);
	ret = ioctl(w->container, VFIO_IOMMU_GET_INFO, &args);
	if (!ends(w, rule, ret))
		return false;
	if (args.canary != CANARY)
		return differ(w, "the kernel wrote behind the end of the info");
	if (ret)
		return true;

	/* Capabilities are aligned to 8 bytes, and all of these have such a size. */
	model_info(&w->m, &expected);
	if (args.info.argsz < info_size(&expected) || args.info.argsz > info_size(&expected) + 32)
		return differ(w, "the model expects an argsz of %u, the kernel says %u",
			      info_size(&expected), args.info.argsz);

	return same(w, "iova_pgsizes", expected.pgsizes, args.info.iova_pgsizes);
}

/* The capabilities, each of them once, and no other. */
static bool compare_capability(struct world *w, struct vfio_info_cap_header *header,
			       const struct model_info *expected)
{
	struct vfio_iommu_type1_info_cap_msi_geometry *geometry = (void *)header;
	struct vfio_iommu_type1_info_cap_iova_range *ranges = (void *)header;
	struct vfio_iommu_type1_info_cap_migration *migration = (void *)header;
	struct vfio_iommu_type1_info_dma_avail *dma_avail = (void *)header;
	int i;

	if (!same(w, "the version of a capability", 1, header->version))
		return false;

	switch (header->id) {
	case VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE:
		if (!same(w, "nr_iovas", expected->nr_ranges, ranges->nr_iovas))
			return false;
		for (i = 0; i < expected->nr_ranges; i++) {
			const struct vfio_iova_range *range = &expected->ranges[i];

			if (!same(w, "an IOVA range's start", range->start,
				  ranges->iova_ranges[i].start) ||
			    !same(w, "an IOVA range's end", range->end,
				  ranges->iova_ranges[i].end))
				return false;
		}
		return true;
	case VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION:
		return same(w, "the flags of migration", 0, migration->flags) &&
		       same(w, "pgsize_bitmap", expected->granule, migration->pgsize_bitmap) &&
		       same(w, "max_dirty_bitmap_size", DIRTY_BITMAP_MAX,
			    migration->max_dirty_bitmap_size);
	case VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL:
		return same(w, "dma_avail", expected->avail, dma_avail->avail);
	case VFIO_IOMMU_TYPE1_INFO_CAP_MSI_GEOMETRY:
		return same(w, "the window's IOVA", expected->iova, geometry->iova) &&
		       same(w, "the window's size", expected->size, geometry->size) &&
		       same(w, "the window's flags", expected->flags, geometry->flags) &&
		       same(w, "the doorbells", expected->doorbells, geometry->doorbells) &&
		       same(w, "the granule", expected->granule, geometry->granule) &&
		       same(w, "reserved of the geometry", 0, geometry->reserved);
	default:
		return differ(w, "the kernel has a capability %u", header->id);
	}
}

static bool compare_info(struct world *w)
{
	union {
		struct vfio_iommu_type1_info info;
		u8 bytes[1024];
	} buffer = { .info.argsz = sizeof(buffer) };
	struct model_info expected;
	__u32 seen = 0, offset;
	int ret;

	ret = ioctl(w->container, VFIO_IOMMU_GET_INFO, &buffer);
	if (!w->m.backend && ret && errno == EINVAL)
		return true;
	if (!w->m.backend)
		return differ(w, "GET_INFO does not say EINVAL before SET_IOMMU");
	if (ret)
		return differ(w, "GET_INFO failed: %s", error_name(errno));

	model_info(&w->m, &expected);
	if (!same(w, "the flags of the info", VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS,
		  buffer.info.flags) ||
	    !same(w, "iova_pgsizes", expected.pgsizes, buffer.info.iova_pgsizes))
		return false;

	for (offset = buffer.info.cap_offset; offset; ) {
		struct vfio_info_cap_header *header = (void *)(buffer.bytes + offset);

		if (offset < sizeof(buffer.info) || offset > sizeof(buffer) / 2 || offset % 8)
			return differ(w, "a capability at offset %u", offset);
		if (!compare_capability(w, header, &expected))
			return false;
		if (seen & 1 << header->id)
			return differ(w, "capability %u comes twice", header->id);

		seen |= 1 << header->id;
		offset = header->next;
	}

	return same(w, "the set of capabilities", 0x1e, seen);
}

/* Dirty bits of all mappings, of as many at once as a bitmap has room for, and of what is between. */
static bool compare_all_dirty(struct world *w)
{
	struct model *m = &w->m;
	int i, j;

	for (i = 0; m->tracking && i < m->nr_mappings; i = j) {
		__u64 start = m->mappings[i].iova, end, last;
		struct dirty_args args = {
			.dirty.argsz = sizeof(args),
			.dirty.flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP,
		};
		struct vfio_bitmap *bitmap = &args.get.bitmap;
		enum rule rule;

		end = start + m->mappings[i].size;
		for (j = i + 1; j < m->nr_mappings; j++) {
			last = m->mappings[j].iova + m->mappings[j].size;
			if (last - start > BITMAP_BYTES / 2 * 8 * m->granule)
				break;
			end = last;
		}

		/* What follows is clean. */
		last = j < m->nr_mappings ? m->mappings[j].iova : m->aperture_last + 1;
		end += last - end < 5 * m->granule ? last - end : 5 * m->granule;

		args.get.iova = start;
		args.get.size = end - start;
		bitmap->pgsize = m->granule;
		bitmap->size = (args.get.size / m->granule + 63) / 64 * 8;
		bitmap->data = (void *)w->bitmap;
		VFIO_ASSERT_LE(bitmap->size, BITMAP_BYTES);

		bitmaps_clear(w, bitmap->size);
		rule = model_dirty_pages(m, &args.dirty, &args.get, ACCESS_OK, w->bits);
		VFIO_ASSERT_EQ(rules[rule].error, 0);
		if (ioctl(w->container, VFIO_IOMMU_DIRTY_PAGES, &args))
			return differ(w, "dirty bits of IOVA 0x%llx to 0x%llx cannot be read: %s",
				      start, end - 1, error_name(errno));
		if (!bitmaps_equal(w, start, bitmap->size))
			return false;
	}

	return true;
}

static bool compare_msix(struct world *w)
{
	__u64 expected;
	__u32 vector;
	u64 addr;
	int i;

	for (i = 0; i < w->m.nr_groups; i++) {
		struct group *group = &w->groups[i];

		if (!w->m.groups[i].enabled || irq_index(group) != VFIO_PCI_MSIX_IRQ_INDEX)
			continue;

		expected = window_iova(&w->m) + w->doorbell_offset;
		for (vector = 0; vector < group->vectors; vector++) {
			/* Tables are out of reach where pages are larger than they are. */
			if (__vfio_pci_msix_addr(group->device, vector, &addr))
				break;
			if (addr != expected)
				return differ(w, "the model expects vector %u of %s at 0x%llx, its MSI-X table has 0x%llx",
					      vector, group->bdf, expected, (__u64)addr);
		}
	}

	return true;
}

static bool compare(struct world *w)
{
	return compare_info(w) && compare_all_dirty(w) && compare_msix(w);
}

/* How often each is tried, with a backend and without one. */
static const struct {
	int weights[2];
	bool (*fn)(struct world *w);
} operations[] = {
	{ { 1, 24 }, do_map },
	{ { 0, 6 }, do_vaddr },
	{ { 1, 14 }, do_register },
	{ { 1, 16 }, do_unmap },
	{ { 0, 4 }, do_invalidate },
	{ { 0, 8 }, do_unmap_bitmap },
	{ { 1, 10 }, do_release },
	{ { 1, 12 }, do_dirty },
	{ { 16, 9 }, do_attach },
	{ { 3, 8 }, do_detach },
	{ { 8, 1 }, do_set_iommu },
	{ { 2, 6 }, do_open },
	{ { 0, 4 }, do_close },
	{ { 0, 4 }, do_enable },
	{ { 0, 2 }, do_disable },
	{ { 0, 6 }, do_raise },
	{ { 0, 3 }, do_copy },
	{ { 2, 1 }, do_extension },
	{ { 1, 1 }, do_info_short },
};

static bool operate(struct world *w)
{
	int i, total = 0, pick;

	for (i = 0; i < ARRAY_SIZE(operations); i++)
		total += operations[i].weights[w->m.backend];

	pick = below(w, total);
	for (i = 0; pick >= operations[i].weights[w->m.backend]; i++)
		pick -= operations[i].weights[w->m.backend];

	return operations[i].fn(w);
}

/* Let everything go, and leave the groups as they were found. */
static void world_reset(struct world *w, bool container_first)
{
	int i;

	for (i = 0; i < w->m.nr_groups; i++)
		if (w->groups[i].device)
			device_cleanup(&w->groups[i]);

	if (container_first)
		VFIO_ASSERT_EQ(close(w->container), 0);

	/* Also of a group that only the kernel takes for attached. */
	for (i = 0; i < w->m.nr_groups; i++)
		ioctl(w->groups[i].fd, VFIO_GROUP_UNSET_CONTAINER);

	if (!container_first)
		VFIO_ASSERT_EQ(close(w->container), 0);

	for (i = 0; i < w->m.nr_groups; i++) {
		w->m.groups[i].attached = false;
		w->m.groups[i].open = false;
		w->m.groups[i].enabled = false;
	}

	memset(w->m.doorbells, 0, sizeof(w->m.doorbells));
	w->m.backend = false;
	w->m.nr_mappings = 0;
	w->m.registered = false;
	w->m.tracking = false;
}

static void container_open(struct world *w)
{
	w->container = open("/dev/vfio/vfio", O_RDWR);
	VFIO_ASSERT_GE(w->container, 0, "open(/dev/vfio/vfio) failed: %s\n", strerror(errno));
}

static void entries_set(__u32 entries)
{
	FILE *file = fopen("/sys/module/vfio_iommu_type1/parameters/dma_entry_limit", "w");

	VFIO_ASSERT_NOT_NULL(file);
	fprintf(file, "%u\n", entries);
	VFIO_ASSERT_EQ(fclose(file), 0);
}

static void entries_restore(void)
{
	entries_set(ENTRIES);
}

/* Whether the kernel and the model agree, from the beginning to the end. */
static bool run_seed(struct world *w, bool v2, __u64 seed, int nr_operations)
{
	struct unmap_args unmap_all = {
		.unmap.argsz = sizeof(unmap_all.unmap),
		.unmap.flags = VFIO_DMA_UNMAP_FLAG_ALL,
	};
	int i;

	w->random = seed;
	w->m.v2 = v2;
	w->difference[0] = '\0';

	/* Few entries are soon used up. */
	w->m.entries = one_in(w, 3) ? 1 + below(w, 4) : ENTRIES;
	entries_set(w->m.entries);
	container_open(w);

	for (i = 0; i < nr_operations; i++) {
		bool right;

		/* Some have nothing to do now, and say nothing. */
		w->said[0] = '\0';
		do {
			right = operate(w);
		} while (!w->said[0]);

		if (!right || !compare(w))
			break;
	}

	/* What is left is what should be. */
	if (!w->difference[0] && w->m.backend)
		(void)(compare_unmap(w, &unmap_all, ACCESS_OK) && compare(w));

	if (w->difference[0]) {
		printf("# %s: seed %llu, operation %d of %d: %s: %s\n", mode_names[v2], seed, i + 1,
		       nr_operations, w->said, w->difference);
		printf("# once more: %s -m %s --seed %llu --operations %d", program, mode_names[v2],
		       seed, nr_operations);
		for (i = 0; i < w->m.nr_groups; i++)
			printf(" %s", w->groups[i].bdf);
		printf("\n");
	}

	world_reset(w, seed % 2);
	return !w->difference[0];
}

/* What the machine is: the model starts from what a container with one group says. */
static void probe(struct world *w)
{
	struct vfio_iommu_type1_info_cap_msi_geometry geometry;
	struct vfio_iommu_type1_info_cap_iova_range *ranges;
	struct iommu iommu = { .mode = &(struct iommu_mode) {} };
	struct sysfs_resv_region *regions;
	struct vfio_info_cap_header *header;
	struct vfio_iommu_type1_info *info;
	struct vfio_pci_device *device;
	struct model *m = &w->m;
	struct utsname name;
	int i, nr, major, minor;
	bool found = false;
	u64 addr;

	VFIO_ASSERT_EQ(uname(&name), 0);
	nr = sscanf(name.release, "%d.%d", &major, &minor);
	VFIO_ASSERT_EQ(nr, 2);
	m->no_overflow = major < 6 || (major == 6 && minor <= 12);

	/* The first that has a table to look into. */
	for (i = 0; i < m->nr_groups; i++) {
		container_open(w);
		ioctl_assert(w->groups[i].fd, VFIO_GROUP_SET_CONTAINER, &w->container);
		VFIO_ASSERT_EQ(ioctl(w->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), 0);
		device = vfio_pci_device_alloc(w->groups[i].bdf, &iommu);
		device->group_fd = w->groups[i].fd;
		__vfio_pci_group_get_device_fd(device, w->groups[i].bdf, NULL);
		VFIO_ASSERT_GE(device->fd, 0);
		w->groups[i].device = device;
		device_setup(&w->groups[i]);
		w->groups[i].slow = device->info.flags & VFIO_DEVICE_FLAGS_RESET;
		m->backend = true;
		m->groups[i].attached = true;

		/* Cheaper than asking each of them again later on. */
		if (found) {
			world_reset(w, false);
			continue;
		}

		iommu.container_fd = w->container;
		iommu_msi_geometry(&iommu, &geometry);
		info = vfio_iommu_get_info(&iommu);
		m->pgsizes = info->iova_pgsizes;
		m->granule = geometry.granule;
		m->default_iova = geometry.iova;
		m->default_size = geometry.size;
		header = (void *)info + info->cap_offset;
		while (header->id != VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE) {
			VFIO_ASSERT_NE(header->next, 0);
			header = (void *)info + header->next;
		}
		ranges = (void *)header;
		m->aperture_last = ranges->iova_ranges[ranges->nr_iovas - 1].end;
		free(info);
		m->coherent = ioctl(w->container, VFIO_CHECK_EXTENSION, VFIO_DMA_CC_IOMMU) == 1;

		VFIO_ASSERT_TRUE(enable(w, i, 1));
		if (!__vfio_pci_msix_addr(device, 0, &addr)) {
			VFIO_ASSERT_GE(addr, m->default_iova);
			w->doorbell_offset = addr - m->default_iova;
			VFIO_ASSERT_LT(w->doorbell_offset, m->granule);
			found = true;
		}

		world_reset(w, false);
	}

	VFIO_ASSERT_TRUE(found, "No device has an MSI-X table to look into\n");

	/* Not only the container says so. */
	VFIO_ASSERT_EQ(m->granule, getpagesize());
	regions = sysfs_resv_regions_get(w->groups[0].bdf, &nr);
	VFIO_ASSERT_EQ(nr, 1);
	VFIO_ASSERT_EQ(strcmp(regions[0].type, "msi"), 0);
	VFIO_ASSERT_EQ(regions[0].start, m->default_iova);
	VFIO_ASSERT_EQ(regions[0].last, m->default_iova + m->default_size - 1);
	free(regions);

	memset(w->counts, 0, sizeof(w->counts));
	w->difference[0] = '\0';
}

static void world_init(struct world *w, char **bdfs, int nr_bdfs)
{
	char *iommus[MAX_GROUPS];
	size_t hole = getpagesize();
	int i, j;

	VFIO_ASSERT_LE(nr_bdfs, MAX_GROUPS);
	w->m.nr_groups = nr_bdfs;

	for (i = 0; i < nr_bdfs; i++) {
		struct group *group = &w->groups[i];

		group->bdf = bdfs[i];
		snprintf_assert(group->path, sizeof(group->path), "/dev/vfio/%d",
				sysfs_iommu_group_get(bdfs[i]));
		group_open(group);

		iommus[i] = sysfs_iommu_get(bdfs[i]);
		for (j = 0; strcmp(iommus[j], iommus[i]); j++)
			;
		w->m.groups[i].iommu = j;
	}

	for (i = 0; i < nr_bdfs; i++)
		free(iommus[i]);

	w->memfd = memfd_create("memory", 0);
	VFIO_ASSERT_GE(w->memfd, 0);
	VFIO_ASSERT_EQ(ftruncate(w->memfd, MEMORY), 0);
	for (i = 0; i < 2; i++) {
		w->views[i] = mmap(NULL, MEMORY + hole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
				   -1, 0);
		VFIO_ASSERT_NE(w->views[i], MAP_FAILED);
		VFIO_ASSERT_EQ(mmap(w->views[i], MEMORY, PROT_READ | PROT_WRITE,
				    MAP_SHARED | MAP_FIXED | MAP_POPULATE, w->memfd, 0),
			       w->views[i]);
	}

	/* And a word behind the end. */
	w->bitmap = calloc_assert(1, BITMAP_BYTES + 8);
	w->bits = calloc_assert(1, BITMAP_BYTES + 8);
}

/* Whether all that the model has rules for happened. */
static bool all_tried(struct world *w, int backends)
{
	bool all = true;
	int i, v2;

	for (i = 0; i < NR_RULES; i++) {
		printf("# %8llu %8llu  %s: %s\n", w->counts[0][i], w->counts[1][i], rules[i].what,
		       error_name(model_error(&w->m, i)));

		for (v2 = 0; v2 < 2; v2++) {
			if (!(rules[i].backends & backends & (1 << v2)) || w->counts[v2][i])
				continue;

			printf("# never tried on %s: %s\n", mode_names[v2], rules[i].name);
			all = false;
		}
	}

	return all;
}

int main(int argc, char *argv[])
{
	static const struct option options[] = {
		{ "mode", required_argument, NULL, 'm' },
		{ "seed", required_argument, NULL, 's' },
		{ "seeds", required_argument, NULL, 'n' },
		{ "first-seed", required_argument, NULL, 'f' },
		{ "operations", required_argument, NULL, 'o' },
		{}
	};
	static const char tried[] = "every operation was tried with every outcome";
	int nr_operations = 300, backends = BOTH, number = 0, v2, opt;
	__u64 first = 1, nr_seeds = 20, seed, differences;
	static struct world w;
	bool ok, failed = false;

	program = argv[0];
	setvbuf(stdout, NULL, _IOLBF, 0);

	while ((opt = getopt_long(argc, argv, "m:", options, NULL)) != -1) {
		switch (opt) {
		case 'm':
			backends = !strcmp(optarg, "v1") ? V1 : !strcmp(optarg, "v2") ? V2 : 0;
			break;
		case 's':
			first = strtoull(optarg, NULL, 0);
			nr_seeds = 1;
			w.verbose = true;
			break;
		case 'n':
			nr_seeds = strtoull(optarg, NULL, 0);
			break;
		case 'f':
			first = strtoull(optarg, NULL, 0);
			break;
		case 'o':
			nr_operations = atoi(optarg);
			break;
		default:
			backends = 0;
		}
	}

	if (!backends || optind == argc || !nr_seeds || nr_operations < 1) {
		fprintf(stderr, "usage: %s [-m v1|v2] [--seeds N] [--first-seed N] [--operations N] BDF...\n",
			program);
		fprintf(stderr, "       %s [-m v1|v2] --seed N [--operations N] BDF...\n", program);
		return 2;
	}

	atexit(entries_restore);
	world_init(&w, argv + optind, argc - optind);
	probe(&w);

	printf("TAP version 13\n1..%d\n", (backends == BOTH ? 2 : 1) + 1);

	for (v2 = 1; v2 >= 0; v2--) {
		if (!(backends & 1 << v2))
			continue;

		/* The first differences say most, and what is wrong takes long to go through. */
		differences = 0;
		for (seed = first; seed < first + nr_seeds && differences < 5; seed++)
			differences += !run_seed(&w, v2, seed, nr_operations);

		failed |= differences;
		printf("%sok %d %s: %llu seeds of %d operations\n", differences ? "not " : "", ++number,
		       mode_names[v2], nr_seeds, nr_operations);
	}

	/* A few seeds come across what they come across, and differences end them. */
	ok = true;
	if (failed) {
		printf("ok %d %s # SKIP a difference ended it\n", ++number, tried);
	} else if (nr_seeds * nr_operations < 20 * 300) {
		printf("ok %d %s # SKIP too few operations\n", ++number, tried);
	} else {
		ok = all_tried(&w, backends);
		printf("%sok %d %s\n", ok ? "" : "not ", ++number, tried);
	}

	return failed || !ok;
}
