// SPDX-License-Identifier: MIT
/*
 * What the guest of vmm.c runs, at address 0, with the MMU off: have the edu device copy memory from below 128 MiB to above, by
 * way of its own buffer, and raise an MSI when it is done. The result goes to VMM_RESULT.
 */
#include "guest.h"

#define SPAN		4096			/* edu's buffer */
#define FROM		(MIDDLE - SPAN / 2)	/* across the middle */
#define TO		(MIDDLE + 0x80000)	/* where the default window has its doorbells */

#define EDU_STATUS	(EDU_BASE + 0x24)
#define EDU_ACK		(EDU_BASE + 0x64)
#define EDU_FROM	(EDU_BASE + 0x80)
#define EDU_TO		(EDU_BASE + 0x88)
#define EDU_COUNT	(EDU_BASE + 0x90)
#define EDU_COMMAND	(EDU_BASE + 0x98)
#define EDU_BUFFER	0x40000
#define EDU_START	1
#define EDU_TO_MEMORY	2
#define EDU_RAISE	4
#define EDU_DONE	0x100

#define GICD_CTLR	(GICD_BASE + 0x0)
#define GICD_IGROUPR	(GICD_BASE + 0x80 + MSI_INTID / 32 * 4)
#define GICD_ISENABLER	(GICD_BASE + 0x100 + MSI_INTID / 32 * 4)
#define GICD_ICFGR	(GICD_BASE + 0xc00 + MSI_INTID / 16 * 4)

#define ICC_PMR_EL1	"S3_0_C4_C6_0"
#define ICC_IAR1_EL1	"S3_0_C12_C12_0"
#define ICC_EOIR1_EL1	"S3_0_C12_C12_1"
#define ICC_IGRPEN1_EL1	"S3_0_C12_C12_7"

#define READ_ICC(reg)	({ unsigned long _v; asm volatile("mrs %0, " reg : "=r"(_v)); _v; })
#define WRITE_ICC(reg, v)	asm volatile("msr " reg ", %0; isb" : : "r"((unsigned long)(v)))

/* All of it is one function, the one at address 0. */
#define INLINE		static inline __attribute__((always_inline))

/* KVM knows what these instructions do, and not what others do that a compiler may choose. */
INLINE void write32(unsigned long at, unsigned value)
{
	asm volatile("dsb sy; str %w0, [%1]" : : "r"(value), "r"(at) : "memory");
}

INLINE unsigned read32(unsigned long at)
{
	unsigned value;

	asm volatile("ldr %w0, [%1]; dsb sy" : "=r"(value) : "r"(at) : "memory");
	return value;
}

INLINE void __attribute__((noreturn)) result(unsigned value)
{
	for (;;)
		write32(VMM_RESULT, value);
}

INLINE void dma(unsigned long from, unsigned long to, unsigned command)
{
	write32(EDU_FROM, from);
	write32(EDU_TO, to);
	write32(EDU_COUNT, SPAN);
	write32(EDU_COMMAND, EDU_START | command);
	while (read32(EDU_COMMAND) & EDU_START)
		;
}

void __attribute__((noreturn)) start(void)
{
	volatile unsigned char *from = (void *)FROM, *to = (void *)TO;

	/* Interrupts stay masked: WFI ends when one is pending, and the acknowledge register names it. */
	write32(GICD_CTLR, 0x12);	/* affinity routing, group 1 */
	write32(GICD_IGROUPR, ~0U);
	write32(GICD_ICFGR, ~0U);	/* edges */
	write32(GICD_ISENABLER, 1U << MSI_INTID % 32);
	WRITE_ICC(ICC_PMR_EL1, 0xff);
	WRITE_ICC(ICC_IGRPEN1_EL1, 1);

	for (unsigned i = 0; i < SPAN; i++) {
		from[i] = i * 31 + i / 251;
		to[i] = 0;
	}
	dma(FROM, EDU_BUFFER, 0);
	dma(EDU_BUFFER, TO, EDU_TO_MEMORY | EDU_RAISE);
	for (unsigned i = 0; i < SPAN; i++)
		if (to[i] != (unsigned char)(i * 31 + i / 251))
			result(RESULT_WRONG_DATA);

	while (1) {
		unsigned long id;

		asm volatile("wfi");
		id = READ_ICC(ICC_IAR1_EL1);
		if (id != MSI_INTID)
			continue;
		WRITE_ICC(ICC_EOIR1_EL1, id);
		if (!(read32(EDU_STATUS) & EDU_DONE))
			result(RESULT_NO_STATUS);
		write32(EDU_ACK, EDU_DONE);
		result(RESULT_OK);
	}
}
