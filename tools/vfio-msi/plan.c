// SPDX-License-Identifier: GPL-2.0-only
/* vfio-msi plan: sysfs and arithmetic, no device is opened. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "picture.h"
#include "vfio-msi.h"

#define WINDOW_SIZE	SIZE_1M	/* what IOMMU drivers set aside, and QEMU takes */

struct collision {
	const struct group *group;
	const struct region *region;
	struct range range;		/* memory, room for hot-plug, or a reserved region under a default window */
	const char *what;
	bool movable;
};

struct collisions {
	struct collision *v;
	size_t nr;
};

static void add(struct collisions *collisions, const struct collision *collision)
{
	collisions->v = grow(collisions->v, collisions->nr, sizeof(*collisions->v));
	collisions->v[collisions->nr++] = *collision;
}

static void collide(struct collisions *collisions, const struct group *group, const struct region *region,
		    const struct ranges *ranges, const char *what)
{
	struct collision collision = { group, region, { 0, 0 }, what, region->kind == KIND_WINDOW };

	/* The kernel lets memory be mapped over relaxable regions. */
	if (region->kind == KIND_RELAXABLE)
		return;
	for (size_t i = 0; i < ranges->nr; i++) {
		collision.range = ranges->v[i];
		if (overlap(collision.range, region->range))
			add(collisions, &collision);
	}
}

/* Firmware may reserve the very place where the IOMMU driver wants doorbells to be. */
static void collide_within(struct collisions *collisions, const struct group *group, const struct region *window)
{
	for (size_t i = 0; i < group->nr_regions; i++) {
		const struct region *region = &group->regions[i];
		struct collision collision = { group, window, region->range, "a reserved region", true };

		if (region->kind != KIND_WINDOW && overlap(region->range, window->range))
			add(collisions, &collision);
	}
}

/* The highest place, as QEMU's x-msi-iova=auto takes it: what is low is more often in somebody's way. */
static bool highest(const struct ranges *gaps, uint64_t first, uint64_t last, struct range *window)
{
	for (size_t i = gaps->nr; i-- > 0;) {
		uint64_t start = gaps->v[i].start > first ? gaps->v[i].start : first;
		uint64_t end = gaps->v[i].last < last ? gaps->v[i].last : last;

		if (end < WINDOW_SIZE - 1 || start > end)
			continue;
		/* Aligned to its size, it is aligned to every granule. */
		window->start = (end - (WINDOW_SIZE - 1)) & ~(WINDOW_SIZE - 1);
		window->last = window->start + WINDOW_SIZE - 1;
		if (window->start >= start)
			return true;
	}
	return false;
}

/* The lowest place from @first on: no IOMMU is known to stop right behind 4 GiB, and memory. */
static bool lowest(const struct ranges *gaps, uint64_t first, struct range *window)
{
	for (size_t i = 0; i < gaps->nr; i++) {
		uint64_t start = gaps->v[i].start > first ? gaps->v[i].start : first;

		if (start > UINT64_MAX - 2 * WINDOW_SIZE)
			continue;
		window->start = (start + WINDOW_SIZE - 1) & ~(WINDOW_SIZE - 1);
		window->last = window->start + WINDOW_SIZE - 1;
		if (window->last <= gaps->v[i].last)
			return true;
	}
	return false;
}

static bool in_use(const struct device *device)
{
	return device->pci && !device->bridge;
}

