// SPDX-License-Identifier: GPL-2.0-only
/* Errors, memory, ranges of addresses. */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vfio-msi.h"

void die(enum status status, const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("vfio-msi: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputs("\n", stderr);
	exit(status);
}

void *grow(void *array, size_t nr, size_t size)
{
	array = realloc(array, (nr + 1) * size);
	if (!array)
		die(USAGE, "out of memory");
	memset((char *)array + nr * size, 0, size);
	return array;
}

void print(char *text, size_t size, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, size, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= size)
		die(USAGE, "a name is too long: %s", text);
}

bool overlap(struct range a, struct range b)
{
	return a.start <= b.last && b.start <= a.last;
}

bool same_ranges(const struct ranges *a, const struct ranges *b)
{
	return a->nr == b->nr && (!a->nr || !memcmp(a->v, b->v, a->nr * sizeof(*a->v)));
}

void ranges_add(struct ranges *ranges, struct range range)
{
	ranges->v = grow(ranges->v, ranges->nr, sizeof(range));
	ranges->v[ranges->nr++] = range;
}

static int compare(const void *a, const void *b)
{
	const struct range *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

void ranges_merge(struct ranges *ranges)
{
	size_t nr = 0;

	if (!ranges->nr)
		return;
	qsort(ranges->v, ranges->nr, sizeof(*ranges->v), compare);
	for (size_t i = 1; i < ranges->nr; i++) {
		struct range *last = &ranges->v[nr], *next = &ranges->v[i];

		if (last->last == UINT64_MAX || next->start <= last->last + 1) {
			if (next->last > last->last)
				last->last = next->last;
		} else {
			ranges->v[++nr] = *next;
		}
	}
	ranges->nr = nr + 1;
}

struct ranges ranges_gaps(const struct ranges *ranges, uint64_t last)
{
	struct ranges gaps = { NULL, 0 };
	uint64_t start = 0;

	for (size_t i = 0; i < ranges->nr; i++) {
		struct range range = ranges->v[i];

		if (range.start > last)
			break;
		if (range.start > start)
			ranges_add(&gaps, (struct range){ start, range.start - 1 });
		if (range.last >= last)
			return gaps;
		start = range.last + 1;
	}
	ranges_add(&gaps, (struct range){ start, last });
	return gaps;
}

/* 0x1000, 4096, 4K, 4KiB */
static bool parse_number(const char *text, char **end, uint64_t *value)
{
	static const char units[] = "KMGTP";
	const char *unit;

	if (!isdigit((unsigned char)*text))
		return false;
	errno = 0;
	*value = strtoull(text, end, text[0] == '0' && (text[1] | 32) == 'x' ? 16 : 10);
	if (errno || *end == text)
		return false;
	unit = **end ? strchr(units, toupper((unsigned char)**end)) : NULL;
	if (unit) {
		unsigned int shift = 10 * (unsigned int)(unit - units + 1);

		if (*value << shift >> shift != *value)
			return false;
		*value <<= shift;
		*end += 1;
		if (!strncmp(*end, "iB", 2))
			*end += 2;
	}
	return true;
}

bool parse_range(const char *text, struct range *range)
{
	uint64_t value;
	char *end;
	char how;

	if (!parse_number(text, &end, &range->start))
		return false;
	how = *end;
	if ((how != '-' && how != '+') || !parse_number(end + 1, &end, &value) || *end || range->start & 4095)
		return false;
	if (how == '+') {
		range->last = range->start + value - 1;
		return value && !(value & 4095) && range->last >= range->start;
	}
	/*
	 * Memory comes in pages. An end in the middle of none is the address after the range, as people write it; one at the
	 * end of a page is the last address in it, as the kernel writes it.
	 */
	if ((value & 4095) == 4095)
		range->last = value;
	else if (!(value & 4095) && value)
		range->last = value - 1;
	else
		return false;
	return range->last > range->start;
}
