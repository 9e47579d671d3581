// SPDX-License-Identifier: GPL-2.0-only
#include <stdlib.h>
#include <string.h>

#include <libvfio.h>

#include "model.h"

const struct rule_text rules[NR_RULES] = {
#define RULE(name, error, backends, what) [name] = { #name, error, backends, what },
#include "rules.h"
#undef RULE
};

/*
 * EOVERFLOW for a range that wraps around is younger than 6.12. For a window it is not: it came with
 * the window.
 */
int model_error(const struct model *m, enum rule rule)
{
	if (m->no_overflow && rules[rule].error == EOVERFLOW && rule != REGISTER_WRAPS)
		return EINVAL;

	return rules[rule].error;
}

/* Ranges are compared by their last addresses: one may end where addresses do. */
static __u64 last_of(__u64 iova, __u64 size)
{
	return iova + size - 1;
}

static bool overlap(__u64 iova, __u64 size, __u64 other, __u64 other_size)
{
	return iova <= last_of(other, other_size) && last_of(iova, size) >= other;
}

static bool wraps(__u64 iova, __u64 size)
{
	return last_of(iova, size) < iova;
}

static bool aligned(const struct model *m, __u64 value)
{
	return !(value & (m->granule - 1));
}

/* Whether the range has something of the window that is registered. */
static bool over_window(const struct model *m, __u64 iova, __u64 size)
{
	return m->registered && overlap(iova, size, m->window_iova, m->window_size);
}

static bool over_default(const struct model *m, __u64 iova, __u64 size)
{
	return overlap(iova, size, m->default_iova, m->default_size);
}

/* The first mapping that ends at @iova or above. */
static int first_mapping(const struct model *m, __u64 iova)
{
	int i;

	for (i = 0; i < m->nr_mappings; i++)
		if (last_of(m->mappings[i].iova, m->mappings[i].size) >= iova)
			break;

	return i;
}

static struct mapping *mapping_in(struct model *m, __u64 iova, __u64 size)
{
	int i = first_mapping(m, iova);

	if (i == m->nr_mappings || m->mappings[i].iova > last_of(iova, size))
		return NULL;

	return &m->mappings[i];
}

static struct mapping *exact_mapping(struct model *m, __u64 iova, __u64 size)
{
	struct mapping *mapping = mapping_in(m, iova, size);

	return mapping && mapping->iova == iova && mapping->size == size ? mapping : NULL;
}

/* Whether an end of the range is inside of a mapping. */
static bool cuts_mapping(struct model *m, __u64 first, __u64 last)
{
	struct mapping *mapping;

	mapping = mapping_in(m, first, 1);
	if (mapping && mapping->iova != first)
		return true;

	mapping = mapping_in(m, last, 1);
	return mapping && last_of(mapping->iova, mapping->size) != last;
}

static bool default_in_use(struct model *m)
{
	return mapping_in(m, m->default_iova, m->default_size);
}

static bool any_vaddr_invalid(const struct model *m)
{
	int i;

	for (i = 0; i < m->nr_mappings; i++)
		if (m->mappings[i].vaddr_invalid)
			return true;

	return false;
}

/* The most of any domain. */
static __u32 doorbells(const struct model *m)
{
	__u32 most = 0;
	int i;

	for (i = 0; i < MAX_IOMMUS; i++)
		if (m->doorbells[i] > most)
			most = m->doorbells[i];

	return most;
}

/* The window is an entry like a mapping. */
static __u32 avail(const struct model *m)
{
	return m->entries - m->nr_mappings - m->registered;
}

/* Without devices that pin pages all that is mapped may be written to at any time, and is dirty. */
static void set_dirty(const struct model *m, const struct mapping *mapping, __u64 base, __u64 *bits)
{
	__u64 bit = (mapping->iova - base) / m->granule;
	__u64 end = bit + mapping->size / m->granule;

	for (; bit < end; bit++)
		bits[bit / 64] |= 1ULL << (bit % 64);
}