static void draw(const struct host *host, const struct options *options, const struct collisions *collisions,
		 const struct range *window)
{
	static const uint64_t marks[] = { 0, SIZE_4G / 4, SIZE_4G / 2, SIZE_4G / 4 * 3, SIZE_4G };
	struct picture_span *spans = NULL;
	size_t nr = 0;

#define SPAN(range, look) do {						\
	spans = grow(spans, nr, sizeof(*spans));			\
	spans[nr++] = (struct picture_span){ (range).start, (range).last, look };	\
} while (0)

	/* Memory lies over a relaxable region, and under all others. */
	for (int relaxable = 1; relaxable >= 0; relaxable--) {
		for (size_t i = 0; i < host->nr_groups; i++) {
			const struct group *group = &host->groups[i];

			for (size_t n = 0; n < group->nr_regions && group->wanted; n++) {
				static const enum picture_look looks[] = {
					[KIND_RESERVED] = PICTURE_RESERVED, [KIND_RELAXABLE] = PICTURE_RELAXABLE,
					[KIND_WINDOW] = PICTURE_WINDOW,
				};

				if ((group->regions[n].kind == KIND_RELAXABLE) == relaxable)
					SPAN(group->regions[n].range, looks[group->regions[n].kind]);
			}
		}
		for (size_t i = 0; i < options->hotplug.nr && relaxable; i++)
			SPAN(options->hotplug.v[i], PICTURE_HOTPLUG);
		for (size_t i = 0; i < options->ram.nr && relaxable; i++)
			SPAN(options->ram.v[i], PICTURE_MEMORY);
	}
	if (window)
		SPAN(*window, PICTURE_WINDOW);
	for (size_t i = 0; i < collisions->nr; i++) {
		struct range both = collisions->v[i].region->range, range = collisions->v[i].range;

		if (range.start > both.start)
			both.start = range.start;
		if (range.last < both.last)
			both.last = range.last;
		SPAN(both, PICTURE_COLLISION);
	}
#undef SPAN

	printf("\n");
	picture_bar(spans, nr, SIZE_4G / 64, 64, marks, ARRAY_SIZE(marks), options->plain, "  ");
	printf("\n");
	picture_column(spans, nr, UINT64_MAX, options->plain, "  ");
	free(spans);
}

/* Whoever names no devices means those that are going to be assigned. */
static void select_default(struct host *host)
{
	bool any = false;

	for (size_t i = 0; i < host->nr_groups; i++)
		any |= host->groups[i].wanted;
	for (size_t i = 0; i < host->nr_groups && !any; i++)
		host->groups[i].wanted = bound_to_vfio(&host->groups[i]);
	for (size_t i = 0; i < host->nr_groups; i++)
		any |= host->groups[i].wanted;
	for (size_t i = 0; i < host->nr_groups && !any; i++)
		host->groups[i].wanted = true;
}

enum status plan(struct host *host, const struct options *options)
{
	struct ranges taken = { NULL, 0 }, gaps;
	struct collisions collisions = { NULL, 0 };
	bool movable = false, fixed = false, low = false, unknown = false, found, helps;
	struct range window = { 0, 0 };
	size_t nr_wanted = 0;
	char size[32];

	select_default(host);
	for (size_t i = 0; i < options->ram.nr; i++)
		ranges_add(&taken, options->ram.v[i]);
	for (size_t i = 0; i < options->hotplug.nr; i++)
		ranges_add(&taken, options->hotplug.v[i]);
	for (size_t i = 0; i < host->nr_groups; i++) {
		const struct group *group = &host->groups[i];

		if (!group->wanted)
			continue;
		nr_wanted++;
		for (size_t n = 0; n < group->nr_regions; n++) {
			const struct region *region = &group->regions[n];

			collide(&collisions, group, region, &options->ram, "memory");
			collide(&collisions, group, region, &options->hotplug, "room for hot-plug");
			if (region->kind == KIND_WINDOW)
				collide_within(&collisions, group, region);
			else
				ranges_add(&taken, region->range);
		}
		for (size_t n = 0; n < group->nr_devices; n++) {
			if (!in_use(&group->devices[n]))
				continue;
			low |= group->devices[n].msi == MSI_32;
			unknown |= group->devices[n].msi == MSI_UNKNOWN;
		}
	}
	for (size_t i = 0; i < collisions.nr; i++) {
		movable |= collisions.v[i].movable;
		fixed |= !collisions.v[i].movable;
	}

	ranges_merge(&taken);
	gaps = ranges_gaps(&taken, UINT64_MAX);
	found = highest(&gaps, 0, SIZE_4G - 1, &window);
	if (!found && !low)
		found = lowest(&gaps, SIZE_4G, &window);
	/* What cannot be moved is in the way with any window. */
	helps = movable && !fixed && found;

