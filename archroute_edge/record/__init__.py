"""What was decided and forwarded, and what it cost: entries, kept in SQLite if asked for, listed, reported and exported.

Used by: ``gateway``, ``server.http`` and ``cli``. Other rooms import only the names below; modules with an underscore belong to
this room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archroute_edge._exports import lazily

if TYPE_CHECKING:
    from archroute_edge.record._bounds import DEFAULT_MAX_BYTES, LEAST_MAX_BYTES
    from archroute_edge.record._changes import clear, grade
    from archroute_edge.record._database import record_file
    from archroute_edge.record._entry import (
        BLAMELESS,
        OUT_OF_TIME,
        Content,
        Entry,
        EntrySink,
        Operation,
        Outcome,
        Try,
        Usage,
        session_digest,
    )
    from archroute_edge.record._entry_sinks import EntrySinks
    from archroute_edge.record._export import ExportedCases, cases, check_has_texts, outcomes
    from archroute_edge.record._figures import conclusion, terminal_tables, to_json
    from archroute_edge.record._otel import Spans, open_spans
    from archroute_edge.record._page import traffic_page
    from archroute_edge.record._reading import Grade, Record, RecordedTry, Wanted, open_record
    from archroute_edge.record._recent import MOST_NAME, Activity, Minute, RecentEntries, Share, Totals
    from archroute_edge.record._recorder import Recorder
    from archroute_edge.record._report import TrafficReport, report_on
else:
    __getattr__, __all__ = lazily(
        __name__,
        {
            "_bounds": "DEFAULT_MAX_BYTES LEAST_MAX_BYTES",
            "_changes": "clear grade",
            "_database": "record_file",
            "_entry": "BLAMELESS Content Entry EntrySink OUT_OF_TIME Operation Outcome Try Usage session_digest",
            "_entry_sinks": "EntrySinks",
            "_export": "ExportedCases cases check_has_texts outcomes",
            "_figures": "conclusion terminal_tables to_json",
            "_otel": "Spans open_spans",
            "_page": "traffic_page",
            "_reading": "Grade Record RecordedTry Wanted open_record",
            "_recent": "MOST_NAME Activity Minute RecentEntries Share Totals",
            "_recorder": "Recorder",
            "_report": "TrafficReport report_on",
        },
    )