static bool bitmap_too_small(const struct vfio_bitmap *bitmap, __u64 size)
{
	__u64 pages = size / (bitmap->pgsize & -bitmap->pgsize);

	if (!pages || !bitmap->size || bitmap->size > DIRTY_BITMAP_MAX)
		return true;

	return (pages + 63) / 64 > bitmap->size / 8;
}

static void forget_backend(struct model *m)
{
	memset(m->doorbells, 0, sizeof(m->doorbells));
	m->backend = false;
	m->nr_mappings = 0;
	m->registered = false;
	m->tracking = false;
}

/* VFIO_IOMMU_MAP_DMA with VFIO_DMA_MAP_FLAG_RESERVED_MSI_IOVA */
static enum rule model_register(struct model *m, const struct vfio_iommu_type1_dma_map *map)
{
	if (map->flags != VFIO_DMA_MAP_FLAG_RESERVED_MSI_IOVA)
		return REGISTER_FLAGS;
	if (map->vaddr)
		return REGISTER_VADDR;
	if (!map->size)
		return REGISTER_SIZE_0;

	/* Other than a mapping's, its end has to be an address. */
	if (map->iova + map->size < map->iova)
		return REGISTER_WRAPS;
	if (!aligned(m, map->iova | map->size))
		return REGISTER_MISALIGNED;
	if (m->registered)
		return REGISTER_SECOND;
	if (mapping_in(m, map->iova, map->size))
		return REGISTER_MAPPED;
	if (last_of(map->iova, map->size) > m->aperture_last)
		return REGISTER_APERTURE;
	if (!avail(m))
		return REGISTER_NO_ENTRY;
	if (doorbells(m))
		return REGISTER_BUSY;

	m->registered = true;
	m->window_iova = map->iova;
	m->window_size = map->size;
	if (!map->iova)
		return REGISTER_FIRST;
	if (last_of(map->iova, map->size) == m->aperture_last)
		return REGISTER_LAST;
	return over_default(m, map->iova, map->size) ? REGISTER_DEFAULT : REGISTER;
}

/* VFIO_IOMMU_MAP_DMA with VFIO_DMA_MAP_FLAG_VADDR */
static enum rule model_vaddr(struct model *m, const struct vfio_iommu_type1_dma_map *map)
{
	struct mapping *mapping = exact_mapping(m, map->iova, map->size);

	if (!mapping) {
		if (mapping_in(m, map->iova, map->size))
			return VADDR_OTHER;

		return over_window(m, map->iova, map->size) ? VADDR_WINDOW : VADDR_NONE;
	}

	if (!mapping->vaddr_invalid)
		return VADDR_VALID;

	mapping->vaddr_invalid = false;
	return VADDR;
}

enum rule model_map(struct model *m, const struct vfio_iommu_type1_dma_map *map,
		    __u64 usable, __u64 memory)
{
	const __u32 prot = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
	const __u32 known = prot | VFIO_DMA_MAP_FLAG_VADDR | VFIO_DMA_MAP_FLAG_RESERVED_MSI_IOVA;
	bool vaddr = map->flags & VFIO_DMA_MAP_FLAG_VADDR;
	int i;

	if (!m->backend)
		return NO_BACKEND;
	if (map->argsz < sizeof(*map))
		return MAP_ARGSZ;
	if (map->flags & ~known)
		return MAP_FLAGS;

	if (map->flags & VFIO_DMA_MAP_FLAG_RESERVED_MSI_IOVA)
		return model_register(m, map);

	if (!map->size)
		return MAP_SIZE_0;
	if (wraps(map->iova, map->size))
		return MAP_WRAPS;
	if (wraps(map->vaddr, map->size))
		return MAP_VADDR_WRAPS;
	if (map->flags & prot && vaddr)
		return VADDR_PROT;
	if (!(map->flags & prot) && !vaddr)
		return MAP_NO_PROT;
	if (!aligned(m, map->iova | map->size | map->vaddr))
		return vaddr ? VADDR_MISALIGNED : MAP_MISALIGNED;

	if (vaddr)
		return model_vaddr(m, map);

	if (mapping_in(m, map->iova, map->size))
		return MAP_MAPPED;
	if (over_window(m, map->iova, map->size))
		return MAP_WINDOW;
	if (!avail(m))
		return MAP_NO_ENTRY;
	if (last_of(map->iova, map->size) > m->aperture_last)
		return MAP_APERTURE;
	if (!m->registered && over_default(m, map->iova, map->size))
		return MAP_RESERVED;
	if (map->size > usable)
		return MAP_FAULT;

	VFIO_ASSERT_LT(m->nr_mappings, MAX_MAPPINGS);
	i = first_mapping(m, map->iova);
	memmove(&m->mappings[i + 1], &m->mappings[i],
		(m->nr_mappings - i) * sizeof(m->mappings[0]));
	m->nr_mappings++;
	m->mappings[i] = (struct mapping) {
		.iova = map->iova,
		.size = map->size,
		.memory = memory,
		.flags = map->flags,
	};

	return over_default(m, map->iova, map->size) ? MAP_DEFAULT : MAP;
}

