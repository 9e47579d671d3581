/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the demo draws: the IOVA space, as far as the memory goes and a little further.
 * By itself, so that make check can draw it without a kernel: README shows it, and tests/check/planted.py changes it.
 */
#ifndef DRAW_H
#define DRAW_H

#include <stdio.h>

#include "picture.h"

#define MIB		((uint64_t)1 << 20)
#define RAM_SIZE	(1024 * MIB)
#define WINDOW_IOVA	RAM_SIZE	/* right above the memory */
#define WINDOW_SIZE	MIB
#define MIDDLE		(128 * MIB)	/* where the default window is on Arm */

#define CELL		(16 * MIB)
#define NR_CELLS	((RAM_SIZE + 64 * MIB) / CELL)

static void draw(enum picture_look ram, uint64_t window, bool doorbell, bool plain)
{
	static const uint64_t marks[] = { 0, MIDDLE, 2 * MIDDLE, RAM_SIZE / 2, 6 * MIDDLE, RAM_SIZE };
	const struct picture_span spans[] = {
		{ 0, RAM_SIZE - 1, ram },
		{ window, window + WINDOW_SIZE - 1, doorbell ? PICTURE_DOORBELL : PICTURE_WINDOW },
	};

	printf("\n");
	picture_bar(spans, 2, CELL, NR_CELLS, marks, sizeof(marks) / sizeof(*marks), plain, "     ");
	printf("\n");
}

#endif
