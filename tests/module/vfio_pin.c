// SPDX-License-Identifier: GPL-2.0-only
/*
 * An emulated VFIO device that pins pages, and reads and writes memory, at the IOVAs its user says. No driver of the kernel's
 * samples does that, and those that do need hardware. See vfio_pin.h for what the user can ask for.
 *
 * It has one user with one thread. Nothing here is locked: to pin pages while another thread unmaps them would take that.
 */
#include <linux/iommu.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vfio.h>

#include "vfio_pin.h"

struct vfio_pin {
	struct vfio_device vdev;
	struct list_head pins;
	int unmaps;
};

/* A page, once for each time that it was pinned. */
struct pin {
	struct list_head next;
	dma_addr_t iova;
};

static struct platform_device *device;

static struct vfio_pin *to_vfio_pin(struct vfio_device *vdev)
{
	return container_of(vdev, struct vfio_pin, vdev);
}

static void unpin(struct vfio_pin *p, dma_addr_t first, dma_addr_t last)
{
	struct pin *pin, *next;

	list_for_each_entry_safe(pin, next, &p->pins, next) {
		if (pin->iova < first || pin->iova > last)
			continue;

		vfio_unpin_pages(&p->vdev, pin->iova, 1);
		list_del(&pin->next);
		kfree(pin);
	}
}

static int remember(struct list_head *pins, struct vfio_pin_pages *args)
{
	for (u32 i = 0; i < args->pages; i++) {
		struct pin *pin = kmalloc(sizeof(*pin), GFP_KERNEL);

		if (!pin)
			return -ENOMEM;
		pin->iova = args->iova + i * PAGE_SIZE;
		list_add_tail(&pin->next, pins);
	}
	return 0;
}

static long ioctl_pin(struct vfio_pin *p, struct vfio_pin_pages *args)
{
	struct pin *pin, *next;
	struct page **pages;
	LIST_HEAD(pins);
	int ret;

	pages = kcalloc(args->pages, sizeof(*pages), GFP_KERNEL);
	ret = pages ? remember(&pins, args) : -ENOMEM;
	if (!ret)
		ret = vfio_pin_pages(&p->vdev, args->iova, args->pages, IOMMU_READ | IOMMU_WRITE, pages);
	kfree(pages);

	if (ret > 0)
		list_splice_tail_init(&pins, &p->pins);
	list_for_each_entry_safe(pin, next, &pins, next)
		kfree(pin);
	return ret;
}

static long ioctl_rw(struct vfio_pin *p, struct vfio_pin_rw *args)
{
	void *data;
	int ret;

	if (args->size > VFIO_PIN_RW_MAX)
		return -E2BIG;

	data = args->write ? memdup_user(u64_to_user_ptr(args->data), args->size) : kzalloc(args->size, GFP_KERNEL);
	if (IS_ERR_OR_NULL(data))
		return data ? PTR_ERR(data) : -ENOMEM;

	ret = vfio_dma_rw(&p->vdev, args->iova, data, args->size, args->write);
	if (!ret && !args->write && copy_to_user(u64_to_user_ptr(args->data), data, args->size))
		ret = -EFAULT;
	kfree(data);
	return ret;
}

static long vfio_pin_ioctl(struct vfio_device *vdev, unsigned int cmd, unsigned long arg)
{
	struct vfio_pin *p = to_vfio_pin(vdev);
	struct vfio_pin_pages pages;
	struct vfio_pin_rw rw;

	switch (cmd) {
	case VFIO_PIN_PIN:
	case VFIO_PIN_UNPIN:
		if (copy_from_user(&pages, (void __user *)arg, sizeof(pages)))
			return -EFAULT;
		if (pages.pages > VFIO_PIN_PAGES_MAX)
			return -E2BIG;
		if (cmd == VFIO_PIN_PIN)
			return ioctl_pin(p, &pages);
		unpin(p, pages.iova, pages.iova + pages.pages * PAGE_SIZE - 1);
		return 0;
	case VFIO_PIN_RW:
		if (copy_from_user(&rw, (void __user *)arg, sizeof(rw)))
			return -EFAULT;
		return ioctl_rw(p, &rw);
	case VFIO_PIN_UNMAPS:
		return p->unmaps;
	default:
		return -ENOTTY;
	}
}

static int vfio_pin_open(struct vfio_device *vdev)
{
	to_vfio_pin(vdev)->unmaps = 0;
	return 0;
}

static void vfio_pin_close(struct vfio_device *vdev)
{
	unpin(to_vfio_pin(vdev), 0, ~(dma_addr_t)0);
}

static void vfio_pin_dma_unmap(struct vfio_device *vdev, u64 iova, u64 length)
{
	struct vfio_pin *p = to_vfio_pin(vdev);

	p->unmaps++;
	unpin(p, iova, iova + length - 1);
}

static const struct vfio_device_ops vfio_pin_ops = {
	.name = "vfio-pin",
	.open_device = vfio_pin_open,
	.close_device = vfio_pin_close,
	.ioctl = vfio_pin_ioctl,
	.dma_unmap = vfio_pin_dma_unmap,
	.bind_iommufd = vfio_iommufd_emulated_bind,
	.unbind_iommufd = vfio_iommufd_emulated_unbind,
	.attach_ioas = vfio_iommufd_emulated_attach_ioas,
	.detach_ioas = vfio_iommufd_emulated_detach_ioas,
};

static int vfio_pin_probe(struct platform_device *pdev)
{
	struct vfio_pin *p;
	int ret;

	p = vfio_alloc_device(vfio_pin, vdev, &pdev->dev, &vfio_pin_ops);
	if (IS_ERR(p))
		return PTR_ERR(p);
	INIT_LIST_HEAD(&p->pins);
	platform_set_drvdata(pdev, p);

	ret = vfio_register_emulated_iommu_dev(&p->vdev);
	if (ret)
		vfio_put_device(&p->vdev);
	return ret;
}

static void vfio_pin_remove(struct platform_device *pdev)
{
	struct vfio_pin *p = platform_get_drvdata(pdev);

	vfio_unregister_group_dev(&p->vdev);
	vfio_put_device(&p->vdev);
}

static struct platform_driver vfio_pin_driver = {
	.driver.name = VFIO_PIN_DEVICE,
	.remove = vfio_pin_remove,
};

/* A faux device would do, but 6.12 does not have them. */
static int __init vfio_pin_init(void)
{
	device = platform_create_bundle(&vfio_pin_driver, vfio_pin_probe, NULL, 0, NULL, 0);
	return PTR_ERR_OR_ZERO(device);
}

static void __exit vfio_pin_exit(void)
{
	platform_device_unregister(device);
	platform_driver_unregister(&vfio_pin_driver);
}

module_init(vfio_pin_init);
module_exit(vfio_pin_exit);

MODULE_DESCRIPTION("An emulated VFIO device that pins pages for its user");
MODULE_LICENSE("GPL");
