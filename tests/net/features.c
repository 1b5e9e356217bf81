/* The same stories go the same way with each kernel feature switched off, and with every setting at its ends. */
#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/support/net_end.h"
#include "tests/support/net_stories.h"

#define MICROSECOND UINT64_C(1000)
#define MILLISECOND (1000 * MICROSECOND)
#define SECOND      (1000 * MILLISECOND)
#define DAY         (24 * 60 * 60 * SECOND)

enum {
    KIB = 1024,
    MIB = 1024 * 1024,
    FEATURES_MAX = 32,
    CROWD = 20,
};

TestSuite(features, .timeout = 100);

/* Echo, bulk and every way to end, on both kinds of socket. */
static void tell_all(const struct sluice_engine_options *options)
{
    story_echo(options, PEER_TCP4, 5, 5);
    story_echo(options, PEER_TCP4, 300 * KIB, 1000);
    story_echo(options, PEER_UNIX, MIB + 7, 100 * KIB);
    story_echo_plain(options, PEER_TCP4, 2 * MIB);
    story_views(options, PEER_TCP4, 2 * MIB, 16 * KIB);
    story_views(options, PEER_UNIX, MIB, 100 * KIB);
    story_half_close(options, PEER_TCP4, MIB);
    story_half_close(options, PEER_UNIX, MIB);
    story_linger(options, PEER_TCP4);
    story_abort(options, PEER_TCP4);
    story_abort(options, PEER_UNIX);
    story_reset(options);
    story_crowd(options, CROWD, 20 * KIB);
}

static struct sluice_engine_info info_of(const struct sluice_engine_options *options)
{
    struct sluice_engine_info info;
    struct net net;

    net_open(&net, options);
    sluice_engine_info(net.engine, &info);
    net_close(&net);
    return info;
}

/* -- Features ------------------------------------------------------------------------------------------------ */

static uint32_t all_features(void)
{
    uint32_t all = 0;

    for (uint32_t bit = 0; bit < FEATURES_MAX; bit++)
        if (sluice_feature_name(UINT32_C(1) << bit))
            all |= UINT32_C(1) << bit;
    return all;
}

/* By its name, as people switch it off. */
static struct sluice_engine_options options_without(const char *names)
{
    struct sluice_engine_options options = net_options();
    char why[SLUICE_REASON_MAX];

    setenv("SLUICE_DISABLE", names, 1);
    cr_assert_eq(sluice_engine_options_from_env(&options, why, sizeof why), 0, "%s", why);
    unsetenv("SLUICE_DISABLE");
    return options;
}

static void tell_without(enum sluice_feature feature)
{
    struct sluice_engine_options options = options_without(sluice_feature_name(feature));
    struct sluice_engine_info info = info_of(&options);

    cr_assert_eq(options.disable, feature);
    cr_assert_eq(info.features & feature, 0, "%s is in use", sluice_feature_name(feature));
    /* Without that the rest would not tell the features apart. */
    cr_assert_eq(info.kernel_features & ~info.features & ~(feature | SLUICE_FEATURE_DEFER_TASKRUN), 0);
    options.zero_copy_minimum = 256;
    tell_all(&options);
}

Test(features, stories_are_the_same_without_defer_taskrun)
{
    tell_without(SLUICE_FEATURE_DEFER_TASKRUN);
}

Test(features, stories_are_the_same_without_single_issuer)
{
    tell_without(SLUICE_FEATURE_SINGLE_ISSUER);
}

Test(features, stories_are_the_same_without_registered_ring)
{
    tell_without(SLUICE_FEATURE_REGISTERED_RING);
}

Test(features, stories_are_the_same_without_multishot_accept)
{
    tell_without(SLUICE_FEATURE_MULTISHOT_ACCEPT);
}

Test(features, stories_are_the_same_without_multishot_receive)
{
    tell_without(SLUICE_FEATURE_MULTISHOT_RECEIVE);
}

Test(features, stories_are_the_same_without_zero_copy)
{
    tell_without(SLUICE_FEATURE_ZERO_COPY);
}

Test(features, stories_are_the_same_without_inline_send)
{
    tell_without(SLUICE_FEATURE_INLINE_SEND);
}

Test(features, stories_are_the_same_without_no_iowait)
{
    tell_without(SLUICE_FEATURE_NO_IOWAIT);
}

Test(features, stories_are_the_same_without_quiet_send)
{
    tell_without(SLUICE_FEATURE_QUIET_SEND);
}

Test(features, stories_are_the_same_without_receive_bundle)
{
    tell_without(SLUICE_FEATURE_RECEIVE_BUNDLE);
}

