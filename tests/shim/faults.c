/* A library that the matrix lays over libc (LD_PRELOAD) in processes under test.
 *
 * FAULTS_CONTROL names a file of five 64-bit numbers that this maps and the test writes:
 *   0  microseconds to add to CLOCK_REALTIME
 *   1  which of the next syncs below FAULTS_FOLDER fails with EIO (1 is the very next; 0 is none).
 *      It fails once: as on Linux, a repeat would succeed although the data is lost.
 *   2  syncs seen below FAULTS_FOLDER
 *   3  syncs failed
 *   4  milliseconds by which each of these syncs is late */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int64_t *control;
static const char *folder;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULTS_CONTROL");
    folder = getenv("FAULTS_FOLDER");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *map = mmap(NULL, 40, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (map != MAP_FAILED) control = map;
}

/* Whether this sync is the one that fails. */
static int fails(int file) {
    char link[64], path[PATH_MAX];
    if (!control || !folder) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (strncmp(path, folder, strlen(folder)) != 0) return 0;
    int64_t late_ms = __atomic_load_n(&control[4], __ATOMIC_RELAXED);
    if (late_ms > 0) usleep((useconds_t)late_ms * 1000);
    __atomic_add_fetch(&control[2], 1, __ATOMIC_SEQ_CST);
    int64_t left = __atomic_load_n(&control[1], __ATOMIC_SEQ_CST);
    while (left > 0) {
        if (__atomic_compare_exchange_n(&control[1], &left, left - 1, 0, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST)) {
            if (left > 1) return 0;
            __atomic_add_fetch(&control[3], 1, __ATOMIC_SEQ_CST);
            return 1;
        }
    }
    return 0;
}

int fsync(int file) {
    if (fails(file)) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fsync, file);
}

int fdatasync(int file) {
    if (fails(file)) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, file);
}

int clock_gettime(clockid_t which, struct timespec *at) {
    int result = (int)syscall(SYS_clock_gettime, which, at);
    if (result != 0 || !control) return result;
    if (which != CLOCK_REALTIME && which != CLOCK_REALTIME_COARSE) return result;
    int64_t shift = __atomic_load_n(&control[0], __ATOMIC_RELAXED);
    int64_t nanos = at->tv_nsec + shift % 1000000 * 1000;
    at->tv_sec += shift / 1000000 + (nanos < 0 ? -1 : nanos / 1000000000);
    at->tv_nsec = nanos < 0 ? nanos + 1000000000 : nanos % 1000000000;
    return 0;
}
