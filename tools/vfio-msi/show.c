// SPDX-License-Identifier: GPL-2.0-only
/* vfio-msi show */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "picture.h"
#include "vfio-msi.h"

/* What the kernel tells of a group beyond sysfs, or why it does not. */
struct look {
	const struct backend *backend;	/* NULL: see why */
	struct live live;
	char why[256];
};

/* iommufd's container attaches devices when they are opened; until then it offers IOVA that they reserve. */
static bool attached(const struct group *group, const struct live *live)
{
	for (size_t i = 0; i < group->nr_regions; i++)
		for (size_t n = 0; n < live->apertures.nr && group->regions[i].kind != KIND_RELAXABLE; n++)
			if (overlap(group->regions[i].range, live->apertures.v[n]))
				return false;
	return true;
}

static void look_at(const struct group *group, const struct options *options, struct look *look)
{
	const struct device *device = NULL;
	struct space space;

	*look = (struct look){ 0 };
	for (size_t i = 0; i < group->nr_devices && !device; i++)
		if (!strcmp(group->devices[i].driver, "vfio-pci"))
			device = &group->devices[i];
	if (options->only_sysfs) {
		strcpy(look->why, "only sysfs was looked at");
		return;
	}
	if (!device) {
		strcpy(look->why, "bind the group to vfio-pci to see more");
		return;
	}
	/* Type1 first: it attaches a group without opening, and so resetting, a device. */
	if (!type1.open(&space, group, device) && !type1.look(&space, &look->live)) {
		look->backend = &type1;
		if (!attached(group, &look->live)) {
			free(look->live.apertures.v);
			if (type1.open_device(&space, device) || type1.look(&space, &look->live))
				look->backend = NULL;
		}
	} else if (access("/dev/vfio/vfio", F_OK)) {
		space_close(&space);
		if (!iommufd.open(&space, group, device) && !iommufd.look(&space, &look->live))
			look->backend = &iommufd;
	}
	memcpy(look->why, space.why, sizeof(look->why));
	space_close(&space);
}

static const char *region_means(const struct region *region)
{
	if (region->kind == KIND_WINDOW)
		return "default window for doorbells";
	if (region->kind == KIND_RELAXABLE)
		return "memory can be mapped there, a window cannot be put there";
	if (!strcmp(region->type, "msi"))
		return "MSIs pass the IOMMU by there";
	return "nothing can be mapped there";
}

static void print_range(const char *what, struct range range, const char *rest)
{
	char size[32];

	picture_size(size, sizeof(size), range.start, range.last);
	printf("  %-11s 0x%08" PRIx64 "-0x%08" PRIx64 "  %s%s%s\n", what, range.start, range.last, size, *rest ? "  " : "", rest);
}

static void print_group(const struct group *group, const struct look *look)
{
	const struct live *live = &look->live;
	const char *previous = "";
	char text[96];

	printf("group %u", group->number);
	if (group->type[0])
		printf(", domain %s", group->type);
	printf("\n");
	for (size_t i = 0; i < group->nr_devices; i++) {
		const struct device *device = &group->devices[i];

		if (strcmp(previous, device->iommu))
			printf("  %-11s %s%s%s%s\n", "IOMMU", device->iommu, device->iommu_driver[0] ? " (" : "",
			       device->iommu_driver, device->iommu_driver[0] ? ")" : "");
		previous = device->iommu;
	}
	for (size_t i = 0; i < group->nr_devices; i++) {
		const struct device *device = &group->devices[i];

		printf("  %-11s %s", "device", device->name);
		if (device->pci)
			printf("  %04x:%04x  %s%s", device->vendor, device->device, device->bridge ? "bridge, " : "",
			       msi_name(device));
		printf("  %s\n", device->driver[0] ? device->driver : "no driver");
	}
	for (size_t i = 0; i < group->nr_regions; i++) {
		print(text, sizeof(text), "%s: %s", group->regions[i].type, region_means(&group->regions[i]));
		print_range("reserved", group->regions[i].range, text);
	}
	if (!group->nr_regions)
		printf("  %-11s nothing\n", "reserved");
	if (!look->backend) {
		printf("  %-11s not known: %s\n\n", "in force", look->why);
		return;
	}

	printf("  %-11s %s, user space %s choose the window (%s%s)\n", "backend", look->backend->name,
	       live->offered ? "can" : "cannot", live->offered ? "" : "no ", look->backend->extension);
	if (live->told && live->has_window)
		print_range("window", live->window, live->chosen ? "chosen by user space" : "default");
	else if (live->told)
		printf("  %-11s none\n", "window");
	if (live->told) {
		picture_size(text, sizeof(text), 1, live->granule);
		printf("  %-11s MSIs are %stranslated, %u doorbell%s mapped, granule %s\n", "doorbells",
		       live->translated ? "" : "not ", live->doorbells, live->doorbells == 1 ? "" : "s", text);
	}
	for (size_t i = 0; i < live->apertures.nr; i++)
		print_range(i ? "" : "IOVA ranges", live->apertures.v[i], "");
	printf("\n");
}

