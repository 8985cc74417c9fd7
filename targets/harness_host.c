/* The harness that runs a model on this computer: reads samples, writes results, over two file
 * descriptors. The context lies between pages that must not be touched.
 *
 * request: u32 flags (1: reset first), then every input.
 * reply:   any number of  u32 1, i32 step, u32 bytes, data    what the model traced
 *          then           u32 2, i32 status, every output     the run is over
 *          or             u32 3, u32 offset                   a byte before the context changed
 * All in this computer's byte order. */
#define _DEFAULT_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tinsmith_harness.h"

#define CANARY 0xA5u

int tinsmith_h_serve(int request_fd, int reply_fd);
void tinsmith_trace(int step, const void *data, unsigned bytes);

static FILE *reply_file;

/* The context and the arenas that the model is given. */
#define MEMORIES 9u
static struct {
    const uint8_t *slack;
    size_t slack_bytes;
} memory[MEMORIES];
static size_t memories;

#ifdef MODEL_ARENAS
#define ARENA(name, bytes, where) static void *name;
MODEL_ARENAS(ARENA)
#undef ARENA
#endif

static void put_u32(uint32_t value) {
    (void)fwrite(&value, sizeof value, 1, reply_file);
}

void tinsmith_trace(int step, const void *data, unsigned bytes) {
    put_u32(1u);
    put_u32((uint32_t)step);
    put_u32(bytes);
    (void)fwrite(data, 1, bytes, reply_file);
}

/* Memory that ends at a page which must not be touched; what lies before it is slack. */
static void *new_memory(size_t size, size_t align) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t bytes = (size + align - 1u) & ~(align - 1u);
    const size_t room = (bytes + page - 1u) & ~(page - 1u);
    uint8_t *base = mmap(NULL, room + 2u * page, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED || memories == MEMORIES || mprotect(base, page, PROT_NONE) != 0 ||
        mprotect(base + page + room, page, PROT_NONE) != 0) {
        return NULL;
    }
    for (size_t i = 0; i < room; i++) {
        base[page + i] = CANARY;
    }
    memory[memories].slack = base + page;
    memory[memories].slack_bytes = room - bytes;
    memories++;
    return base + page + room - bytes;
}

/* How far before the context or an arena a byte changed; 0 where none did. */
static size_t overwritten(void) {
    for (size_t m = 0; m < memories; m++) {
        for (size_t i = 0; i < memory[m].slack_bytes; i++) {
            if (memory[m].slack[i] != CANARY) {
                return memory[m].slack_bytes - i;
            }
        }
    }
    return 0;
}

int tinsmith_h_serve(int request_fd, int reply_fd) {
    static const uint32_t input_bytes[] = MODEL_INPUT_BYTES;
    static const uint32_t output_bytes[] = MODEL_OUTPUT_BYTES;
    FILE *request_file = fdopen(request_fd, "rb");
    reply_file = fdopen(reply_fd, "wb");
    MODEL_CONTEXT *context = new_memory(
        sizeof(MODEL_CONTEXT), __alignof__(MODEL_CONTEXT) > 16u ? __alignof__(MODEL_CONTEXT) : 16u);
    if (request_file == NULL || reply_file == NULL || context == NULL) {
        return 2;
    }
#ifdef MODEL_ARENAS
#define ARENA(name, bytes, where)   \
    name = new_memory(bytes, 16u); \
    if (name == NULL) {            \
        return 2;                  \
    }
    MODEL_ARENAS(ARENA)
#endif
    MODEL_INIT(context);
    uint32_t flags;
    while (fread(&flags, sizeof flags, 1, request_file) == 1) {
        if ((flags & 1u) != 0u) {
            MODEL_RESET(context);
        }
        for (int i = 0; i < MODEL_INPUTS; i++) {
            if (fread((void *)MODEL_INPUT(context, i), 1, input_bytes[i], request_file) !=
                input_bytes[i]) {
                return 3;
            }
        }
        const int32_t status = MODEL_RUN(context);
        const size_t before = overwritten();
        if (before != 0u) {
            put_u32(3u);
            put_u32((uint32_t)before);
            (void)fflush(reply_file);
            return 4;
        }
        put_u32(2u);
        put_u32((uint32_t)status);
        for (int i = 0; i < MODEL_OUTPUTS; i++) {
            (void)fwrite((const void *)MODEL_OUTPUT(context, i), 1, output_bytes[i], reply_file);
        }
        if (fflush(reply_file) != 0) {
            return 5;
        }
    }
    return 0;
}

#ifdef TINSMITH_PROGRAM
int main(void) {
    return tinsmith_h_serve(0, 1);
}
#endif
