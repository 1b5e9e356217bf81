/* From a member back to what it is embedded in. */
#ifndef TOOLS_CONTAINER_OF_H
#define TOOLS_CONTAINER_OF_H

#include <stddef.h>

#define container_of(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

#endif
