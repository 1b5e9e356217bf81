/* System calls that fail when a test says so: see refusing_kernel.h. */
#include "tests/support/refusing_kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <liburing.h>

static atomic_uint made[CALL_COUNT];
static atomic_int errors[CALL_COUNT][REFUSALS_MAX + 1]; /* by the number of the call; 0: it goes through */
static atomic_int bound_family;
static atomic_bool has_huge_pages;
static int hidden_opcode = -1;
static int64_t joined_group = -1;

static struct {
    const char *path;
    const char *text;
} pretended[PRETENDED_MAX];

static struct {
    unsigned asked;
    enum answer by_number[REFUSALS_MAX + 1];
    bool are_over;
} answers;

void refuse_nothing(void)
{
    for (int call = 0; call < CALL_COUNT; call++) {
        atomic_store(&made[call], 0);
        for (int nth = 0; nth <= REFUSALS_MAX; nth++)
            atomic_store(&errors[call][nth], 0);
    }
    atomic_store(&has_huge_pages, false);
    hidden_opcode = -1;
    joined_group = -1;
    memset(pretended, 0, sizeof pretended);
    memset(&answers, 0, sizeof answers);
}

void refuse(enum call call, unsigned nth, int error)
{
    if (nth > REFUSALS_MAX)
        abort();
    atomic_store(&errors[call][nth], error);
}

void refuse_all(enum call call, int error)
{
    for (unsigned nth = 1; nth <= REFUSALS_MAX; nth++)
        refuse(call, nth, error);
}

unsigned calls_made(enum call call)
{
    return atomic_load(&made[call]);
}

int family_bound(void)
{
    return atomic_load(&bound_family);
}

void grant_huge_pages(void)
{
    atomic_store(&has_huge_pages, true);
}

void hide_opcode(uint8_t opcode)
{
    hidden_opcode = opcode;
}

void pretend_file(const char *path, const char *text)
{
    int i = 0;

    while (pretended[i].path)
        if (++i == PRETENDED_MAX)
            abort();
    pretended[i].path = path;
    pretended[i].text = text;
}

void join_group(uint32_t group)
{
    joined_group = group;
}

/* Counts a call. Returns the error that it is to fail with, or 0. */
static int refusal_of(enum call call)
{
    unsigned nth = atomic_fetch_add(&made[call], 1) + 1;

    return nth <= REFUSALS_MAX ? atomic_load(&errors[call][nth]) : 0;
}

/* The same for functions that leave the error in errno. */
static bool is_refused(enum call call)
{
    int error = refusal_of(call);

    if (error)
        errno = error;
    return error;
}

/* -- Before the C library ------------------------------------------------------------------------------------ */

int __real_accept4(int fd, struct sockaddr *address, socklen_t *len, int flags);
int __real_bind(int fd, const struct sockaddr *address, socklen_t len);
void *__real_calloc(size_t count, size_t size);
int __real_connect(int fd, const struct sockaddr *address, socklen_t len);
int __real_fcntl64(int fd, int command, ...);
int __real_getsockname(int fd, struct sockaddr *address, socklen_t *len);
int __real_getsockopt(int fd, int level, int name, void *value, socklen_t *len);
int __real_getrlimit64(__rlimit_resource_t resource, struct rlimit *limit);
int __real_group_member(gid_t group);
int __real_listen(int fd, int backlog);
void *__real_malloc(size_t size);
void *__real_mmap64(void *address, size_t len, int protection, int flags, int fd, off_t offset);
int __real_open64(const char *path, int flags, ...);
ssize_t __real_read(int fd, void *data, size_t len);
void *__real_reallocarray(void *memory, size_t count, size_t size);
ssize_t __real_send(int fd, const void *data, size_t len, int flags);
int __real_setsockopt(int fd, int level, int name, const void *value, socklen_t len);
int __real_shutdown(int fd, int how);
int __real_socket(int family, int type, int protocol);
int __real_socketpair(int family, int type, int protocol, int sockets[2]);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument);
int __real_pthread_attr_init(pthread_attr_t *attributes);
int __real_sem_wait(sem_t *semaphore);