	if (options->json) {
		json_open(NULL, '{');
		json_bool("fits", !collisions.nr);
		json_open("groups", '[');
		for (size_t i = 0; i < host->nr_groups; i++)
			if (host->groups[i].wanted)
				json_number(NULL, host->groups[i].number);
		json_close(']');
		json_open("collisions", '[');
		for (size_t i = 0; i < collisions.nr; i++) {
			const struct collision *collision = &collisions.v[i];

			json_open(NULL, '{');
			json_number("group", collision->group->number);
			json_string("what", collision->what);
			json_range("range", collision->range);
			json_string("type", collision->region->type);
			json_range("region", collision->region->range);
			json_bool("movable", collision->movable);
			json_close('}');
		}
		json_close(']');
		json_bool("below_4g", low);
		json_bool("msi_known", !unknown);
		if (helps)
			json_range("window", window);
		else
			json_null("window");
		json_open("gaps", '[');
		for (size_t i = 0; i < gaps.nr; i++)
			json_range(NULL, gaps.v[i]);
		json_close(']');
	} else {
		const struct group *previous = NULL;
		const char *comma = "";

		printf("%s, with the devices of group%s", collisions.nr ? "collides" : "fits", nr_wanted > 1 ? "s" : "");
		for (size_t i = 0; i < host->nr_groups; i++) {
			if (!host->groups[i].wanted)
				continue;
			printf("%s %u", comma, host->groups[i].number);
			comma = ",";
		}
		printf("\n");
		for (size_t i = 0; i < collisions.nr; i++) {
			const struct collision *collision = &collisions.v[i];

			if (collision->group != previous) {
				printf("  group %u:", collision->group->number);
				for (size_t n = 0; n < collision->group->nr_devices; n++)
					printf(" %s", collision->group->devices[n].name);
				printf("\n");
			}
			previous = collision->group;
			printf("    %s 0x%08" PRIx64 "-0x%08" PRIx64 " overlaps %s 0x%08" PRIx64 "-0x%08" PRIx64 "%s%s\n",
			       collision->what, collision->range.start, collision->range.last,
			       collision->movable ? "the default window" : "a region that cannot be moved:",
			       collision->region->range.start, collision->region->range.last,
			       collision->movable ? "" : ", ", collision->movable ? "" : collision->region->type);
		}
	}

	if (options->json)
		json_open("qemu", '[');
	else
		draw(host, options, &collisions, helps ? &window : NULL);
	if (!options->json && helps) {
		printf("\nA window of 1 MiB can be in:\n");
		for (size_t i = 0; i < gaps.nr; i++) {
			struct ranges gap = { &gaps.v[i], 1 };
			struct range unused;

			if (!lowest(&gap, 0, &unused) || (low && unused.last >= SIZE_4G))
				continue;
			picture_size(size, sizeof(size), gaps.v[i].start, gaps.v[i].last);
			printf("  0x%08" PRIx64 "-0x%08" PRIx64 "  %s%s\n", gaps.v[i].start, gaps.v[i].last, size,
			       low && gaps.v[i].last >= SIZE_4G ? ", only the part below 4 GiB" : "");
		}
		if (low)
			printf("It has to be below 4 GiB: a device has a 32-bit MSI capability.\n");
		else if (unknown)
			printf("Below 4 GiB it suits every device; root can see whether one has a 32-bit MSI capability.\n");
		printf("Keep clear of what else the machine has there, MMIO and BARs: x-msi-iova=auto of QEMU does.\n"
		       "On a kernel that lets user space choose the window (vfio-msi check tells), pass to QEMU:\n");
	}
	for (size_t i = 0; i < host->nr_groups && helps; i++) {
		const struct group *group = &host->groups[i];
		char line[160];

		for (size_t n = 0; n < group->nr_devices && group->wanted; n++) {
			if (!in_use(&group->devices[n]))
				continue;
			print(line, sizeof(line), "-device vfio-pci,host=%s,x-msi-iova=0x%" PRIx64, group->devices[n].name,
			      window.start);
			if (options->json)
				json_string(NULL, line);
			else
				printf("  %s\n", line);
		}
	}
	if (options->json) {
		json_close(']');
		json_close('}');
	} else if (movable && !fixed && !found) {
		printf("\nThere is no room for a window%s: leave 1 MiB free.\n",
		       low ? " below 4 GiB, where a device needs it" : "");
	}
	if (!options->json && fixed)
		printf("\nNo window helps where a region cannot be moved: put the memory elsewhere, and ask again.\n");
	free(taken.v);
	free(gaps.v);
	free(collisions.v);
	return collisions.nr ? NO : OK;
}
