"""Makes system calls of child processes fail, chosen by call and path.

    faults = Faults.built(tmp_path)
    async with start(command, environment={**environment, **faults.environment}, ...):
        faults.inject("open", errno.EMFILE, ".jsonl")
        await until(lambda: faults.hits("open") > 2, "some attempts")
        faults.clear("open")

A small library in front of the C library answers these calls. It is built with the machine's C compiler.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from tests.support.waiting import PATIENCE

__all__ = ["HANG", "SHORT", "Call", "Faults"]

Call = Literal["open", "opendir", "read", "pread", "write", "fsync", "lstat", "stat", "watch"]

SHORT = 0
"""In place of an error: the call does less than it was asked for."""

HANG = -2
"""In place of an error: the call does not return as long as it is told to."""

_SOURCE = r"""
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* The number of the error that is to be injected; -1 for none, 0 for a call that does less than asked for, -2 for one
   that does not return. */
static int looked_up(const char *call, const char *path) {
    const char *folder = getenv("FAULTS_DIR");
    char name[4096], text[4096], hits[4160];
    int kept = errno;
    if (!folder || !path || strstr(path, folder)) return -1;
    snprintf(name, sizeof name, "%s/%s", folder, call);
    int file = syscall(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC);
    errno = kept;
    if (file < 0) return -1;
    long size = syscall(SYS_read, file, text, sizeof text - 1);
    syscall(SYS_close, file);
    errno = kept;
    if (size <= 0) return -1;
    text[size] = 0;
    char *part = strchr(text, ' ');
    if (!part) return -1;
    *part++ = 0;
    if (!strstr(path, part)) return -1;
    snprintf(hits, sizeof hits, "%s.hits", name);
    file = syscall(SYS_openat, AT_FDCWD, hits, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (file >= 0) { syscall(SYS_write, file, ".", 1); syscall(SYS_close, file); }
    errno = kept;
    return atoi(text);
}

static int injected(const char *call, const char *path) {
    int found;
    while ((found = looked_up(call, path)) == -2) usleep(20000);
    return found;
}

static int injected_at(const char *call, int descriptor) {
    char link[64], path[4096];
    int kept = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    long size = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    errno = kept;
    if (size <= 0) return -1;
    path[size] = 0;
    return injected(call, path);
}

#define FAIL(found) do { if ((found) > 0) { errno = (found); return -1; } } while (0)
#define LESS(found, count) ((found) == 0 && (count) > 7 ? 7 : (count))

#define OPEN(name)                                                                   \
    int name(const char *path, int flags, ...) {                                     \
        va_list list; va_start(list, flags); mode_t mode = va_arg(list, int); va_end(list); \
        FAIL(injected("open", path));                                                \
        return NEXT(name)(path, flags, mode);                                        \
    }
OPEN(open)
OPEN(open64)

DIR *opendir(const char *path) {
    int found = injected("opendir", path);
    if (found > 0) { errno = found; return NULL; }
    return NEXT(opendir)(path);
}

#define LSTAT(name, kind)                                                            \
    int name(const char *path, struct kind *status) {                                \
        FAIL(injected("lstat", path));                                               \
        return NEXT(name)(path, status);                                             \
    }
LSTAT(lstat, stat)
LSTAT(lstat64, stat64)

#define STAT(name, kind)                                                             \
    int name(const char *path, struct kind *status) {                                \
        FAIL(injected("stat", path));                                                \
        return NEXT(name)(path, status);                                             \
    }
STAT(stat, stat)
STAT(stat64, stat64)

ssize_t read(int descriptor, void *data, size_t count) {
    int found = injected_at("read", descriptor);
    FAIL(found);
    return NEXT(read)(descriptor, data, LESS(found, count));
}

#define PREAD(name, offset_type)                                                     \
    ssize_t name(int descriptor, void *data, size_t count, offset_type at) {         \
        int found = injected_at("pread", descriptor);                                \
        FAIL(found);                                                                 \
        return NEXT(name)(descriptor, data, LESS(found, count), at);                 \
    }
PREAD(pread, off_t)
PREAD(pread64, off64_t)

ssize_t write(int descriptor, const void *data, size_t count) {
    FAIL(injected_at("write", descriptor));
    return NEXT(write)(descriptor, data, count);
}

#define PWRITE(name, offset_type)                                                    \
    ssize_t name(int descriptor, const void *data, size_t count, offset_type at) {   \
        FAIL(injected_at("write", descriptor));                                      \
        return NEXT(name)(descriptor, data, count, at);                              \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

int fsync(int descriptor) { FAIL(injected_at("fsync", descriptor)); return NEXT(fsync)(descriptor); }
int fdatasync(int descriptor) { FAIL(injected_at("fsync", descriptor)); return NEXT(fdatasync)(descriptor); }

int inotify_add_watch(int descriptor, const char *path, unsigned mask) {
    FAIL(injected("watch", path));
    return ((int (*)(int, const char *, unsigned))dlsym(RTLD_NEXT, "inotify_add_watch"))(descriptor, path, mask);
}
"""


@dataclass(frozen=True, slots=True)
class Faults:
    """The calls that fail in the children started with `environment`.

    Attributes:
        folder: tells the library what fails, and counts how often it did.
        library: the library in front of the C library.
    """

    folder: Path
    library: Path

    @classmethod
    def built(cls, root: Path) -> Faults:
        """Build the library in *root*. Skip the test if that is not possible."""
        compiler = shutil.which("cc")
        if sys.platform != "linux" or compiler is None:
            pytest.skip("needs Linux and a C compiler")
        source, library, folder = root / "faults.c", root / "faults.so", root / "faults"
        source.write_text(_SOURCE)
        command = [
            compiler,
            "-shared",
            "-fPIC",
            "-O1",
            "-w",
            "-U_FORTIFY_SOURCE",
            "-o",
            str(library),
            str(source),
            "-ldl",
        ]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE)
        if done.returncode:
            pytest.skip(f"the C compiler cannot build it: {done.stderr[-500:]}")
        folder.mkdir()
        return cls(folder, library)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a child needs."""
        return {"LD_PRELOAD": str(self.library), "FAULTS_DIR": str(self.folder)}

    def inject(self, call: Call, error: int, path: str) -> None:
        """Make *call* fail with *error* on every path that contains *path*. SHORT and HANG are no errors."""
        beside = self.folder / "beside"
        beside.write_text(f"{error} {path}")
        beside.replace(self.folder / call)

    def clear(self, call: Call) -> None:
        """Let *call* work again."""
        (self.folder / call).unlink()

    def hits(self, call: Call) -> int:
        """Return how often *call* has failed."""
        try:
            return (self.folder / f"{call}.hits").stat().st_size
        except FileNotFoundError:
            return 0
