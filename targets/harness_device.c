/* The harness that runs a model on a bare Arm core: start-up, one context, entry points by name.
 * Everything here begins with tinsmith_h_ so that it is told apart from the model; nothing here
 * calls a library routine, so that what the image pulls in is the model's own. */
#include <stdint.h>

#include "tinsmith_harness.h"

#define PAGE_BYTES 4096u
#define CONTEXT_ALIGN ((uint32_t)__alignof__(MODEL_CONTEXT) > 16u \
                           ? (uint32_t)__alignof__(MODEL_CONTEXT) : 16u)
#define CONTEXT_BYTES \
    (((uint32_t)sizeof(MODEL_CONTEXT) + CONTEXT_ALIGN - 1u) & ~(CONTEXT_ALIGN - 1u))
#define POOL_BYTES ((CONTEXT_BYTES + PAGE_BYTES - 1u) & ~(PAGE_BYTES - 1u))

extern uint32_t tinsmith_h_data_start[];
extern uint32_t tinsmith_h_data_end[];
extern const uint32_t tinsmith_h_data_image[];
extern uint32_t tinsmith_h_bss_start[];
extern uint32_t tinsmith_h_bss_end[];
extern uint32_t tinsmith_h_stack_top[];

void tinsmith_h_start(void);
void tinsmith_h_ready(void);
void tinsmith_h_init(void);
void tinsmith_h_reset(void);
int tinsmith_h_run(void);
void *tinsmith_h_input(int i);
const void *tinsmith_h_output(int i);
void tinsmith_trace(int step, const void *data, unsigned bytes);

/* The context ends where the pool ends, so that the first byte past it is in an unmapped page. */
uint8_t tinsmith_h_pool[POOL_BYTES] __attribute__((aligned(4096), used));
MODEL_CONTEXT *const tinsmith_h_context __attribute__((used)) =
    (MODEL_CONTEXT *)(void *)(tinsmith_h_pool + POOL_BYTES - CONTEXT_BYTES);
#ifdef MODEL_ARENAS
#define ARENA(name, bytes, where) \
    uint8_t name[bytes] __attribute__((aligned(16), used, section(where)));
MODEL_ARENAS(ARENA)
#endif
const uint32_t tinsmith_h_context_bytes __attribute__((used)) = (uint32_t)sizeof(MODEL_CONTEXT);
const uint32_t tinsmith_h_pool_bytes __attribute__((used)) = POOL_BYTES;

void tinsmith_h_init(void) {
    MODEL_INIT(tinsmith_h_context);
}

void tinsmith_h_reset(void) {
    MODEL_RESET(tinsmith_h_context);
}

int tinsmith_h_run(void) {
    return MODEL_RUN(tinsmith_h_context);
}

void *tinsmith_h_input(int i) {
    return (void *)MODEL_INPUT(tinsmith_h_context, i);
}

const void *tinsmith_h_output(int i) {
    return (const void *)MODEL_OUTPUT(tinsmith_h_context, i);
}

#ifdef TINSMITH_QEMU
void tinsmith_h_fault(void);
#else
/* The emulator stops here and reads the arguments. */
__attribute__((noinline)) void tinsmith_trace(int step, const void *data, unsigned bytes) {
    __asm__ volatile("" : : "r"(step), "r"(data), "r"(bytes) : "memory");
}

__attribute__((noinline)) void tinsmith_h_ready(void) {
    for (;;) {
        __asm__ volatile("");
    }
}
#endif

void tinsmith_h_start(void) {
#if defined(__aarch64__)
    __asm__ volatile("msr cpacr_el1, %0\n\tisb" : : "r"((uint64_t)3u << 20));
#elif defined(__ARM_FP)
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* CPACR: full access to the FPU */
    __asm__ volatile("dsb\n\tisb");
#endif
    /* volatile keeps the compiler from turning the loops into memcpy and memset */
    const volatile uint32_t *from = tinsmith_h_data_image;
    for (volatile uint32_t *to = tinsmith_h_data_start; to < tinsmith_h_data_end; to++) {
        *to = *from++;
    }
    for (volatile uint32_t *to = tinsmith_h_bss_start; to < tinsmith_h_bss_end; to++) {
        *to = 0u;
    }
    tinsmith_h_ready();
}

#if !defined(__aarch64__)
void *const tinsmith_h_vectors[16] __attribute__((used)) = {
    tinsmith_h_stack_top,
    (void *)tinsmith_h_start,
#ifdef TINSMITH_QEMU
    (void *)tinsmith_h_fault, /* NMI */
    (void *)tinsmith_h_fault, /* HardFault; other faults are not enabled and become one */
#endif
};
#endif
