// SPDX-License-Identifier: GPL-2.0-only
/*
 * Devices whose reserved regions are not what their IOMMU driver says. All devices of the lab's machines have the same ones, and
 * what VFIO makes of them is at its most interesting where they differ. Rules are written to the parameter "rule", and hold until
 * the module goes:
 *
 *   BDF none		the device has no window for doorbells
 *   BDF at START	its window is elsewhere
 *   BDF reserved START	it has a reserved region of a page more, as if it had just been plugged in
 *   BDF stock		it has what its IOMMU driver says
 *
 * The IOMMU's operations are replaced by a copy in which one is ours. Domains are compatible with a device if they were allocated
 * with the same operations: give all devices that shall share a domain a rule, if only "stock".
 */
#include <linux/iommu.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/slab.h>

struct rule {
	struct device *dev;
	bool moved;
	bool lost;
	phys_addr_t window;
	phys_addr_t reserved;	/* 0: none */
};

static struct rule rules[8];
static DEFINE_MUTEX(rules_lock);

static const struct iommu_ops *stock;
static struct iommu_ops ours;

static void get_resv_regions(struct device *dev, struct list_head *head)
{
	struct iommu_resv_region *region, *next;
	struct rule *rule = NULL;

	stock->get_resv_regions(dev, head);

	guard(mutex)(&rules_lock);

	for (int i = 0; i < ARRAY_SIZE(rules); i++) {
		if (rules[i].dev == dev)
			rule = &rules[i];
	}
	if (!rule)
		return;

	list_for_each_entry_safe(region, next, head, list) {
		if (region->type != IOMMU_RESV_SW_MSI)
			continue;
		if (rule->moved)
			region->start = rule->window;
		if (rule->lost) {
			list_del(&region->list);
			kfree(region);
		}
	}

	if (rule->reserved) {
		region = iommu_alloc_resv_region(rule->reserved, PAGE_SIZE, 0, IOMMU_RESV_RESERVED, GFP_KERNEL);
		if (region)
			list_add_tail(&region->list, head);
	}
}

/* The rule of a device, which is found or made. Called with the lock. */
static struct rule *rule_of(struct device *dev)
{
	struct iommu_device *iommu = dev->iommu->iommu_dev;

	for (int i = 0; i < ARRAY_SIZE(rules); i++) {
		if (rules[i].dev == dev)
			return &rules[i];
		if (rules[i].dev)
			continue;

		if (!stock) {
			stock = iommu->ops;
			ours = *stock;
			ours.get_resv_regions = get_resv_regions;
		}
		if (iommu->ops != stock && iommu->ops != &ours)
			return NULL;

		rules[i] = (struct rule) { .dev = get_device(dev) };
		iommu->ops = &ours;
		return &rules[i];
	}

	return NULL;
}

static int rule_set(const char *value, const struct kernel_param *param)
{
	unsigned int segment, bus, slot, function;
	unsigned long long start = 0;
	struct pci_dev *pdev;
	struct rule *rule;
	char what[16];
	int n;

	n = sscanf(value, "%x:%x:%x.%x %15s %llx", &segment, &bus, &slot, &function, what, &start);
	if (n < 5)
		return -EINVAL;

	pdev = pci_get_domain_bus_and_slot(segment, bus, PCI_DEVFN(slot, function));
	if (!pdev)
		return -ENODEV;

	guard(mutex)(&rules_lock);
	rule = pdev->dev.iommu ? rule_of(&pdev->dev) : NULL;
	pci_dev_put(pdev);
	if (!rule)
		return -ENOSPC;

	if (!strcmp(what, "none")) {
		rule->lost = true;
	} else if (!strcmp(what, "at") && n == 6) {
		rule->moved = true;
		rule->window = start;
	} else if (!strcmp(what, "reserved") && n == 6) {
		rule->reserved = start;
	} else if (!strcmp(what, "stock")) {
		*rule = (struct rule) { .dev = rule->dev };
	} else {
		return -EINVAL;
	}

	return 0;
}

static const struct kernel_param_ops rule_ops = {
	.set = rule_set,
};
module_param_cb(rule, &rule_ops, NULL, 0200);
MODULE_PARM_DESC(rule, "BDF none|at START|reserved START|stock");

static int __init iommu_resv_init(void)
{
	return 0;
}

static void __exit iommu_resv_exit(void)
{
	for (int i = 0; i < ARRAY_SIZE(rules) && rules[i].dev; i++) {
		rules[i].dev->iommu->iommu_dev->ops = stock;
		put_device(rules[i].dev);
	}
}

module_init(iommu_resv_init);
module_exit(iommu_resv_exit);

MODULE_DESCRIPTION("Reserved regions for tests");
MODULE_LICENSE("GPL");
