"""Run a command and print its time and the peak memory of its processes (Linux).

    python -m tools.measure.peak_memory python -m tools.convert CHECKPOINT -o FILE.gguf

Each process is sampled ten times a second. `private_mb` is its resident memory without pages that are shared or mapped from
files, so mapped weights do not count there.
"""

from __future__ import annotations

import json
import sys
import time

import psutil


def main() -> None:
    """Run the words after the program's name; the figures, in MB of a million bytes, go to stderr, and rc is passed on."""
    started = time.monotonic()
    process = psutil.Popen(sys.argv[1:])
    resident = private = 0
    while process.poll() is None:
        try:
            for each in [process, *process.children(recursive=True)]:
                memory = each.memory_info()
                resident, private = max(resident, memory.rss), max(private, memory.rss - memory.shared)
        except psutil.NoSuchProcess:
            continue
        time.sleep(0.1)
    figures = {"seconds": time.monotonic() - started, "resident_mb": resident / 1e6, "private_mb": private / 1e6}
    print(json.dumps({name: round(value, 1) for name, value in figures.items()}), file=sys.stderr)
    sys.exit(process.returncode)


if __name__ == "__main__":
    main()