int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *len, int flags);
int __wrap_bind(int fd, const struct sockaddr *address, socklen_t len);
void *__wrap_calloc(size_t count, size_t size);
int __wrap_connect(int fd, const struct sockaddr *address, socklen_t len);
int __wrap_fcntl64(int fd, int command, ...);
int __wrap_getsockname(int fd, struct sockaddr *address, socklen_t *len);
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len);
int __wrap_getrlimit64(__rlimit_resource_t resource, struct rlimit *limit);
int __wrap_group_member(gid_t group);
int __wrap_listen(int fd, int backlog);
void *__wrap_malloc(size_t size);
void *__wrap_mmap64(void *address, size_t len, int protection, int flags, int fd, off_t offset);
int __wrap_open64(const char *path, int flags, ...);
ssize_t __wrap_read(int fd, void *data, size_t len);
void *__wrap_reallocarray(void *memory, size_t count, size_t size);
ssize_t __wrap_send(int fd, const void *data, size_t len, int flags);
int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t len);
int __wrap_shutdown(int fd, int how);
int __wrap_socket(int family, int type, int protocol);
int __wrap_socketpair(int family, int type, int protocol, int sockets[2]);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument);
int __wrap_pthread_attr_init(pthread_attr_t *attributes);
int __wrap_sem_wait(sem_t *semaphore);

int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *len, int flags)
{
    return is_refused(CALL_ACCEPT) ? -1 : __real_accept4(fd, address, len, flags);
}

int __wrap_bind(int fd, const struct sockaddr *address, socklen_t len)
{
    atomic_store(&bound_family, address->sa_family);
    return is_refused(CALL_BIND) ? -1 : __real_bind(fd, address, len);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return is_refused(CALL_CALLOC) ? NULL : __real_calloc(count, size);
}

int __wrap_connect(int fd, const struct sockaddr *address, socklen_t len)
{
    return is_refused(CALL_CONNECT) ? -1 : __real_connect(fd, address, len);
}

/* Its argument is a number, if it has one: the library uses no locks. */
int __wrap_fcntl64(int fd, int command, ...)
{
    va_list arguments;
    int argument;

    va_start(arguments, command);
    argument = va_arg(arguments, int);
    va_end(arguments);
    return is_refused(CALL_FCNTL) ? -1 : __real_fcntl64(fd, command, argument);
}

int __wrap_getsockname(int fd, struct sockaddr *address, socklen_t *len)
{
    return is_refused(CALL_GETSOCKNAME) ? -1 : __real_getsockname(fd, address, len);
}

int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    return is_refused(CALL_GETSOCKOPT) ? -1 : __real_getsockopt(fd, level, name, value, len);
}

int __wrap_getrlimit64(__rlimit_resource_t resource, struct rlimit *limit)
{
    int result = __real_getrlimit64(resource, limit);

    if (refusal_of(CALL_LIMIT))
        limit->rlim_cur = RLIM_INFINITY;
    return result;
}

int __wrap_group_member(gid_t group)
{
    return joined_group == group || __real_group_member(group);
}

int __wrap_listen(int fd, int backlog)
{
    return is_refused(CALL_LISTEN) ? -1 : __real_listen(fd, backlog);
}

void *__wrap_malloc(size_t size)
{
    return is_refused(CALL_MALLOC) ? NULL : __real_malloc(size);
}

void *__wrap_mmap64(void *address, size_t len, int protection, int flags, int fd, off_t offset)
{
    if (is_refused(CALL_MAP))
        return MAP_FAILED;
    if (atomic_load(&has_huge_pages))
        flags &= ~MAP_HUGETLB;
    return __real_mmap64(address, len, protection, flags, fd, offset);
}

/* A descriptor from which the text can be read, once. */
static int open_text(const char *text)
{
    int fd = memfd_create("pretended", MFD_CLOEXEC);

    if (fd < 0 || pwrite(fd, text, strlen(text), 0) != (ssize_t)strlen(text))
        abort();
    return fd;
}

int __wrap_open64(const char *path, int flags, ...)
{
    va_list arguments;
    mode_t mode;

    va_start(arguments, flags);
    mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    for (int i = 0; i < PRETENDED_MAX && pretended[i].path; i++)
        if (strcmp(path, pretended[i].path) == 0)
            return open_text(pretended[i].text);
    return is_refused(CALL_OPEN) ? -1 : __real_open64(path, flags, mode);
}

