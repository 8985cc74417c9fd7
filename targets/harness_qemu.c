/* What the harness needs under QEMU: samples come from QEMU's standard input, results go to its
 * standard output, by semihosting. The protocol is that of harness_host.c, with one reply more:
 *          or             u32 4, u32 status, u32 pc, u32 address      the processor faulted */
#include <stdint.h>

#include "tinsmith_harness.h"

#define CANARY 0xA5u

/* Arm semihosting, version 2 */
#define SYS_OPEN 0x01u
#define SYS_WRITE 0x05u
#define SYS_READ 0x06u
#define SYS_EXIT_EXTENDED 0x20u
#define MODE_READ 1u
#define MODE_WRITE 5u
#define APPLICATION_EXIT 0x20026u

/* The System Control Space (ARM DDI 0403, B3.2) */
#define CFSR (*(volatile uint32_t *)0xE000ED28u)
#define MMFAR (*(volatile uint32_t *)0xE000ED34u)
#define BFAR (*(volatile uint32_t *)0xE000ED38u)
#define MMFAR_VALID 0x80u

extern uint8_t tinsmith_h_pool[];
extern MODEL_CONTEXT *const tinsmith_h_context;

void tinsmith_h_init(void);
void tinsmith_h_ready(void);
void tinsmith_h_fault(void);
void tinsmith_h_fault_report(const uint32_t *frame);
void tinsmith_trace(int step, const void *data, unsigned bytes);

static const char tinsmith_h_requests_name[] = "/dev/stdin";
static const char tinsmith_h_replies_name[] = "/dev/stdout";
static const uint32_t tinsmith_h_input_bytes[] = MODEL_INPUT_BYTES;
static const uint32_t tinsmith_h_output_bytes[] = MODEL_OUTPUT_BYTES;
static uint32_t tinsmith_h_requests;
static uint32_t tinsmith_h_replies;

static __attribute__((noinline)) uint32_t tinsmith_h_semihost(
    uint32_t operation, uint32_t first, uint32_t second, uint32_t third)
{
    const volatile uint32_t arguments[3] = {first, second, third};
    register uint32_t r0 __asm__("r0") = operation;
    register const volatile uint32_t *r1 __asm__("r1") = arguments;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static __attribute__((noreturn)) void tinsmith_h_exit(uint32_t code)
{
    for (;;) {
        (void)tinsmith_h_semihost(SYS_EXIT_EXTENDED, APPLICATION_EXIT, code, 0u);
    }
}

static uint32_t tinsmith_h_open(const char *name, uint32_t bytes, uint32_t mode)
{
    return tinsmith_h_semihost(SYS_OPEN, (uint32_t)(uintptr_t)name, mode, bytes - 1u);
}

/* Whether all of them came; a pipe gives what is there. */
static int tinsmith_h_read(void *to, uint32_t bytes)
{
    uint8_t *place = to;
    while (bytes != 0u) {
        const uint32_t left =
            tinsmith_h_semihost(SYS_READ, tinsmith_h_requests, (uint32_t)(uintptr_t)place, bytes);
        if (left >= bytes) {
            return 0;
        }
        place += bytes - left;
        bytes = left;
    }
    return 1;
}

static void tinsmith_h_write(const void *from, uint32_t bytes)
{
    const uint8_t *place = from;
    while (bytes != 0u) {
        const uint32_t left =
            tinsmith_h_semihost(SYS_WRITE, tinsmith_h_replies, (uint32_t)(uintptr_t)place, bytes);
        if (left >= bytes) {
            tinsmith_h_exit(5u);
        }
        place += bytes - left;
        bytes = left;
    }
}

static void tinsmith_h_write_word(uint32_t word)
{
    tinsmith_h_write(&word, 4u);
}

void tinsmith_trace(int step, const void *data, unsigned bytes)
{
    tinsmith_h_write_word(1u);
    tinsmith_h_write_word((uint32_t)step);
    tinsmith_h_write_word(bytes);
    tinsmith_h_write(data, bytes);
}

/* Runs one sample: 0, or why it is over. */
static uint32_t tinsmith_h_serve(volatile const uint8_t *slack)
{
    uint32_t flags;
    if (!tinsmith_h_read(&flags, 4u)) {
        tinsmith_h_exit(0u);
    }
    if ((flags & 1u) != 0u) {
        MODEL_RESET(tinsmith_h_context);
    }
    for (int i = 0; i < MODEL_INPUTS; i++) {
        if (!tinsmith_h_read((void *)MODEL_INPUT(tinsmith_h_context, i), tinsmith_h_input_bytes[i])) {
            return 3u;
        }
    }
    const int32_t status = MODEL_RUN(tinsmith_h_context);
    for (; slack < (uint8_t *)tinsmith_h_context; slack++) {
        if (*slack != CANARY) {
            tinsmith_h_write_word(3u);
            tinsmith_h_write_word((uint32_t)((uint8_t *)tinsmith_h_context - slack));
            return 4u;
        }
    }
    tinsmith_h_write_word(2u);
    tinsmith_h_write_word((uint32_t)status);
    for (int i = 0; i < MODEL_OUTPUTS; i++) {
        tinsmith_h_write((const void *)MODEL_OUTPUT(tinsmith_h_context, i), tinsmith_h_output_bytes[i]);
    }
    return 0u;
}

void tinsmith_h_ready(void)
{
    for (volatile uint8_t *slack = tinsmith_h_pool; slack < (uint8_t *)tinsmith_h_context; slack++) {
        *slack = CANARY;
    }
    tinsmith_h_requests =
        tinsmith_h_open(tinsmith_h_requests_name, sizeof tinsmith_h_requests_name, MODE_READ);
    tinsmith_h_replies =
        tinsmith_h_open(tinsmith_h_replies_name, sizeof tinsmith_h_replies_name, MODE_WRITE);
    tinsmith_h_init();
    uint32_t over = 0u;
    while (over == 0u) {
        over = tinsmith_h_serve(tinsmith_h_pool);
    }
    tinsmith_h_exit(over);
}

/* Faults come here. frame: r0-r3, r12, lr, pc, xpsr, as the processor pushed them. */
__attribute__((naked)) void tinsmith_h_fault(void)
{
    __asm__ volatile("mov r0, sp\n\tb tinsmith_h_fault_report");
}

__attribute__((used)) void tinsmith_h_fault_report(const uint32_t *frame)
{
    const uint32_t status = CFSR;
    tinsmith_h_write_word(4u);
    tinsmith_h_write_word(status);
    tinsmith_h_write_word(frame[6]);
    tinsmith_h_write_word((status & MMFAR_VALID) != 0u ? MMFAR : BFAR);
    tinsmith_h_exit(6u);
}
