/*
 * The part of criterion's interface that our tests use, on nothing but fork(), for builds under sanitizers: criterion
 * maps memory where the thread sanitizer does not allow any, and does not look at how a process ends that has passed
 * its test, which is when leaks are reported.
 *
 * Each test runs in a process of its own, one after the other.
 */
#ifndef PLAIN_CRITERION_H
#define PLAIN_CRITERION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* The members are those that criterion's have in common with ours. */
struct plain_options {
    void (*init)(void);
    void (*fini)(void);
    double timeout; /* seconds; 0: the suite's, or none */
    int signal;     /* that the test must end by; 0: none */
    int exit_code;  /* that it must end with */
    bool disabled;
};

struct plain_test {
    const char *suite;
    const char *name;
    void (*run)(void);
    struct plain_options options;
    const struct plain_options *suite_options; /* NULL if there are none */
    struct plain_test *next;
};

/* Called before main(), in the order of the file. */
void plain_add(struct plain_test *test);

/* Reports a failure unless `is_true`; `is_fatal` then ends the test. */
void plain_check(bool is_true, bool is_fatal, const char *file, int line, const char *claim, const char *format, ...)
    __attribute__((format(printf, 6, 7)));

/* Ends the test: it passes. */
#define cr_skip_test(...) exit(EXIT_SUCCESS)

#define TestSuite(suite, ...) struct plain_options plain_suite_##suite = {__VA_ARGS__}

#define Test(suite_name, test_name, ...)                                                                               \
    extern struct plain_options plain_suite_##suite_name __attribute__((weak));                                        \
    static void suite_name##_##test_name##_run(void);                                                                  \
    __attribute__((constructor)) static void suite_name##_##test_name##_add(void)                                      \
    {                                                                                                                  \
        static struct plain_test test = {                                                                              \
            .suite = #suite_name,                                                                                      \
            .name = #test_name,                                                                                        \
            .run = suite_name##_##test_name##_run,                                                                     \
            .options = {__VA_ARGS__},                                                                                  \
        };                                                                                                             \
        test.suite_options = &plain_suite_##suite_name;                                                                \
        plain_add(&test);                                                                                              \
    }                                                                                                                  \
    static void suite_name##_##test_name##_run(void)

#define cr_assert(claim, ...) plain_check((claim), true, __FILE__, __LINE__, #claim, " " __VA_ARGS__)
#define cr_expect(claim, ...) plain_check((claim), false, __FILE__, __LINE__, #claim, " " __VA_ARGS__)

#define cr_assert_fail(...) plain_check(false, true, __FILE__, __LINE__, "fails", " " __VA_ARGS__)
#define cr_expect_fail(...) plain_check(false, false, __FILE__, __LINE__, "fails", " " __VA_ARGS__)

#define cr_assert_not(claim, ...)         cr_assert(!(claim), ##__VA_ARGS__)
#define cr_assert_eq(one, other, ...)     cr_assert((one) == (other), ##__VA_ARGS__)
#define cr_assert_neq(one, other, ...)    cr_assert((one) != (other), ##__VA_ARGS__)
#define cr_assert_lt(one, other, ...)     cr_assert((one) < (other), ##__VA_ARGS__)
#define cr_assert_leq(one, other, ...)    cr_assert((one) <= (other), ##__VA_ARGS__)
#define cr_assert_gt(one, other, ...)     cr_assert((one) > (other), ##__VA_ARGS__)
#define cr_assert_geq(one, other, ...)    cr_assert((one) >= (other), ##__VA_ARGS__)
#define cr_assert_null(pointer, ...)      cr_assert((pointer) == NULL, ##__VA_ARGS__)
#define cr_assert_not_null(pointer, ...)  cr_assert((pointer) != NULL, ##__VA_ARGS__)
#define cr_assert_str_eq(one, other, ...) cr_assert(strcmp((one), (other)) == 0, ##__VA_ARGS__)

#define cr_assert_arr_eq(one, other, size, ...) cr_assert(memcmp((one), (other), (size)) == 0, ##__VA_ARGS__)
#define cr_expect_arr_eq(one, other, size, ...) cr_expect(memcmp((one), (other), (size)) == 0, ##__VA_ARGS__)

#define cr_expect_not(claim, ...)         cr_expect(!(claim), ##__VA_ARGS__)
#define cr_expect_eq(one, other, ...)     cr_expect((one) == (other), ##__VA_ARGS__)
#define cr_expect_neq(one, other, ...)    cr_expect((one) != (other), ##__VA_ARGS__)
#define cr_expect_lt(one, other, ...)     cr_expect((one) < (other), ##__VA_ARGS__)
#define cr_expect_leq(one, other, ...)    cr_expect((one) <= (other), ##__VA_ARGS__)
#define cr_expect_gt(one, other, ...)     cr_expect((one) > (other), ##__VA_ARGS__)
#define cr_expect_geq(one, other, ...)    cr_expect((one) >= (other), ##__VA_ARGS__)
#define cr_expect_null(pointer, ...)      cr_expect((pointer) == NULL, ##__VA_ARGS__)
#define cr_expect_not_null(pointer, ...)  cr_expect((pointer) != NULL, ##__VA_ARGS__)
#define cr_expect_str_eq(one, other, ...) cr_expect(strcmp((one), (other)) == 0, ##__VA_ARGS__)

#endif
