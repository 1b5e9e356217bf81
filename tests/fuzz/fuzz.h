/*
 * What the fuzz targets share. Each target is one file with one function that takes bytes, does something with them,
 * and stops the program if a promise is broken. With libFuzzer the bytes are found by coverage (tests/fuzz/run); with
 * plain.c they are the corpus and random changes to it.
 */
#ifndef FUZZ_FUZZ_H
#define FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The name is libFuzzer's. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* Stops the program unless `claim` is true, also in builds without assertions. */
#define must(claim, ...)                                                                                               \
    do {                                                                                                               \
        if (!(claim)) {                                                                                                \
            fprintf(stderr, "%s:%d: is false: %s: ", __FILE__, __LINE__, #claim);                                      \
            fprintf(stderr, " " __VA_ARGS__);                                                                          \
            fputc('\n', stderr);                                                                                       \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* The bytes that are not taken yet. */
struct input {
    const uint8_t *data;
    size_t len;
};

/* 0 once there are none. */
static inline uint8_t input_byte(struct input *input)
{
    if (input->len == 0)
        return 0;
    input->len--;
    return *input->data++;
}

static inline uint32_t input_number(struct input *input)
{
    uint32_t low = input_byte(input);

    return low | (uint32_t)input_byte(input) << 8;
}

/* Copies the next line, without its end and cut to `size` - 1 bytes. Returns false if there is none. */
static inline bool input_line(struct input *input, char *line, size_t size)
{
    size_t len = 0;

    if (input->len == 0)
        return false;
    while (input->len > 0) {
        uint8_t byte = input_byte(input);

        if (byte == '\n')
            break;
        if (len + 1 < size)
            line[len++] = (char)byte;
    }
    line[len] = '\0';
    return true;
}

/* True for a reason as people should see it: something, on one line. */
static inline bool is_one_line(const char *text)
{
    if (*text == '\0')
        return false;
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return false;
    return true;
}

#endif
