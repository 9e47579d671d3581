/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a container does, as a program: the state that user space can get to, and a function for each
 * ioctl that says how it ends and changes the state. Mappings behave as on the stock kernel; all else
 * is the contract of the uapi header.
 *
 * How an ioctl ends is a rule of rules.h. Where several apply, the functions of model.c try them in the
 * order in which the kernel does.
 */
#ifndef MODEL_H
#define MODEL_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include <linux/types.h>
#include <linux/vfio.h>

#define MAX_GROUPS	8
#define MAX_IOMMUS	8
#define MAX_MAPPINGS	512
#define MAX_RANGES	8

#define V1	(1 << 0)
#define V2	(1 << 1)
#define BOTH	(V1 | V2)

enum rule {
#define RULE(name, error, backends, what) name,
#include "rules.h"
#undef RULE
	NR_RULES,
};

struct rule_text {
	const char *name;
	int error;
	int backends;
	const char *what;
};

extern const struct rule_text rules[NR_RULES];

struct mapping {
	__u64 iova;
	__u64 size;
	__u64 memory;		/* the memory that is mapped, as an offset in all there is */
	__u32 flags;
	bool vaddr_invalid;
};

struct model_group {
	int iommu;
	bool attached;
	bool open;		/* a device of it */
	bool enabled;		/* its MSIs */
};

struct model {
	/* What this machine and kernel are, and does not change. */
	bool v2;
	bool no_overflow;	/* an old kernel, which says EINVAL where others say EOVERFLOW */
	bool coherent;
	__u64 pgsizes;
	__u64 granule;
	__u64 aperture_last;
	__u64 default_iova, default_size;
	__u32 entries;		/* of dma_avail, with nothing mapped */
	int nr_groups;

	struct model_group groups[MAX_GROUPS];
	bool backend;

	/* From here on the backend's. */
	__u32 doorbells[MAX_IOMMUS];	/* of the domain of that IOMMU */
	struct mapping mappings[MAX_MAPPINGS];	/* sorted */
	int nr_mappings;
	bool registered;
	__u64 window_iova, window_size;
	bool tracking;		/* dirty pages */
};

/* How the memory is that an ioctl is to write to. */
enum access {
	ACCESS_OK,
	ACCESS_FAULT,		/* an address of user space, with nothing there */
	ACCESS_DENIED,		/* not of user space */
};

/* What GET_INFO says. */
struct model_info {
	__u64 pgsizes;
	__u32 avail;
	__u32 flags;
	__u32 granule;
	__u64 iova;
	__u64 size;
	__u32 doorbells;
	int nr_ranges;
	struct vfio_iova_range ranges[MAX_RANGES];
};

#define DIRTY_BITMAP_MAX	(1ULL << 28)	/* bytes, of the kernel */

int model_error(const struct model *m, enum rule rule);

/* @usable: bytes of memory at map->vaddr; @memory: where that is in all there is */
enum rule model_map(struct model *m, const struct vfio_iommu_type1_dma_map *map,
		    __u64 usable, __u64 memory);

/*
 * @bits: set for what is dirty, and large enough for @bitmap
 * @unmapped: the size that is returned on success
 */
enum rule model_unmap(struct model *m, const struct vfio_iommu_type1_dma_unmap *unmap,
		      const struct vfio_bitmap *bitmap, enum access access, __u64 *bits,
		      __u64 *unmapped);
enum rule model_dirty_pages(struct model *m, const struct vfio_iommu_type1_dirty_bitmap *dirty,
			    const struct vfio_iommu_type1_dirty_bitmap_get *get,
			    enum access access, __u64 *bits);
enum rule model_attach(struct model *m, int group);
enum rule model_detach(struct model *m, int group);
enum rule model_set_iommu(struct model *m, unsigned long type);
enum rule model_open(struct model *m, int group);
enum rule model_close(struct model *m, int group);
enum rule model_enable(struct model *m, int group);
enum rule model_disable(struct model *m, int group);
enum rule model_extension(const struct model *m, unsigned long extension, int *answer);
enum rule model_info_short(const struct model *m, __u32 argsz);
void model_info(const struct model *m, struct model_info *info);

/* Where doorbells are mapped. */
static inline __u64 window_iova(const struct model *m)
{
	return m->registered ? m->window_iova : m->default_iova;
}

static inline __u64 window_size(const struct model *m)
{
	return m->registered ? m->window_size : m->default_size;
}

#endif /* MODEL_H */
