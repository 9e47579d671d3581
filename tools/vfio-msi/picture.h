/* SPDX-License-Identifier: GPL-2.0-only */
/* Pictures of an IOVA space, for a terminal or in plain ASCII. */
#ifndef PICTURE_H
#define PICTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Legends name them in this order. */
enum picture_look {
	PICTURE_FREE,
	PICTURE_OUTSIDE,
	PICTURE_WANTED,
	PICTURE_MAPPED,
	PICTURE_MEMORY,
	PICTURE_HOTPLUG,
	PICTURE_RELAXABLE,
	PICTURE_RESERVED,
	PICTURE_WINDOW,
	PICTURE_DOORBELL,
	PICTURE_COLLISION,
	PICTURE_LOOKS
};

/* Where spans overlap, the later one of an array is seen. */
struct picture_span {
	uint64_t start, last;
	enum picture_look look;
};

/*
 * One line from IOVA 0, as many cells as asked for, with a scale above and a legend
 * below. A cell shows the last span that has a byte in it, however small: a window of
 * 1 MiB is what people look for, and must not vanish in a cell of 64 MiB.
 */
void picture_bar(const struct picture_span *spans, size_t nr, uint64_t cell, unsigned int cells,
		 const uint64_t *marks, size_t nr_marks, bool plain, const char *indent);

/* One box for each stretch that looks the same, up to @last, with addresses and sizes. */
void picture_column(const struct picture_span *spans, size_t nr, uint64_t last, bool plain,
		    const char *indent);

/* 1 MiB, 127.9 GiB: exact where that is short. The number of bytes is @last - @start + 1. */
void picture_size(char *text, size_t size, uint64_t start, uint64_t last);

#endif
