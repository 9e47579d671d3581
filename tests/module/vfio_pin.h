/* SPDX-License-Identifier: GPL-2.0-only */
/* What the device of vfio_pin.c does for the user that opened it, besides what all VFIO devices do. */
#ifndef VFIO_PIN_H
#define VFIO_PIN_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define VFIO_PIN_DEVICE "vfio_pin"

struct vfio_pin_pages {
	__u64 iova;
	__u32 pages; /* VFIO_PIN_PAGES_MAX at most */
	__u32 reserved;
};

#define VFIO_PIN_PAGES_MAX 512

/* vfio_pin_pages(): returns what that returns, the number of pages. */
#define VFIO_PIN_PIN _IOW('P', 0, struct vfio_pin_pages)

/* vfio_unpin_pages(), of pages that are pinned. */
#define VFIO_PIN_UNPIN _IOW('P', 1, struct vfio_pin_pages)

struct vfio_pin_rw {
	__u64 iova;
	__u64 data; /* pointer to size bytes */
	__u32 size; /* VFIO_PIN_RW_MAX at most */
	__u32 write;
};

#define VFIO_PIN_RW_MAX 65536

/* vfio_dma_rw(). */
#define VFIO_PIN_RW _IOW('P', 2, struct vfio_pin_rw)

/* Returns how often the device was told to unpin pages since it was opened. */
#define VFIO_PIN_UNMAPS _IO('P', 3)

#endif