/* VFIO_IOMMU_UNMAP_DMA with VFIO_DMA_UNMAP_FLAG_RESERVED_MSI_IOVA */
static enum rule model_release(struct model *m, const struct vfio_iommu_type1_dma_unmap *unmap,
			       __u64 *unmapped)
{
	if (unmap->flags != VFIO_DMA_UNMAP_FLAG_RESERVED_MSI_IOVA)
		return RELEASE_FLAGS;
	if (!m->registered)
		return RELEASE_NONE;
	if (unmap->iova != m->window_iova || unmap->size != m->window_size)
		return RELEASE_OTHER;
	if (default_in_use(m))
		return RELEASE_DEFAULT;
	if (doorbells(m))
		return RELEASE_BUSY;

	m->registered = false;
	*unmapped = m->window_size;
	return RELEASE;
}

/* VFIO_IOMMU_UNMAP_DMA with VFIO_DMA_UNMAP_FLAG_VADDR: all mappings from @i to @end, or none */
static enum rule model_invalidate(struct model *m, int i, int end, bool window, __u64 *unmapped)
{
	int j;

	for (j = i; j < end; j++) {
		if (!m->mappings[j].vaddr_invalid)
			continue;

		if (window && j > i && m->mappings[j].iova > m->window_iova)
			return INVALIDATE_TWICE_WINDOW;

		return INVALIDATE_TWICE;
	}

	for (j = i; j < end; j++) {
		m->mappings[j].vaddr_invalid = true;
		*unmapped += m->mappings[j].size;
	}

	return window ? INVALIDATE_WINDOW : i < end ? INVALIDATE : INVALIDATE_NOTHING;
}

