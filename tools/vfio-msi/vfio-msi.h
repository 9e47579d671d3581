/* SPDX-License-Identifier: GPL-2.0-only */
/* What the parts of vfio-msi know of each other. */
#ifndef VFIO_MSI_H
#define VFIO_MSI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VERSION		"1"
#define SIZE_1M		(1ULL << 20)
#define SIZE_4G		(1ULL << 32)
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

enum status { OK, NO, USAGE };

/* util.c */

struct range {
	uint64_t start, last;
};

struct ranges {
	struct range *v;
	size_t nr;
};

void die(enum status status, const char *fmt, ...) __attribute__((noreturn, format(printf, 2, 3)));
/* One more element at the end of an array, all zero. */
void *grow(void *array, size_t nr, size_t size);
/* As snprintf(), where what does not fit is a bug or a hostile name, and shall not go unnoticed. */
void print(char *text, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
bool overlap(struct range a, struct range b);
bool same_ranges(const struct ranges *a, const struct ranges *b);
void ranges_add(struct ranges *ranges, struct range range);
/* Sorts them, and merges those that touch. */
void ranges_merge(struct ranges *ranges);
/* All that is in none of them, up to last; they have been merged. */
struct ranges ranges_gaps(const struct ranges *ranges, uint64_t last);
/* START-END or START+SIZE; false: it is neither. */
bool parse_range(const char *text, struct range *range);

/* json.c: a writer that knows where commas go */

void json_open(const char *name, char bracket);
void json_close(char bracket);
void json_string(const char *name, const char *value);
void json_number(const char *name, unsigned long long value);
void json_bool(const char *name, bool value);
void json_null(const char *name);
/* Numbers of 64 bits do not survive all readers of JSON, hence strings in hex. */
void json_range(const char *name, struct range range);

/* sysfs.c */

/*
 * What a reserved region means. The kernel calls both kinds of "msi" regions msi: the window
 * that an IOMMU driver sets aside for doorbells, which user space may put elsewhere, and
 * addresses where MSIs pass the IOMMU by, which nobody can move.
 */
enum kind { KIND_RESERVED, KIND_RELAXABLE, KIND_WINDOW };

struct region {
	struct range range;
	char type[32];
	enum kind kind;
};

enum msi { MSI_UNKNOWN, MSI_NONE, MSI_32, MSI_64 };

struct device {
	char name[64];
	unsigned int vendor, device;
	char driver[64];
	char iommu[64];		/* its name in /sys/class/iommu */
	char iommu_driver[64];
	bool pci, bridge;
	enum msi msi;
	bool msix;
};

struct group {
	unsigned int number;
	char type[32];
	struct device *devices;
	size_t nr_devices;
	struct region *regions;
	size_t nr_regions;
	bool wanted;
};

struct host {
	struct group *groups;
	size_t nr_groups;
};

extern const char *sysfs;	/* "/sys", but in tests */

void host_read(struct host *host);
/* Marks the groups of BDFs and of group numbers; dies if there is none, or no such. */
void host_select(struct host *host, char **words, int nr);
/* "0000:01:00.0" of "01:00.0"; false: no BDF. */
bool parse_bdf(const char *text, char *bdf, size_t size);
struct group *find_bdf(struct host *host, const char *bdf, struct device **device);
/* The window of the group that an IOMMU driver set aside, or NULL. */
const struct region *default_window(const struct group *group);
const char *msi_name(const struct device *device);
/* Whether all devices but bridges are bound to vfio-pci, and there is one. */
bool bound_to_vfio(const struct group *group);
void no_groups(void) __attribute__((noreturn));

/* kernel.c: type1 and iommufd, by the same names */

struct live {
	bool offered;		/* user space may choose the window */
	bool told;		/* the kernel says where the window is */
	bool translated, chosen;
	uint32_t granule, doorbells;
	bool has_window;
	struct range window;
	struct ranges apertures;
};

struct space {
	int container, group, device, iommufd;
	uint32_t ioas;
	char why[256];		/* of what failed: one line that says what to do */
};

struct backend {
	const char *name, *extension;
	/* With the group of the device attached. All return 0 or a negative errno. */
	int (*open)(struct space *space, const struct group *group, const struct device *device);
	int (*open_device)(struct space *space, const struct device *device);
	int (*look)(struct space *space, struct live *live);
	int (*choose)(struct space *space, struct range window);
	int (*release)(struct space *space, struct range window);
	/* Doorbells go. */
	int (*detach)(struct space *space);
};

extern const struct backend type1, iommufd;
void space_close(struct space *space);
bool same_live(const struct live *a, const struct live *b);

/* show.c, plan.c, check.c */

struct options {
	bool json;
	bool plain;		/* ASCII: stdout is no terminal that takes UTF-8, or --plain */
	bool only_sysfs;
	struct ranges ram, hotplug;
};

enum status show(struct host *host, const struct options *options);
enum status plan(struct host *host, const struct options *options);
enum status check(struct host *host, const struct options *options, char **bdfs, int nr);

#endif