static void json_group(const struct group *group, const struct look *look)
{
	const struct live *live = &look->live;
	const struct region *window = default_window(group);

	json_open(NULL, '{');
	json_number("group", group->number);
	json_string("domain_type", group->type);
	json_open("devices", '[');
	for (size_t i = 0; i < group->nr_devices; i++) {
		static const char * const msis[] = {
			[MSI_UNKNOWN] = "unknown", [MSI_NONE] = "none", [MSI_32] = "32-bit", [MSI_64] = "64-bit",
		};
		const struct device *device = &group->devices[i];
		char id[16];

		json_open(NULL, '{');
		json_string("name", device->name);
		json_string("driver", device->driver);
		json_string("iommu", device->iommu);
		json_string("iommu_driver", device->iommu_driver);
		if (device->pci) {
			print(id, sizeof(id), "%04x:%04x", device->vendor & 0xffff, device->device & 0xffff);
			json_string("id", id);
			json_bool("bridge", device->bridge);
			json_string("msi", msis[device->msi]);
			if (device->msix || device->msi != MSI_UNKNOWN)
				json_bool("msix", device->msix);
			else
				json_null("msix");
		}
		json_close('}');
	}
	json_close(']');
	json_open("reserved", '[');
	for (size_t i = 0; i < group->nr_regions; i++) {
		json_open(NULL, '{');
		json_string("type", group->regions[i].type);
		json_range("range", group->regions[i].range);
		json_bool("default_window", group->regions[i].kind == KIND_WINDOW);
		json_close('}');
	}
	json_close(']');
	if (window)
		json_range("default_window", window->range);
	else
		json_null("default_window");

	if (look->backend) {
		json_open("live", '{');
		json_string("backend", look->backend->name);
		json_bool("offered", live->offered);
		if (live->told) {
			json_bool("translated", live->translated);
			json_bool("chosen", live->chosen);
			json_number("granule", live->granule);
			json_number("doorbells", live->doorbells);
			if (live->has_window)
				json_range("window", live->window);
			else
				json_null("window");
		}
		json_open("iova_ranges", '[');
		for (size_t i = 0; i < live->apertures.nr; i++)
			json_range(NULL, live->apertures.v[i]);
		json_close(']');
		json_close('}');
	} else {
		json_null("live");
		json_string("not_live", look->why);
	}
	json_close('}');
}

static bool same_picture(const struct group *a, const struct look *x, const struct group *b, const struct look *y)
{
	if (a->nr_regions != b->nr_regions || !x->backend != !y->backend || !same_live(&x->live, &y->live))
		return false;
	for (size_t i = 0; i < a->nr_regions; i++)
		if (a->regions[i].range.start != b->regions[i].range.start || a->regions[i].kind != b->regions[i].kind ||
		    a->regions[i].range.last != b->regions[i].range.last)
			return false;
	return true;
}

