/*
 * The run queue: what is to be done soon on this thread, first in, first out.
 *
 * It has two lanes. Work (telling users) runs before flushes, so that all that the users of one pass send to a stream
 * leaves in one submission. Pushing a task twice is pushing it once; what a task pushes waits for the next pass.
 */
#ifndef ENGINE_TASK_H
#define ENGINE_TASK_H

#include <stdbool.h>
#include <stddef.h>

struct task {
    void (*run)(struct task *task);
    struct task *next; /* NULL exactly while it is in no lane; of the last one in a lane, itself */
};

struct lane {
    struct task *first;
    struct task **last; /* where the next one goes */
};

struct run_queue {
    struct lane work;
    struct lane flushes;
};

static inline void lane_init(struct lane *lane)
{
    lane->first = NULL;
    lane->last = &lane->first;
}

static inline void run_queue_init(struct run_queue *queue)
{
    lane_init(&queue->work);
    lane_init(&queue->flushes);
}

static inline bool run_queue_is_empty(const struct run_queue *queue)
{
    return queue->work.first == NULL && queue->flushes.first == NULL;
}

static inline bool task_is_queued(const struct task *task)
{
    return task->next != NULL;
}

/* Returns true if the task was not queued before. */
static inline bool lane_push(struct lane *lane, struct task *task)
{
    if (task_is_queued(task))
        return false;
    task->next = task;
    *lane->last = task;
    lane->last = &task->next;
    return true;
}

/* Takes the lane, then works through it: new tasks wait. */
static inline void lane_run(struct lane *lane)
{
    struct task *task = lane->first;

    lane_init(lane);
    while (task) {
        struct task *next = task->next == task ? NULL : task->next;

        task->next = NULL;
        task->run(task);
        task = next;
    }
}

/* One pass. */
static inline void run_queue_run(struct run_queue *queue)
{
    lane_run(&queue->work);
    lane_run(&queue->flushes);
}

#endif