ssize_t __wrap_read(int fd, void *data, size_t len)
{
    return is_refused(CALL_READ) ? -1 : __real_read(fd, data, len);
}

void *__wrap_reallocarray(void *memory, size_t count, size_t size)
{
    return is_refused(CALL_REALLOC) ? NULL : __real_reallocarray(memory, count, size);
}

ssize_t __wrap_send(int fd, const void *data, size_t len, int flags)
{
    return is_refused(CALL_SEND) ? -1 : __real_send(fd, data, len, flags);
}

int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    return is_refused(CALL_SETSOCKOPT) ? -1 : __real_setsockopt(fd, level, name, value, len);
}

int __wrap_shutdown(int fd, int how)
{
    return is_refused(CALL_SHUTDOWN) ? -1 : __real_shutdown(fd, how);
}

int __wrap_socket(int family, int type, int protocol)
{
    return is_refused(CALL_SOCKET) ? -1 : __real_socket(family, type, protocol);
}

int __wrap_socketpair(int family, int type, int protocol, int sockets[2])
{
    return is_refused(CALL_SOCKETPAIR) ? -1 : __real_socketpair(family, type, protocol, sockets);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument)
{
    int error = refusal_of(CALL_THREAD);

    return error ? error : __real_pthread_create(thread, attributes, run, argument);
}

int __wrap_pthread_attr_init(pthread_attr_t *attributes)
{
    int error = refusal_of(CALL_THREAD_ATTRIBUTES);

    return error ? error : __real_pthread_attr_init(attributes);
}

int __wrap_sem_wait(sem_t *semaphore)
{
    return is_refused(CALL_WAIT) ? -1 : __real_sem_wait(semaphore);
}

/* -- Before liburing ----------------------------------------------------------------------------------------- */

int __real_io_uring_queue_init(unsigned entries, struct io_uring *uring, unsigned flags);
int __real_io_uring_queue_init_params(unsigned entries, struct io_uring *uring, struct io_uring_params *params);
int __real_io_uring_register_buf_ring(struct io_uring *uring, struct io_uring_buf_reg *registration, unsigned flags);
int __real_io_uring_register_probe(struct io_uring *uring, struct io_uring_probe *probe, unsigned count);
int __real_io_uring_register_sync_cancel(struct io_uring *uring, struct io_uring_sync_cancel_reg *what);
int __real_io_uring_submit(struct io_uring *uring);
int __real_io_uring_submit_and_wait_timeout(struct io_uring *uring, struct io_uring_cqe **completion, unsigned count,
                                            struct __kernel_timespec *timeout, sigset_t *signals);

int __wrap_io_uring_queue_init(unsigned entries, struct io_uring *uring, unsigned flags);
int __wrap_io_uring_queue_init_params(unsigned entries, struct io_uring *uring, struct io_uring_params *params);
int __wrap_io_uring_register_buf_ring(struct io_uring *uring, struct io_uring_buf_reg *registration, unsigned flags);
int __wrap_io_uring_register_probe(struct io_uring *uring, struct io_uring_probe *probe, unsigned count);
int __wrap_io_uring_register_sync_cancel(struct io_uring *uring, struct io_uring_sync_cancel_reg *what);
int __wrap_io_uring_submit(struct io_uring *uring);
int __wrap_io_uring_submit_and_wait_timeout(struct io_uring *uring, struct io_uring_cqe **completion, unsigned count,
                                            struct __kernel_timespec *timeout, sigset_t *signals);

int __wrap_io_uring_queue_init(unsigned entries, struct io_uring *uring, unsigned flags)
{
    int error = refusal_of(CALL_RING);

    return error ? -error : __real_io_uring_queue_init(entries, uring, flags);
}

int __wrap_io_uring_queue_init_params(unsigned entries, struct io_uring *uring, struct io_uring_params *params)
{
    int error = refusal_of(CALL_RING);

    return error ? -error : __real_io_uring_queue_init_params(entries, uring, params);
}

int __wrap_io_uring_register_buf_ring(struct io_uring *uring, struct io_uring_buf_reg *registration, unsigned flags)
{
    int error = refusal_of(CALL_REGISTER_BUFFERS);

    return error ? -error : __real_io_uring_register_buf_ring(uring, registration, flags);
}

