// SPDX-License-Identifier: GPL-2.0-only
/* Pictures of an IOVA space. The demo draws with this, too: it must need nothing else of the tool. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "picture.h"

#define COLUMN_WIDTH	32

static const struct {
	const char *plain, *pretty, *what;
} looks[PICTURE_LOOKS] = {
	[PICTURE_FREE]		= { ".", "\033[2m·\033[0m", "free" },
	[PICTURE_OUTSIDE]	= { " ", " ", "outside of the aperture" },
	[PICTURE_WANTED]	= { "-", "\033[33m░\033[0m", "memory, not mapped" },
	[PICTURE_MAPPED]	= { "#", "\033[32m█\033[0m", "memory, mapped" },
	[PICTURE_MEMORY]	= { "#", "\033[32m█\033[0m", "memory" },
	[PICTURE_HOTPLUG]	= { "+", "\033[36m░\033[0m", "room for hot-plug" },
	[PICTURE_RELAXABLE]	= { "r", "\033[35m▒\033[0m", "relaxable region" },
	[PICTURE_RESERVED]	= { "R", "\033[35m█\033[0m", "reserved region" },
	[PICTURE_WINDOW]	= { "W", "\033[31m▒\033[0m", "window for doorbells" },
	[PICTURE_DOORBELL]	= { "D", "\033[31m█\033[0m", "window with a doorbell in it" },
	[PICTURE_COLLISION]	= { "!", "\033[1;31m!\033[0m", "collision" },
};

static const char *symbol(enum picture_look look, bool plain)
{
	return plain ? looks[look].plain : looks[look].pretty;
}

static void mark_name(char *text, size_t size, uint64_t mark)
{
	if (mark && !(mark & ((1ULL << 30) - 1)))
		snprintf(text, size, "%" PRIu64 "G", mark >> 30);
	else if (mark)
		snprintf(text, size, "%" PRIu64 "M", mark >> 20);
	else
		snprintf(text, size, "0");
}

void picture_bar(const struct picture_span *spans, size_t nr, uint64_t cell, unsigned int cells,
		 const uint64_t *marks, size_t nr_marks, bool plain, const char *indent)
{
	bool seen[PICTURE_LOOKS] = { false };
	unsigned int at = 0;
	char name[24];

	printf("%s", indent);
	for (size_t i = 0; i < nr_marks; i++) {
		for (; at < marks[i] / cell; at++)
			putchar(' ');
		mark_name(name, sizeof(name), marks[i]);
		at += printf("%s", name);
	}

	printf("\n%s", indent);
	for (unsigned int i = 0; i < cells; i++) {
		enum picture_look look = PICTURE_FREE;
		uint64_t start = i * cell, last = start + cell - 1;

		for (size_t n = 0; n < nr; n++)
			if (spans[n].start <= last && spans[n].last >= start)
				look = spans[n].look;
		seen[look] = true;
		fputs(symbol(look, plain), stdout);
	}
	printf("\n%s", indent);
	for (int i = 0, n = 0; i < PICTURE_LOOKS; i++)
		if (seen[i])
			printf("%s%s %s", n++ ? "  " : "", symbol(i, plain), looks[i].what);
	printf("\n");
}

void picture_size(char *text, size_t size, uint64_t start, uint64_t last)
{
	static const char * const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	uint64_t bytes = last - start + 1;
	unsigned int unit = 6;

	if (!bytes) {
		snprintf(text, size, "16 EiB");
		return;
	}
	while (unit && bytes < 1ULL << (10 * unit))
		unit--;
	/* One unit down when that makes it exact, and still short. */
	if (unit && bytes & ((1ULL << (10 * unit)) - 1) && bytes >> (10 * (unit - 1)) < 10000 &&
	    !(bytes & ((1ULL << (10 * (unit - 1))) - 1)))
		unit--;
	if (unit && bytes & ((1ULL << (10 * unit)) - 1))
		snprintf(text, size, "%.1f %s", (double)bytes / (double)(1ULL << (10 * unit)), units[unit]);
	else
		snprintf(text, size, "%" PRIu64 " %s", bytes >> (10 * unit), units[unit]);
}

static void edge(uint64_t address, const char *left, const char *line, const char *right, const char *indent)
{
	char text[24];

	snprintf(text, sizeof(text), "0x%08" PRIx64, address);
	printf("%s%-18s %s", indent, text, left);
	for (int i = 0; i < COLUMN_WIDTH; i++)
		printf("%s", line);
	printf("%s\n", right);
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static enum picture_look look_at(const struct picture_span *spans, size_t nr, uint64_t address)
{
	enum picture_look look = PICTURE_FREE;

	for (size_t n = 0; n < nr; n++)
		if (spans[n].start <= address && spans[n].last >= address)
			look = spans[n].look;
	return look;
}

void picture_column(const struct picture_span *spans, size_t nr, uint64_t last, bool plain,
		    const char *indent)
{
	uint64_t *bounds = calloc(2 * nr + 1, sizeof(*bounds));
	size_t nr_bounds = 1;

	if (!bounds)
		return;
	for (size_t n = 0; n < nr; n++) {
		bounds[nr_bounds++] = spans[n].start;
		if (spans[n].last != UINT64_MAX)
			bounds[nr_bounds++] = spans[n].last + 1;
	}
	qsort(bounds, nr_bounds, sizeof(*bounds), compare);

	for (size_t n = 0; n < nr_bounds;) {
		uint64_t start = bounds[n], end = last;
		enum picture_look look = look_at(spans, nr, start);
		char size[32];

		if (start > last)
			break;
		/* What looks the same is one box. */
		for (n++; n < nr_bounds; n++) {
			if (bounds[n] > last || bounds[n] == start || look_at(spans, nr, bounds[n]) == look)
				continue;
			end = bounds[n] - 1;
			break;
		}
		if (start)
			edge(start, plain ? "+" : "├", plain ? "-" : "─", plain ? "+" : "┤", indent);
		else
			edge(start, plain ? "+" : "┌", plain ? "-" : "─", plain ? "+" : "┐", indent);
		picture_size(size, sizeof(size), start, end);
		printf("%s%*s%s %s %-*s%s %s\n", indent, 19, "", plain ? "|" : "│", symbol(look, plain), COLUMN_WIDTH - 3,
		       looks[look].what, plain ? "|" : "│", size);
	}
	edge(last, plain ? "+" : "└", plain ? "-" : "─", plain ? "+" : "┘", indent);
	free(bounds);
}
