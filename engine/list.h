/* A doubly linked list whose links live in what is listed. */
#ifndef ENGINE_LIST_H
#define ENGINE_LIST_H

#include <stdbool.h>
#include <stddef.h>

/* The structure of `type` whose `member` is at `pointer`. */
#define container_of(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

/* A list's head, or an element's place in a list. In no list, both point to itself. */
struct link {
    struct link *next;
    struct link *previous;
};

static inline void link_init(struct link *link)
{
    link->next = link;
    link->previous = link;
}

/* For a head: has no elements. For an element: is in no list. */
static inline bool link_is_alone(const struct link *link)
{
    return link->next == link;
}

static inline void link_remove(struct link *link)
{
    link->next->previous = link->previous;
    link->previous->next = link->next;
    link_init(link);
}

static inline void link_append(struct link *head, struct link *link)
{
    link->next = head;
    link->previous = head->previous;
    head->previous->next = link;
    head->previous = link;
}

#endif