/* The list above is all there are. */
Test(features, have_a_story_each)
{
    cr_assert_eq(all_features(), 1023);
}

static void write_names(uint32_t features, char *names, size_t size)
{
    names[0] = '\0';
    for (uint32_t bit = 0; bit < FEATURES_MAX; bit++)
        if (features & UINT32_C(1) << bit)
            snprintf(names + strlen(names), size - strlen(names), "%s%s", names[0] ? "," : "",
                     sluice_feature_name(UINT32_C(1) << bit));
}

Test(features, stories_are_the_same_without_any)
{
    struct sluice_engine_options options;
    char names[256];

    write_names(all_features(), names, sizeof names);
    options = options_without(names);
    cr_assert_eq(info_of(&options).features, 0);
    options.zero_copy_minimum = 256;
    tell_all(&options);
}

/* -- Receives ------------------------------------------------------------------------------------------------ */

/* The peer has finished before we look for the first time: what waits for us is bytes and the end behind them. */
static void hear_the_end(const struct sluice_engine_options *options, enum peer_family family, uint64_t bytes)
{
    char address[SLUICE_ADDRESS_MAX];
    struct server server;
    struct net net;
    int peer;

    peer_make_address(family, address);
    net_open(&net, options);
    server_open_at(&server, &net, address, NULL, &end_polite);
    peer = peer_connect(server.address);
    cr_assert_eq(peer_send(peer, 0, 0, bytes), bytes);
    peer_finish(peer);
    net_until(&net, server.ends && server.ends->ends);
    cr_assert_eq(server.ends->received, bytes);
    net_until(&net, server.ends->closes);
    cr_assert_eq(server.ends->why.error, 0);
    close(peer);
    server_close(&server);
    net_close(&net);
    peer_remove_folders();
}

Test(features, the_end_that_comes_with_the_last_bytes_is_heard)
{
    struct sluice_engine_options options = net_options();

    for (enum peer_family family = PEER_TCP4; family < PEER_FAMILIES; family++) {
        options.disable = 0;
        hear_the_end(&options, family, 1);
        hear_the_end(&options, family, 40 * KIB);
        options.disable = SLUICE_FEATURE_MULTISHOT_RECEIVE;
        hear_the_end(&options, family, 1);
        options.disable = SLUICE_FEATURE_MULTISHOT_ACCEPT | SLUICE_FEATURE_DEFER_TASKRUN;
        hear_the_end(&options, family, 1);
    }
}

/* -- Ways to submit and wait --------------------------------------------------------------------------------- */

Test(features, stories_are_the_same_with_a_kernel_thread)
{
    struct sluice_engine_options options = net_options();

    options.sqpoll = 1;
    tell_all(&options);
    options.sqpoll_cpu = 1;
    options.busy_poll_ns = 50 * MICROSECOND;
    story_echo(&options, PEER_TCP4, 300 * KIB, 1000);
    options.disable = SLUICE_FEATURE_SINGLE_ISSUER | SLUICE_FEATURE_INLINE_SEND;
    story_echo(&options, PEER_TCP4, 300 * KIB, 1000);
}

/* Where the kernel's thread of our ring may run, as a mask; 0 if there is none. */
static cpu_set_t cpus_of_the_kernels_thread(void)
{
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *entry;
    cpu_set_t cpus;

    CPU_ZERO(&cpus);
    while ((entry = readdir(tasks))) {
        char path[64];
        char name[32] = "";
        FILE *file;

        snprintf(path, sizeof path, "/proc/self/task/%.16s/comm", entry->d_name);
        file = fopen(path, "re");
        if (file && fgets(name, sizeof name, file) && strncmp(name, "iou-sqp", 7) == 0)
            sched_getaffinity(atoi(entry->d_name), sizeof cpus, &cpus);
        if (file)
            fclose(file);
    }
    closedir(tasks);
    return cpus;
}

Test(features, a_kernel_thread_is_not_bound_to_the_cpu_of_ours)
{
    struct sluice_engine_options options = net_options();
    struct sluice_engine *engine;
    cpu_set_t before;
    cpu_set_t cpus;

    cr_assert_eq(sched_getaffinity(0, sizeof before, &before), 0);
    if (!CPU_ISSET(0, &before) || CPU_COUNT(&before) < 2)
        cr_skip_test("there is one CPU only");
    options.sqpoll = 1;
    options.thread_cpu = 1;
    cr_assert_eq(sluice_engine_create(&options, &engine), 0);
    cpus = cpus_of_the_kernels_thread();
    cr_assert(CPU_EQUAL(&cpus, &before));
    sluice_engine_destroy(engine);
    sched_setaffinity(0, sizeof before, &before);
}

