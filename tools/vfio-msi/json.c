// SPDX-License-Identifier: GPL-2.0-only
/* A writer of JSON that knows where commas go. */
#include <inttypes.h>
#include <stdio.h>

#include "vfio-msi.h"

static int depth;
static bool first = true;

static void quote(const char *text)
{
	putchar('"');
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		/* Names in sysfs are ASCII; what is not would make the text no UTF-8. */
		if (c == '"' || c == '\\')
			printf("\\%c", c);
		else if (c < 0x20 || c > 0x7e)
			printf("\\u%04x", c);
		else
			putchar(c);
	}
	putchar('"');
}

static void begin(const char *name)
{
	if (!first)
		putchar(',');
	if (depth)
		printf("\n%*s", 2 * depth, "");
	if (name) {
		quote(name);
		printf(": ");
	}
	first = false;
}

void json_open(const char *name, char bracket)
{
	begin(name);
	putchar(bracket);
	depth++;
	first = true;
}

void json_close(char bracket)
{
	depth--;
	if (!first)
		printf("\n%*s", 2 * depth, "");
	putchar(bracket);
	first = false;
	if (!depth)
		putchar('\n');
}

void json_string(const char *name, const char *value)
{
	begin(name);
	quote(value);
}

void json_number(const char *name, unsigned long long value)
{
	begin(name);
	printf("%llu", value);
}

void json_bool(const char *name, bool value)
{
	begin(name);
	printf(value ? "true" : "false");
}

void json_null(const char *name)
{
	begin(name);
	printf("null");
}

void json_range(const char *name, struct range range)
{
	begin(name);
	printf("{\"start\": \"0x%" PRIx64 "\", \"last\": \"0x%" PRIx64 "\"}", range.start, range.last);
}
