/* Hooks that unicorn calls while it emulates; in C they run at ten times the speed of Python's. */
#include <stdint.h>

typedef struct {
    uint64_t base;     /* address of the first byte that is counted */
    uint64_t bytes;    /* how many bytes are */
    uint64_t *entries; /* per halfword from base: how often a block there was entered */
    uint64_t *taken;   /* how often it was left for another than the next in memory */
    uint32_t *sizes;   /* bytes of the block there */
    uint64_t last;     /* address of the block before */
    uint64_t last_size;
} tinsmith_histogram;

/* A block hook: counts how often each translated block is entered, and left by a branch. */
void tinsmith_on_block(void *uc, uint64_t address, uint32_t size, void *user) {
    (void)uc;
    tinsmith_histogram *histogram = user;
    const uint64_t last = histogram->last - histogram->base;
    if (last < histogram->bytes && histogram->last + histogram->last_size != address) {
        histogram->taken[last >> 1]++;
    }
    const uint64_t offset = address - histogram->base;
    if (offset < histogram->bytes) {
        histogram->entries[offset >> 1]++;
        histogram->sizes[offset >> 1] = size;
    }
    histogram->last = address;
    histogram->last_size = size;
}

typedef struct {
    uint64_t room;   /* how many instructions `found` has room for */
    uint64_t *found; /* per instruction, in threes: its address, that of the access, bytes */
    int (*reg_read)(void *uc, int reg, void *value);
    int (*reg_write)(void *uc, int reg, const void *value);
    int pc;   /* unicorn's number of the program counter */
    int xpsr; /* of the status register; 0 for a core without IT blocks */
} tinsmith_unaligned;

#define XPSR_IT 0x0600FC00u

/* A memory hook: notes each instruction that accesses what is not aligned to its size, or not to
 * a word where it is larger than one; the first such access of each. */
void tinsmith_on_access(void *uc, int type, uint64_t address, int size, int64_t value,
                        void *user) {
    (void)type;
    (void)value;
    tinsmith_unaligned *unaligned = user;
    if (unaligned->xpsr != 0) {
        /* To call this hook within an IT block, unicorn restores the state of that block, and
         * leaves it behind: the code after the block would run under its conditions. */
        uint64_t status = 0;
        (void)unaligned->reg_read(uc, unaligned->xpsr, &status);
        if ((status & XPSR_IT) != 0u) {
            status &= ~(uint64_t)XPSR_IT;
            (void)unaligned->reg_write(uc, unaligned->xpsr, &status);
        }
    }
    const uint64_t mask = size >= 4 ? 3u : (uint64_t)size - 1u;
    if ((address & mask) == 0u) {
        return;
    }
    uint64_t pc = 0;
    (void)unaligned->reg_read(uc, unaligned->pc, &pc);
    for (uint64_t i = 0; i < unaligned->room; i++) {
        uint64_t *entry = unaligned->found + 3u * i;
        if (entry[0] == pc) {
            return;
        }
        if (entry[0] == 0u) {
            entry[0] = pc;
            entry[1] = address;
            entry[2] = (uint64_t)size;
            return;
        }
    }
}