enum rule model_unmap(struct model *m, const struct vfio_iommu_type1_dma_unmap *unmap,
		      const struct vfio_bitmap *bitmap, enum access access, __u64 *bits,
		      __u64 *unmapped)
{
	const __u32 known = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP | VFIO_DMA_UNMAP_FLAG_ALL |
			    VFIO_DMA_UNMAP_FLAG_VADDR | VFIO_DMA_UNMAP_FLAG_RESERVED_MSI_IOVA;
	bool dirty = unmap->flags & VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP;
	bool all = unmap->flags & VFIO_DMA_UNMAP_FLAG_ALL;
	bool vaddr = unmap->flags & VFIO_DMA_UNMAP_FLAG_VADDR;
	__u64 first = unmap->iova, last = last_of(unmap->iova, unmap->size);
	bool window, inside = false, whole = false;
	int i, j, end;

	*unmapped = 0;

	if (!m->backend)
		return NO_BACKEND;
	if (unmap->argsz < sizeof(*unmap))
		return UNMAP_ARGSZ;
	if (unmap->flags & ~known)
		return UNMAP_FLAGS;

	if (unmap->flags & VFIO_DMA_UNMAP_FLAG_RESERVED_MSI_IOVA)
		return model_release(m, unmap, unmapped);

	if (dirty) {
		if (all || vaddr)
			return BITMAP_COMBINED;
		if (unmap->argsz < sizeof(*unmap) + sizeof(*bitmap))
			return BITMAP_ARGSZ;
		if (access == ACCESS_DENIED)
			return BITMAP_ACCESS;
		if (bitmap_too_small(bitmap, unmap->size))
			return BITMAP_SIZE;
	}

	if (!aligned(m, unmap->iova))
		return UNMAP_MISALIGNED;

	if (all) {
		if (unmap->iova || unmap->size)
			return UNMAP_ALL_RANGE;
		last = ~0ULL;
	} else {
		if (!unmap->size)
			return UNMAP_SIZE_0;
		if (!aligned(m, unmap->size))
			return UNMAP_MISALIGNED;
		if (last < first)
			return UNMAP_WRAPS;
	}

	if (dirty && !m->tracking)
		return BITMAP_OFF;
	if (dirty && bitmap->pgsize != m->granule)
		return BITMAP_PGSIZE;
	if (m->v2 && !all && cuts_mapping(m, first, last))
		return UNMAP_CUTS;

	/* The window is not seen, here or before. */
	window = all ? m->registered : over_window(m, unmap->iova, unmap->size);

	i = first_mapping(m, first);
	for (end = i; end < m->nr_mappings && m->mappings[end].iova <= last; end++)
		whole |= last_of(m->mappings[end].iova, m->mappings[end].size) > last;

	/* v1 stops at a mapping that begins before the range. */
	if (i < end && m->mappings[i].iova < first) {
		inside = true;
		end = i;
	}

	/* So does an old kernel at a range that goes up to the very last address, on both. */
	if (m->no_overflow && !all && last == ~0ULL) {
		window = false;
		end = i;
	}

	if (vaddr)
		return model_invalidate(m, i, end, window, unmapped);

	if (dirty && access == ACCESS_FAULT && i < end)
		return BITMAP_FAULT;

	for (j = i; j < end; j++) {
		*unmapped += m->mappings[j].size;
		if (dirty)
			set_dirty(m, &m->mappings[j], unmap->iova, bits);
	}

	memmove(&m->mappings[i], &m->mappings[end],
		(m->nr_mappings - end) * sizeof(m->mappings[0]));
	m->nr_mappings -= end - i;

	if (dirty)
		return window ? BITMAP_WINDOW : BITMAP;
	if (all)
		return window ? UNMAP_ALL_WINDOW : UNMAP_ALL;
	if (window && unmap->iova == m->window_iova && unmap->size == m->window_size)
		return UNMAP_IS_WINDOW;
	if (window && first <= m->window_iova && last >= last_of(m->window_iova, m->window_size))
		return UNMAP_HAS_WINDOW;
	if (window && first > m->window_iova && *unmapped)
		return UNMAP_BEHIND_WINDOW;
	if (window)
		return UNMAP_CUTS_WINDOW;
	if (inside)
		return UNMAP_INSIDE;
	if (whole)
		return UNMAP_WHOLE;
	return *unmapped ? UNMAP : UNMAP_NOTHING;
}

/* VFIO_IOMMU_DIRTY_PAGES with VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP */
static enum rule model_get_bitmap(struct model *m, __u32 argsz,
				  const struct vfio_iommu_type1_dirty_bitmap_get *get,
				  enum access access, __u64 *bits)
{
	__u64 last = last_of(get->iova, get->size);
	int i;

	if (argsz < sizeof(struct vfio_iommu_type1_dirty_bitmap) + sizeof(*get))
		return DIRTY_GET_ARGSZ;
	if (!get->size)
		return DIRTY_GET_SIZE_0;

