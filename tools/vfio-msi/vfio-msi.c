// SPDX-License-Identifier: GPL-2.0-only
/* vfio-msi: where MSI doorbells can live in the IOVA space of this machine's devices. See vfio-msi.1. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vfio-msi.h"

static const char usage[] =
	"usage: vfio-msi show  [--json] [--plain] [BDF|GROUP...]\n"
	"       vfio-msi plan  [--json] [--plain] --ram RANGE [--hotplug RANGE] [BDF...]\n"
	"       vfio-msi check [--json] BDF...\n"
	"\n"
	"show   what IOMMU groups reserve, and where doorbells for MSIs are\n"
	"plan   does memory at RANGE fit: START-END or START+SIZE, 0-1G or 0x40000000+512M; both options can be repeated;\n"
	"       exit status 0: yes, 1: no, and where a window could go, 2: cannot tell\n"
	"check  try on this kernel, as root, with devices that are bound to vfio-pci, to choose the window\n";

enum { OPT_JSON = 256, OPT_PLAIN, OPT_SYSFS, OPT_RAM, OPT_HOTPLUG, OPT_HELP, OPT_VERSION };

static const struct option long_options[] = {
	{ "json", no_argument, NULL, OPT_JSON },
	{ "plain", no_argument, NULL, OPT_PLAIN },
	{ "sysfs", required_argument, NULL, OPT_SYSFS },
	{ "ram", required_argument, NULL, OPT_RAM },
	{ "hotplug", required_argument, NULL, OPT_HOTPLUG },
	{ "help", no_argument, NULL, OPT_HELP },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ NULL, 0, NULL, 0 }
};

/* By the environment and not by setlocale(): a static program may have no locales. */
static bool terminal_takes_utf8(void)
{
	static const char * const names[] = { "LC_ALL", "LC_CTYPE", "LANG" };
	const char *term = getenv("TERM");

	if (!isatty(STDOUT_FILENO) || !term || !strcmp(term, "dumb"))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const char *value = getenv(names[i]);

		if (value && *value)
			return strstr(value, "UTF-8") || strstr(value, "utf8") || strstr(value, "UTF8");
	}
	return false;
}

static void add_range(struct ranges *ranges, const char *option, const char *text)
{
	struct range range;

	if (!parse_range(text, &range))
		die(USAGE, "%s %s: not a range of whole pages: write it as 0-1G or 0x40000000+512M", option, text);
	ranges_add(ranges, range);
}

int main(int argc, char *argv[])
{
	struct options options = { .plain = !terminal_takes_utf8() };
	static char name[] = "vfio-msi";
	enum status status = USAGE;
	struct host host = { 0 };
	const char *command;
	int option;

	if (argc < 2) {
		fputs(usage, stderr);
		return USAGE;
	}
	command = argv[1];
	if (command[0] != '-') {
		/* getopt_long() looks at what comes after it, and names the program in what it says. */
		argv[1] = name;
		argv++;
		argc--;
	} else {
		command = "";
	}
	while ((option = getopt_long(argc, argv, "h", long_options, NULL)) != -1) {
		switch (option) {
		case OPT_JSON:
			options.json = true;
			break;
		case OPT_PLAIN:
			options.plain = true;
			break;
		case OPT_SYSFS:
			sysfs = optarg;
			options.only_sysfs = true;
			break;
		case OPT_RAM:
			add_range(&options.ram, "--ram", optarg);
			break;
		case OPT_HOTPLUG:
			add_range(&options.hotplug, "--hotplug", optarg);
			break;
		case 'h':
		case OPT_HELP:
			fputs(usage, stdout);
			return OK;
		case OPT_VERSION:
			printf("vfio-msi %s\n", VERSION);
			return OK;
		default:
			/* It said what is wrong. */
			return USAGE;
		}
	}
	argv += optind;
	argc -= optind;

	if (strcmp(command, "show") && strcmp(command, "plan") && strcmp(command, "check"))
		die(USAGE, "%s: not a command: show, plan or check", *command ? command : "(nothing)");
	if (strcmp(command, "plan") && (options.ram.nr || options.hotplug.nr))
		die(USAGE, "--ram and --hotplug are for plan");
	if (!strcmp(command, "plan") && !options.ram.nr)
		die(USAGE, "plan needs --ram: where is the memory, 0-1G or 0x40000000+512M?");
	if (!strcmp(command, "check") && !argc)
		die(USAGE, "check needs the PCI address of a device that is bound to vfio-pci");

	host_read(&host);
	if (!strcmp(command, "check")) {
		status = check(&host, &options, argv, argc);
	} else {
		host_select(&host, argv, argc);
		if (!host.nr_groups)
			no_groups();
		if (!strcmp(command, "show")) {
			for (size_t i = 0; i < host.nr_groups && !argc; i++)
				host.groups[i].wanted = true;
			status = show(&host, &options);
		} else {
			status = plan(&host, &options);
		}
	}

	/* A report that ends in the middle must not look like a good one. */
	if (fflush(stdout) || ferror(stdout))
		die(USAGE, "cannot write: %s", strerror(errno));
	return status;
}
