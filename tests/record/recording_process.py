"""Records without end, in a process of its own: ``python -m tests.record.recording_process FILE``."""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path

from archroute_edge.record import Recorder
from tests.record.entries import entry


def main() -> None:
    """Record until the process ends."""
    recorder = Recorder(Path(sys.argv[1]))
    for number in itertools.count(1):
        recorder.add(entry(number))
        time.sleep(0.002)


if __name__ == "__main__":
    main()