Test(features, stories_are_the_same_with_busy_polling)
{
    struct sluice_engine_options options = net_options();

    options.busy_poll_ns = 50 * MICROSECOND;
    options.napi_ns = 50 * MICROSECOND;
    tell_all(&options);
    options.busy_poll_ns = MICROSECOND;
    options.napi_ns = MICROSECOND;
    story_echo(&options, PEER_TCP4, 300 * KIB, 1000);
    options.napi_ns = SECOND;
    story_echo(&options, PEER_TCP4, 300 * KIB, 1000);
}

/* -- Sizes --------------------------------------------------------------------------------------------------- */

Test(features, stories_are_the_same_with_the_smallest_rings)
{
    struct sluice_engine_options options = net_options();
    struct sluice_engine_info info;

    options.ring_entries = 8;
    options.completion_entries = 8;
    info = info_of(&options);
    cr_assert_eq(info.ring_entries, 8);
    cr_assert_eq(info.completion_entries, 8);
    tell_all(&options);
    options.completion_entries = 16;
    cr_assert_eq(info_of(&options).completion_entries, 16);
    tell_all(&options);
}

/* The completions of so many do not fit: the kernel keeps the rest, and says so. */
Test(features, completions_that_do_not_fit_are_not_lost)
{
    struct sluice_engine_options options = net_options();
    struct sluice_stats stats;
    struct server server;
    struct net net;
    int peers[200];

    options.ring_entries = 8;
    options.completion_entries = 8;
    net_open(&net, &options);
    server_open(&server, &net, PEER_UNIX, &end_echo);
    for (int i = 0; i < 200; i++)
        peers[i] = peer_connect(server.address);
    net_until(&net, server.accepted == 200);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 200; i++)
            cr_assert_eq(peer_send(peers[i], 0, (uint64_t)round, 1), 1);
        for (int i = 0; i < 200; i++) {
            struct peer_received answer = {0};

            net_until(&net, (answer = peer_receive_now(peers[i], 0, (uint64_t)round, 1)).error == 0);
            cr_assert_eq(answer.bytes, 1);
            cr_assert(answer.is_intact);
        }
    }
    stats = net_stats(&net);
    cr_assert_gt(stats.overflows, 0);
    for (int i = 0; i < 200; i++)
        close(peers[i]);
    server_close(&server);
    net_close(&net);
    peer_remove_folders();
}

Test(features, stories_are_the_same_with_the_largest_rings)
{
    struct sluice_engine_options options = net_options();

    options.ring_entries = 32768;
    options.completion_entries = 65536;
    tell_all(&options);
}

Test(features, stories_are_the_same_with_the_fewest_and_smallest_receive_buffers)
{
    struct sluice_engine_options options = net_options();

    options.receive_buffer_count = 8;
    options.receive_buffer_size = 256;
    tell_all(&options);
}

Test(features, stories_are_the_same_with_few_large_receive_buffers)
{
    struct sluice_engine_options options = net_options();

    options.receive_buffer_count = 8;
    options.receive_buffer_size = MIB;
    tell_all(&options);
}

Test(features, stories_are_the_same_with_the_most_receive_buffers)
{
    struct sluice_engine_options options = net_options();

    options.receive_buffer_count = 32768;
    options.receive_buffer_size = 256;
    tell_all(&options);
}

/* Of a size that is no round number. */
Test(features, stories_are_the_same_with_odd_receive_buffers)
{
    struct sluice_engine_options options = net_options();

    options.receive_buffer_size = 1237;
    tell_all(&options);
}

/* Whether there are any or not. */
Test(features, stories_are_the_same_with_huge_pages)
{
    struct sluice_engine_options options = net_options();

    options.huge_pages = 1;
    tell_all(&options);
    options.receive_buffer_count = 512;
    tell_all(&options);
}

/* -- Zero-copy ----------------------------------------------------------------------------------------------- */

Test(features, stories_are_the_same_with_zero_copy_of_everything)
{
    struct sluice_engine_options options = net_options();

    options.zero_copy_minimum = 256;
    if (!(info_of(&options).features & SLUICE_FEATURE_ZERO_COPY))
        cr_skip_test("this kernel has no zero-copy");
    tell_all(&options);
    options.zero_copy_minimum = UINT64_C(1024) << 30;
    story_views(&options, PEER_TCP4, 2 * MIB, 16 * KIB);
}

static struct sluice_buffer shared;
static uint8_t shared_data[64 * KIB];

static void never_release(struct sluice_buffer *buffer)
{
    (void)buffer;
    abort();
}