static void draw(const struct group *group, const struct look *look, bool plain)
{
	static const uint64_t marks[] = { 0, SIZE_4G / 4, SIZE_4G / 2, SIZE_4G / 4 * 3, SIZE_4G };
	const struct live *live = &look->live;
	struct picture_span *spans = NULL;
	struct ranges outside = { NULL, 0 };
	size_t nr = 0;

	/* Reserved regions are no IOVA that can be used either, and drawn over this. */
	if (live->apertures.nr)
		outside = ranges_gaps(&live->apertures, UINT64_MAX);
	for (size_t i = 0; i < outside.nr; i++) {
		spans = grow(spans, nr, sizeof(*spans));
		spans[nr++] = (struct picture_span){ outside.v[i].start, outside.v[i].last, PICTURE_OUTSIDE };
	}
	for (int kind = KIND_WINDOW; kind >= KIND_RESERVED; kind--) {
		static const enum picture_look looks[] = {
			[KIND_RESERVED] = PICTURE_RESERVED, [KIND_RELAXABLE] = PICTURE_RELAXABLE, [KIND_WINDOW] = PICTURE_WINDOW,
		};

		for (size_t i = 0; i < group->nr_regions; i++) {
			if ((int)group->regions[i].kind != kind)
				continue;
			spans = grow(spans, nr, sizeof(*spans));
			spans[nr++] = (struct picture_span){
				group->regions[i].range.start, group->regions[i].range.last, looks[kind]
			};
		}
	}
	if (live->told && live->has_window) {
		spans = grow(spans, nr, sizeof(*spans));
		spans[nr++] = (struct picture_span){
			live->window.start, live->window.last, live->doorbells ? PICTURE_DOORBELL : PICTURE_WINDOW
		};
	}

	picture_bar(spans, nr, SIZE_4G / 64, 64, marks, ARRAY_SIZE(marks), plain, "  ");
	printf("\n");
	picture_column(spans, nr, UINT64_MAX, plain, "  ");
	printf("\n");
	free(outside.v);
	free(spans);
}

static void draw_all(const struct host *host, const struct look *looks, bool plain)
{
	bool *done = calloc(host->nr_groups, sizeof(*done));

	if (!done)
		die(USAGE, "out of memory");
	for (size_t i = 0; i < host->nr_groups; i++) {
		if (!host->groups[i].wanted || done[i])
			continue;
		printf("IOVA space of group %u", host->groups[i].number);
		for (size_t n = i + 1; n < host->nr_groups; n++) {
			if (!host->groups[n].wanted || !same_picture(&host->groups[i], &looks[i], &host->groups[n], &looks[n]))
				continue;
			printf(", %u", host->groups[n].number);
			done[n] = true;
		}
		printf("%s\n\n", looks[i].live.apertures.nr ? "" : " (its aperture is not known)");
		draw(&host->groups[i], &looks[i], plain);
	}
	free(done);
}

enum status show(struct host *host, const struct options *options)
{
	struct look *looks = calloc(host->nr_groups, sizeof(*looks));

	if (!looks)
		die(USAGE, "out of memory");
	for (size_t i = 0; i < host->nr_groups; i++)
		if (host->groups[i].wanted)
			look_at(&host->groups[i], options, &looks[i]);

	if (options->json) {
		json_open(NULL, '{');
		json_open("groups", '[');
	}
	for (size_t i = 0; i < host->nr_groups; i++) {
		if (!host->groups[i].wanted)
			continue;
		if (options->json)
			json_group(&host->groups[i], &looks[i]);
		else
			print_group(&host->groups[i], &looks[i]);
	}
	if (options->json) {
		json_close(']');
		json_close('}');
	} else {
		draw_all(host, looks, options->plain);
	}
	for (size_t i = 0; i < host->nr_groups; i++)
		free(looks[i].live.apertures.v);
	free(looks);
	return OK;
}