	/* An old kernel takes a range up to the very last address for one that wraps. */
	if (last < get->iova || (m->no_overflow && last == ~0ULL))
		return DIRTY_GET_WRAPS;
	if (access == ACCESS_DENIED)
		return DIRTY_GET_ACCESS;
	if (bitmap_too_small(&get->bitmap, get->size))
		return DIRTY_GET_BITMAP;
	if (get->bitmap.pgsize != m->granule)
		return DIRTY_GET_PGSIZE;
	if (!aligned(m, get->iova | get->size))
		return DIRTY_GET_MISALIGNED;
	if (!m->tracking)
		return DIRTY_GET_OFF;
	if (cuts_mapping(m, get->iova, last))
		return DIRTY_GET_CUTS;

	for (i = first_mapping(m, get->iova); i < m->nr_mappings; i++) {
		if (m->mappings[i].iova > last)
			break;
		if (access == ACCESS_FAULT)
			return DIRTY_GET_FAULT;

		set_dirty(m, &m->mappings[i], get->iova, bits);
	}

	return over_window(m, get->iova, get->size) ? DIRTY_GET_WINDOW : DIRTY_GET;
}

enum rule model_dirty_pages(struct model *m, const struct vfio_iommu_type1_dirty_bitmap *dirty,
			    const struct vfio_iommu_type1_dirty_bitmap_get *get,
			    enum access access, __u64 *bits)
{
	const __u32 known = VFIO_IOMMU_DIRTY_PAGES_FLAG_START | VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP |
			  VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP;
	bool tracking = m->tracking;

	if (!m->backend)
		return NO_BACKEND;
	if (!m->v2)
		return DIRTY_V1;
	if (dirty->argsz < sizeof(*dirty))
		return DIRTY_ARGSZ;
	if (dirty->flags & ~known)
		return DIRTY_FLAGS;
	if (dirty->flags & (dirty->flags - 1))
		return DIRTY_TWO;

	switch (dirty->flags) {
	case VFIO_IOMMU_DIRTY_PAGES_FLAG_START:
		m->tracking = true;
		return tracking ? DIRTY_STARTED : m->registered ? DIRTY_START_WINDOW : DIRTY_START;
	case VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP:
		m->tracking = false;
		return tracking ? DIRTY_STOP : DIRTY_STOPPED;
	default:
		return model_get_bitmap(m, dirty->argsz, get, access, bits);
	}
}

/* Groups behind one IOMMU share a domain, once there is a backend. */
static bool has_domain(const struct model *m, int iommu)
{
	int i;

	for (i = 0; i < m->nr_groups; i++)
		if (m->groups[i].attached && m->groups[i].iommu == iommu)
			return m->backend;

	return false;
}

static bool any_attached(const struct model *m)
{
	int i;

	for (i = 0; i < m->nr_groups; i++)
		if (m->groups[i].attached)
			return true;

	return false;
}

/* VFIO_GROUP_SET_CONTAINER */
enum rule model_attach(struct model *m, int group)
{
	struct model_group *g = &m->groups[group];
	enum rule rule;

	if (g->attached)
		return ATTACH_TWICE;

	if (!m->backend) {
		g->attached = true;
		return ATTACH_FIRST;
	}

	if (any_vaddr_invalid(m))
		return ATTACH_VADDR;

	/* Nothing is in the way: without a window nothing is mapped over the default one. */
	if (default_in_use(m))
		rule = ATTACH_DEFAULT;
	else if (has_domain(m, g->iommu))
		rule = ATTACH_JOINS;
	else if (m->registered)
		rule = doorbells(m) ? ATTACH_BUSY : ATTACH_WINDOW;
	else
		rule = ATTACH_DOMAIN;

	g->attached = true;
	return rule;
}

/* VFIO_GROUP_UNSET_CONTAINER, or the group is closed */
enum rule model_detach(struct model *m, int group)
{
	struct model_group *g = &m->groups[group];
	bool busy = m->doorbells[g->iommu], registered = m->registered;

	if (!g->attached)
		return DETACH_NOT;
	if (g->open)
		return DETACH_OPEN;

	g->attached = false;
	if (!m->backend)
		return DETACH_FIRST;

