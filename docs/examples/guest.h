/* SPDX-License-Identifier: MIT */
/* The machine that vmm.c makes and payload.c runs on. */

#define RAM_SIZE	0x10000000UL	/* 256 MiB from address 0: all that edu's 28 address bits reach */
#define MIDDLE		0x08000000UL	/* 128 MiB, where hosts have the default window */
#define STACK		0x00100000UL
#define GICD_BASE	0x20000000UL
#define GICR_BASE	0x20100000UL
#define EDU_BASE	0x30000000UL
#define EDU_SIZE	0x00100000UL
#define VMM_RESULT	0x40000000UL	/* a write there ends the guest */

#define MSI_INTID	32		/* the first of the GIC's shared interrupts, which the MSI becomes */

#define RESULT_OK		1
#define RESULT_WRONG_DATA	2
#define RESULT_NO_STATUS	3
