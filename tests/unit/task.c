/* The run queue: first in, first out, each task once, and what a task pushes waits for the next pass. */
#include "engine/task.h"

#include <criterion/criterion.h>
#include <string.h>

#include "engine/list.h"

enum {
    LETTERS = 16,
};

/* A task that writes its letter, and then may push another. */
struct writer {
    struct task task;
    char letter;
    char *text;
    struct lane *lane; /* where `next` goes; NULL: it pushes nothing */
    struct task *next;
};

static void write_letter(struct task *task)
{
    struct writer *writer = container_of(task, struct writer, task);

    cr_assert_not(task_is_queued(task), "from here on it may be pushed again");
    writer->text[strlen(writer->text)] = writer->letter;
    if (writer->lane)
        lane_push(writer->lane, writer->next);
}

static struct writer writer(char letter, char text[LETTERS])
{
    return (struct writer){.task.run = write_letter, .letter = letter, .text = text};
}

Test(tasks, run_in_the_order_in_which_they_were_pushed)
{
    char text[LETTERS] = "";
    struct writer a = writer('a', text);
    struct writer b = writer('b', text);
    struct writer c = writer('c', text);
    struct run_queue queue;

    run_queue_init(&queue);
    cr_assert(run_queue_is_empty(&queue));
    cr_assert(lane_push(&queue.work, &b.task));
    cr_assert(lane_push(&queue.work, &a.task));
    cr_assert(lane_push(&queue.work, &c.task));
    cr_assert_not(run_queue_is_empty(&queue));
    run_queue_run(&queue);
    cr_assert_str_eq(text, "bac");
    cr_assert(run_queue_is_empty(&queue));
    run_queue_run(&queue);
    cr_assert_str_eq(text, "bac");
}

Test(tasks, pushed_twice_run_once)
{
    char text[LETTERS] = "";
    struct writer a = writer('a', text);
    struct writer b = writer('b', text);
    struct run_queue queue;

    run_queue_init(&queue);
    cr_assert(lane_push(&queue.work, &a.task));
    cr_assert(lane_push(&queue.work, &b.task));
    cr_assert_not(lane_push(&queue.work, &a.task));
    cr_assert_not(lane_push(&queue.work, &b.task));
    run_queue_run(&queue);
    cr_assert_str_eq(text, "ab");
    cr_assert(lane_push(&queue.work, &a.task));
    run_queue_run(&queue);
    cr_assert_str_eq(text, "aba");
}

Test(tasks, that_work_run_before_those_that_flush)
{
    char text[LETTERS] = "";
    struct writer work = writer('w', text);
    struct writer flush = writer('f', text);
    struct run_queue queue;

    run_queue_init(&queue);
    lane_push(&queue.flushes, &flush.task);
    lane_push(&queue.work, &work.task);
    run_queue_run(&queue);
    cr_assert_str_eq(text, "wf");
}

Test(tasks, pushed_by_work_flush_in_the_same_pass)
{
    char text[LETTERS] = "";
    struct writer work = writer('w', text);
    struct writer flush = writer('f', text);
    struct run_queue queue;

    run_queue_init(&queue);
    work.lane = &queue.flushes;
    work.next = &flush.task;
    lane_push(&queue.work, &work.task);
    run_queue_run(&queue);
    cr_assert_str_eq(text, "wf");
    cr_assert(run_queue_is_empty(&queue));
}

Test(tasks, pushed_by_a_task_of_their_lane_wait_for_the_next_pass)
{
    char text[LETTERS] = "";
    struct writer a = writer('a', text);
    struct writer b = writer('b', text);
    struct run_queue queue;

    run_queue_init(&queue);
    a.lane = &queue.work;
    a.next = &a.task; /* again and again */
    lane_push(&queue.work, &a.task);
    lane_push(&queue.work, &b.task);
    for (int pass = 0; pass < 3; pass++) {
        cr_assert_not(run_queue_is_empty(&queue));
        run_queue_run(&queue);
    }
    cr_assert_str_eq(text, "abaa");
    cr_assert(task_is_queued(&a.task));
}

Test(tasks, that_flush_wait_with_what_they_push)
{
    char text[LETTERS] = "";
    struct writer flush = writer('f', text);
    struct writer work = writer('w', text);
    struct run_queue queue;

    run_queue_init(&queue);
    flush.lane = &queue.work;
    flush.next = &work.task;
    lane_push(&queue.flushes, &flush.task);
    run_queue_run(&queue);
    cr_assert_str_eq(text, "f");
    run_queue_run(&queue);
    cr_assert_str_eq(text, "fw");
}