	if (!any_attached(m)) {
		forget_backend(m);
		return registered ? DETACH_LAST_WINDOW : DETACH_LAST;
	}

	if (has_domain(m, g->iommu))
		return busy ? DETACH_STAYS_BUSY : DETACH_STAYS;

	m->doorbells[g->iommu] = 0;
	return busy ? DETACH_DOMAIN_BUSY : DETACH_DOMAIN;
}

/* VFIO_SET_IOMMU */
enum rule model_set_iommu(struct model *m, unsigned long type)
{
	if (!any_attached(m))
		return SET_IOMMU_NO_GROUP;
	if (m->backend)
		return SET_IOMMU_TWICE;
	if (type != VFIO_TYPE1_IOMMU && type != VFIO_TYPE1v2_IOMMU)
		return SET_IOMMU_UNKNOWN;

	m->backend = true;
	return SET_IOMMU;
}

/* VFIO_GROUP_GET_DEVICE_FD */
enum rule model_open(struct model *m, int group)
{
	struct model_group *g = &m->groups[group];

	if (!g->attached)
		return OPEN_NOT;
	if (!m->backend)
		return OPEN_NO_BACKEND;

	g->open = true;
	return OPEN;
}

enum rule model_close(struct model *m, int group)
{
	struct model_group *g = &m->groups[group];
	bool enabled = g->enabled;

	g->open = false;
	g->enabled = false;
	return enabled ? CLOSE_ENABLED : CLOSE;
}

/* VFIO_DEVICE_SET_IRQS. A machine has one doorbell for all MSIs, and each window has room for it. */
enum rule model_enable(struct model *m, int group)
{
	struct model_group *g = &m->groups[group];

	g->enabled = true;
	if (m->doorbells[g->iommu])
		return ENABLE_AGAIN;

	m->doorbells[g->iommu] = 1;
	return m->registered ? ENABLE_WINDOW : ENABLE;
}

enum rule model_disable(struct model *m, int group)
{
	if (!m->groups[group].enabled)
		return DISABLE_NOT;

	m->groups[group].enabled = false;
	return DISABLE;
}

/* VFIO_CHECK_EXTENSION */
enum rule model_extension(const struct model *m, unsigned long extension, int *answer)
{
	switch (extension) {
	case VFIO_TYPE1_IOMMU:
	case VFIO_TYPE1v2_IOMMU:
	case VFIO_UNMAP_ALL:
	case VFIO_RESERVED_MSI_IOVA:
		*answer = 1;
		break;
	case VFIO_UPDATE_VADDR:
		*answer = m->backend;
		break;
	case VFIO_DMA_CC_IOMMU:
		*answer = m->backend && m->coherent;
		break;
	default:
		*answer = 0;
	}

	return m->backend ? EXTENSION : EXTENSION_NO_BACKEND;
}

/* VFIO_IOMMU_GET_INFO without room for capabilities */
enum rule model_info_short(const struct model *m, __u32 argsz)
{
	if (!m->backend)
		return NO_BACKEND;

	return argsz < 16 ? INFO_ARGSZ : INFO_SHORT;
}

void model_info(const struct model *m, struct model_info *info)
{
	__u64 iova = window_iova(m), size = window_size(m);

	*info = (struct model_info) {
		.pgsizes = m->pgsizes,
		.avail = avail(m),
		.flags = VFIO_IOMMU_MSI_GEOMETRY_TRANSLATED |
			 (m->registered ? VFIO_IOMMU_MSI_GEOMETRY_REGISTERED : 0),
		.granule = m->granule,
		.iova = iova,
		.size = size,
		.doorbells = doorbells(m),
	};

	/* All of the aperture but the window in force. */
	if (iova)
		info->ranges[info->nr_ranges++] = (struct vfio_iova_range) { 0, iova - 1 };
	iova += size;
	if (iova <= m->aperture_last)
		info->ranges[info->nr_ranges++] =
			(struct vfio_iova_range) { iova, m->aperture_last };
}
