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

static void put_u32(uint32_t value) {
    (void)fwrite(&value, sizeof value, 1, reply_file);
}

void tinsmith_trace(int step, const void *data, unsigned bytes) {
    put_u32(1u);
    put_u32((uint32_t)step);
    put_u32(bytes);
    (void)fwrite(data, 1, bytes, reply_file);
}

static MODEL_CONTEXT *new_context(uint8_t **slack, size_t *slack_bytes) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t align = __alignof__(MODEL_CONTEXT) > 16u ? __alignof__(MODEL_CONTEXT) : 16u;
    const size_t bytes = (sizeof(MODEL_CONTEXT) + align - 1u) & ~(align - 1u);
    const size_t room = (bytes + page - 1u) & ~(page - 1u);
    uint8_t *base = mmap(NULL, room + 2u * page, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED || mprotect(base, page, PROT_NONE) != 0 ||
        mprotect(base + page + room, page, PROT_NONE) != 0) {
        return NULL;
    }
    for (size_t i = 0; i < room; i++) {
        base[page + i] = CANARY;
    }
    *slack = base + page;
    *slack_bytes = room - bytes;
    return (MODEL_CONTEXT *)(void *)(base + page + room - bytes);
}

int tinsmith_h_serve(int request_fd, int reply_fd) {
    static const uint32_t input_bytes[] = MODEL_INPUT_BYTES;
    static const uint32_t output_bytes[] = MODEL_OUTPUT_BYTES;
    uint8_t *slack = NULL;
    size_t slack_bytes = 0;
    FILE *request_file = fdopen(request_fd, "rb");
    reply_file = fdopen(reply_fd, "wb");
    MODEL_CONTEXT *context = new_context(&slack, &slack_bytes);
    if (request_file == NULL || reply_file == NULL || context == NULL) {
        return 2;
    }
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
        for (size_t i = 0; i < slack_bytes; i++) {
            if (slack[i] != CANARY) {
                put_u32(3u);
                put_u32((uint32_t)(slack_bytes - i));
                (void)fflush(reply_file);
                return 4;
            }
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