int __wrap_io_uring_register_probe(struct io_uring *uring, struct io_uring_probe *probe, unsigned count)
{
    int error = refusal_of(CALL_REGISTER_PROBE);
    int result = error ? -error : __real_io_uring_register_probe(uring, probe, count);

    if (hidden_opcode >= 0)
        probe->ops[hidden_opcode].flags = 0;
    return result;
}

int __wrap_io_uring_register_sync_cancel(struct io_uring *uring, struct io_uring_sync_cancel_reg *what)
{
    int error = refusal_of(CALL_SYNC_CANCEL);

    return error ? -error : __real_io_uring_register_sync_cancel(uring, what);
}

int __wrap_io_uring_submit(struct io_uring *uring)
{
    int error = refusal_of(CALL_SUBMIT);
    int result = __real_io_uring_submit(uring);

    return error ? -error : result;
}

/* -- Answers ------------------------------------------------------------------------------------------------- */

void answer_with(unsigned nth, enum answer answer)
{
    if (nth > REFUSALS_MAX)
        abort();
    answers.by_number[nth] = answer;
}

unsigned answers_asked_for(void)
{
    return answers.asked;
}

/* Ends the request that `told` belongs to, as a kernel does that answers it once. The caller sees the last of it. */
static void end_request_of(struct io_uring *uring, const struct io_uring_cqe *told, struct __kernel_timespec *timeout)
{
    struct io_uring_sync_cancel_reg everything = {
        .flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL,
        .timeout = {.tv_nsec = 100000000},
    };
    struct io_uring_cqe *next;
    bool goes_on = told->flags & IORING_CQE_F_MORE;

    if (goes_on)
        __real_io_uring_register_sync_cancel(uring, &everything);
    while (goes_on) {
        io_uring_cq_advance(uring, 1);
        if (__real_io_uring_submit_and_wait_timeout(uring, &next, 1, timeout, NULL) < 0)
            abort();
        goes_on = next->flags & IORING_CQE_F_MORE;
    }
}

static void change(struct io_uring_cqe *told, struct io_uring *uring, enum answer answer,
                   struct __kernel_timespec *timeout)
{
    bool is_data = told->flags & IORING_CQE_F_BUFFER;
    bool is_accepted = !is_data && (told->flags & IORING_CQE_F_MORE) && told->res > STDERR_FILENO;

    if (answer == ANSWER_EMPTY && is_data)
        told->res = 0;
    if (answer == ANSWER_NO_BUFFER)
        told->flags &= ~IORING_CQE_F_BUFFER;
    if (answer == ANSWER_GOES_ON && !(told->flags & IORING_CQE_F_MORE)) {
        told->flags |= IORING_CQE_F_MORE;
        answers.are_over = true;
    }
    if (answer == ANSWER_INVALID || answer == ANSWER_LAST) {
        end_request_of(uring, told, timeout);
        told->flags &= ~IORING_CQE_F_MORE;
    }
    if (answer == ANSWER_INVALID && is_accepted)
        close(told->res);
    if (answer == ANSWER_INVALID)
        told->res = -EINVAL;
}

int __wrap_io_uring_submit_and_wait_timeout(struct io_uring *uring, struct io_uring_cqe **completion, unsigned count,
                                            struct __kernel_timespec *timeout, sigset_t *signals)
{
    static struct io_uring_cqe told;
    enum answer answer = ++answers.asked <= REFUSALS_MAX ? answers.by_number[answers.asked] : ANSWER_TRUE;
    int result;

    if (answers.are_over || answer == ANSWER_LATE || answer == ANSWER_NEVER || answer == ANSWER_SIGNAL) {
        answers.are_over |= answer == ANSWER_NEVER;
        __real_io_uring_submit(uring);
        return answer == ANSWER_SIGNAL ? -EINTR : -ETIME;
    }
    result = __real_io_uring_submit_and_wait_timeout(uring, completion, count, timeout, signals);
    if (answer == ANSWER_TRUE || result < 0)
        return result;
    told = **completion;
    *completion = &told;
    change(&told, uring, answer, timeout);
    return result;
}
