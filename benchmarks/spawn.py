"""Run one program and print its cost: a process too small to show in the figures.

Linux counts the memory of the process that forked into the child's peak, so the benchmark
itself must not fork. Usage: spawn.py STDOUT STDERR PROGRAM [ARGUMENT ...]; prints
[exit code, wall, CPU, peak KiB] as JSON.
"""

from __future__ import annotations

import os
import sys
import time

if __name__ == "__main__":
    stdout, stderr, *argv = sys.argv[1:]
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, stdout, flags, 0o644),
        (os.POSIX_SPAWN_OPEN, 2, stderr, flags, 0o644),
    ]
    start = time.perf_counter()
    child = os.posix_spawn(argv[0], argv, os.environ, file_actions=actions)
    _, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - start
    code = os.waitstatus_to_exitcode(status)
    print([code, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss])
