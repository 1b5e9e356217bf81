#!/bin/sh
# The engine makes no system call of its own, and only environment.c reads the environment. Judged by what the objects
# refer to. Usage: calls.sh ARCHIVE, the static library.
set -eu

system_calls='socket|socketpair|bind|listen|accept|accept4|connect|shutdown|send|sendto|sendmsg|sendmmsg|recv|recvfrom|
recvmsg|recvmmsg|read|readv|pread|preadv|write|writev|pwrite|pwritev|close|close_range|open|openat|creat|dup|dup2|dup3|
fcntl|ioctl|setsockopt|getsockopt|getsockname|getpeername|pipe|pipe2|select|poll|ppoll|epoll_.*|eventfd|timerfd_.*|
signalfd|mmap|munmap|madvise|unlink|unlinkat|stat|fstat|lstat|getaddrinfo|getnameinfo|if_nametoindex|if_indextoname|
clock_gettime|gettimeofday|time|nanosleep|clock_nanosleep|usleep|sleep|signal|sigaction|raise|kill|fork|syscall|
io_uring_.*|printf|puts|fprintf|perror|fwrite'
system_calls=$(echo "$system_calls" | tr -d '\n')

# "archive:member: U symbol" becomes "member symbol", without symbol versions and fortification.
references() {
    nm -A -u "$1" | sed -E 's/@.*//; s/__([a-z0-9_]+)_chk$/\1/; s/(.*[:\/])?([a-z_]+\.c\.o): +U (.*)/\2 \3/'
}

references=$(references "$1")
if ! echo "$references" | grep -q '^engine_environment\.c\.o getenv$'; then
    echo "calls.sh: no engine_environment.c.o that refers to getenv in $1: this check sees nothing" >&2
    exit 1
fi

breaches=$(
    echo "$references" | grep -E "^engine_[a-z_]+\.c\.o ($system_calls)\$" | sed 's/$/   <- only uring\/ calls the system/'
    echo "$references" | grep -E ' (getenv|secure_getenv|environ|setenv|putenv)$' | grep -v '^engine_environment\.c\.o' |
        sed 's/$/   <- only environment.c reads the environment/'
) || true
[ -z "$breaches" ] || {
    echo "$breaches"
    exit 1
}