/* Whether the setting has an effect, at its edge. */
Test(features, zero_copy_begins_at_its_minimum)
{
    struct sluice_engine_options options = net_options();
    struct sluice_view view = {.data = shared_data, .len = 4 * KIB - 1, .buffer = &shared};
    struct meeting meeting;

    options.zero_copy_minimum = 4 * KIB;
    if (!(info_of(&options).features & SLUICE_FEATURE_ZERO_COPY))
        cr_skip_test("this kernel has no zero-copy");
    sluice_buffer_init(&shared, never_release);
    meeting_start(&meeting, &options, PEER_TCP4, 0, &end_silent);
    meeting.end->accepted = 3 * view.len + 1;
    cr_assert_eq(sluice_stream_send_view(meeting.end->stream, &view), SLUICE_ROOM);
    net_until(&meeting.net, net_stats(&meeting.net).bytes_sent == view.len && shared.references == 1);
    cr_assert_eq(net_stats(&meeting.net).zero_copy_sends, 0);
    view.len++;
    cr_assert_eq(sluice_stream_send_view(meeting.end->stream, &view), SLUICE_ROOM);
    net_until(&meeting.net, net_stats(&meeting.net).bytes_sent == 2 * view.len - 1 && shared.references == 1);
    cr_assert_eq(net_stats(&meeting.net).zero_copy_sends, 1);
    close(meeting.peer);
    end_abort(meeting.end, 0);
    meeting_stop(&meeting);
}

/* -- Limits and times ---------------------------------------------------------------------------------------- */

Test(features, stories_are_the_same_with_the_lowest_marks)
{
    struct sluice_engine_options options = net_options();

    options.send_low_mark = 1;
    options.send_high_mark = 2;
    story_echo(&options, PEER_TCP4, 20 * KIB, 7);
    story_echo(&options, PEER_UNIX, 300 * KIB, 1000);
    story_half_close(&options, PEER_TCP4, MIB);
    story_views(&options, PEER_TCP4, MIB, 16 * KIB);
    story_crowd(&options, CROWD, 20 * KIB);
    /* With a low mark of nothing, which is what a quarter of it comes to. */
    options.send_low_mark = 0;
    options.send_high_mark = 1;
    story_echo(&options, PEER_TCP4, 20 * KIB, 7);
    story_views(&options, PEER_UNIX, MIB, 16 * KIB);
}

Test(features, stories_are_the_same_with_the_highest_limits)
{
    struct sluice_engine_options options = net_options();
    const uint64_t most = UINT64_C(1024) << 30;

    options.send_low_mark = most - 1;
    options.send_high_mark = most;
    options.send_limit = most;
    options.receive_limit = most;
    options.memory_budget = most;
    tell_all(&options);
    options.send_low_mark = 1;
    tell_all(&options);
}

/* As little as the pieces of the stories need. */
Test(features, stories_are_the_same_with_limits_that_just_suffice)
{
    struct sluice_engine_options options = net_options();

    options.send_high_mark = 4 * KIB;
    options.send_limit = 4 * KIB + 1000;
    options.memory_budget = 4 * KIB + 1000;
    story_echo_plain(&options, PEER_TCP4, 0);
    options.memory_budget = MIB;
    options.send_limit = 4 * KIB + 16384;
    story_echo(&options, PEER_TCP4, 300 * KIB, 1000);
    story_echo_plain(&options, PEER_TCP4, MIB);
    story_half_close(&options, PEER_UNIX, MIB);
}

Test(features, stories_are_the_same_with_the_longest_times)
{
    struct sluice_engine_options options = net_options();

    options.linger_ns = DAY;
    options.idle_timeout_ns = DAY;
    options.connect_timeout_ns = DAY;
    options.backlog = 65535;
    tell_all(&options);
}

/* Times so short that none of the stories may be late; only those that are over in no time. */
Test(features, stories_are_the_same_with_an_idle_timeout)
{
    struct sluice_engine_options options = net_options();

    options.idle_timeout_ns = 10 * SECOND;
    options.connect_timeout_ns = 10 * SECOND;
    tell_all(&options);
}

/* More than one at a time the kernel itself may turn away, so no crowd. */
Test(features, stories_are_the_same_with_a_backlog_of_one)
{
    struct sluice_engine_options options = net_options();

    options.backlog = 1;
    story_echo(&options, PEER_TCP4, MIB, 1000);
    story_echo(&options, PEER_UNIX, MIB, 1000);
    story_half_close(&options, PEER_TCP4, MIB);
}

Test(features, stories_are_the_same_on_a_cpu_of_its_own)
{
    struct sluice_engine_options options = net_options();

    options.thread_cpu = 1;
    tell_all(&options);
}
