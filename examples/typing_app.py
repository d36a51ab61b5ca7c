"""Show the route of a message while the user types it: ``python examples/typing_app.py``.

Typing a letter costs nothing. A tenth of a second after the last letter, what stays the same while the text grows is evaluated;
after a fifth, the text so far is decided, and its route shown. Enter on that text evaluates nothing more. The service's thread
does all of it, so the window never waits: it looks for results with ``after``.
"""

from __future__ import annotations

import argparse
import queue
import threading
import tkinter as tk
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from functools import partial
from importlib import resources
from tkinter import font, ttk
from typing import Any, ClassVar

from archroute_edge import ArchRouteError, Decision, Router, RoutingService, Warmup, load_config

WARM_AFTER_MS = 100
DECIDE_AFTER_MS = 200
LOOK_EVERY_MS = 15
EXAMPLE_ROUTES = resources.files("archroute_edge") / "data" / "example_routes.yaml"


@dataclass(frozen=True)
class Palette:
    """Colours of texts, surfaces, lines and the chosen route."""

    ink: str
    quiet: str
    bad: str
    window: str
    paper: str
    edge: str
    accent: str
    on_accent: str


LIGHT = Palette("#1f2430", "#6b7280", "#b91c1c", "#f3f4f6", "#ffffff", "#d1d5db", "#0f766e", "#ffffff")
DARK = Palette("#e6edf3", "#8b949e", "#ff7b72", "#0d1117", "#161b22", "#30363d", "#2dd4bf", "#0d1117")


def pixels(widget: tk.Misc, n: int) -> int:
    """``n`` pixels at 96 dpi, scaled to the screen of ``widget``."""
    return round(n * widget.winfo_fpixels("1i") / 96)


class TypingApp(ttk.Frame):
    """The window's contents.

    Args:
        root: the window; closing it cancels open requests.
        open_service: makes the service; called in a thread, because a model takes time to load.
        palette: the same colours as for :func:`style`.
    """

    # Tcl aborts if another thread than its own frees the interpreter, and Python's garbage collector runs in any thread. So
    # windows are kept until the program ends.
    _windows: ClassVar[list[tk.Tk]] = []

    def __init__(self, root: tk.Tk, open_service: Callable[[], RoutingService], palette: Palette = LIGHT) -> None:
        super().__init__(root, padding=pixels(root, 20))
        self._windows.append(root)
        self.service: RoutingService | None = None
        self._root = root
        self._results: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._timers: list[str] = []
        self._asked: Future[Any] | None = None
        self._closed = False
        self._lay_out(palette)
        root.protocol("WM_DELETE_WINDOW", self.close)
        threading.Thread(target=self._open, args=(open_service,), name="loading", daemon=True).start()
        self._look()

    def _lay_out(self, colours: Palette) -> None:
        px = partial(pixels, self)
        self.columnconfigure(0, weight=1)
        self.columnconfigure(1, weight=1)
        self.rowconfigure(1, weight=1)
        ttk.Label(self, text="Your message", style="Heading.TLabel").grid(row=0, column=0, sticky="w", pady=(0, px(6)))
        self.entry = tk.Text(self, width=40, height=7, wrap="word", undo=True, font="AppText", relief="flat")
        self.entry.configure(padx=px(10), pady=px(8), bg=colours.paper, fg=colours.ink, insertbackground=colours.ink)
        self.entry.configure(highlightthickness=px(1), highlightbackground=colours.edge, highlightcolor=colours.accent)
        self.entry.grid(row=1, column=0, sticky="nsew")
        self.entry.bind("<<Modified>>", self._on_typed)
        self.entry.bind("<Return>", self._on_enter)
        self.entry.focus_set()

        answer = ttk.Frame(self)
        answer.grid(row=2, column=0, sticky="ew", pady=(px(14), 0))
        answer.columnconfigure(0, weight=1)
        # Labels get their texts directly: a tkinter variable collected in another thread would wait for this one.
        self.route_name = ttk.Label(answer, style="Route.TLabel")
        self.route_name.grid(row=0, column=0, sticky="w")
        self.confidence = ttk.Progressbar(answer, maximum=1.0, style="Confidence.Horizontal.TProgressbar")
        self.confidence.grid(row=1, column=0, sticky="ew", pady=px(6))
        self.detail = ttk.Label(answer)
        self.detail.grid(row=2, column=0, sticky="w")

        ttk.Label(self, text="Routes", style="Heading.TLabel").grid(
            row=0, column=1, sticky="w", padx=(px(20), 0), pady=(0, px(6))
        )
        self.table = ttk.Treeview(self, columns=("route", "score", "models"), show="headings", selectmode="none")
        for column, title, width in (("route", "Route", 180), ("score", "Score", 60), ("models", "Models", 250)):
            self.table.heading(column, text=title, anchor="e" if column == "score" else "w")
            self.table.column(column, width=px(width), stretch=column == "models", anchor="e" if column == "score" else "w")
        self.table.tag_configure("chosen", background=colours.accent, foreground=colours.on_accent)
        self.table.grid(row=1, column=1, rowspan=2, sticky="nsew", padx=(px(20), 0))
        self.status = ttk.Label(self, text="loading the model …", style="Quiet.TLabel")
        self.status.grid(row=3, column=0, columnspan=2, sticky="ew", pady=(px(14), 0))

    # Loading the model, in a thread of its own.

    def _open(self, open_service: Callable[[], RoutingService]) -> None:
        try:
            service = open_service()
        except ArchRouteError as exc:
            message = str(exc)
            self._results.put(lambda: self._show_error(message))
        else:
            if self._closed:
                service.close(drain=False)
            self._results.put(lambda: self._show_routes(service))

    def _show_routes(self, service: RoutingService) -> None:
        self.service = service
        config = service.router.config
        for route in config.table:
            self.table.insert("", "end", route.name, values=(route.name, "", ", ".join(route.models) or "–"))
        self.table.insert("", "end", "other", values=("other", "", config.default_model or ""))
        self.status["text"] = f"{service.router.model_file.name} is ready"
        self._wait_for_a_pause()

    # Input.

    def _on_typed(self, _event: object) -> None:
        # Resetting the flag is a modification too.
        if self.entry.edit_modified():
            self.entry.edit_modified(False)
            self._wait_for_a_pause()

    def _wait_for_a_pause(self) -> None:
        for timer in self._timers:
            self.after_cancel(timer)
        self._timers = [self.after(WARM_AFTER_MS, self._warm), self.after(DECIDE_AFTER_MS, self._decide_ahead)]

    def _on_enter(self, event: tk.Event[tk.Text]) -> str | None:
        if int(event.state) & 1:  # Shift: a line break
            return None
        self.route()
        return "break"

    @property
    def _text(self) -> str:
        return self.entry.get("1.0", "end").strip()

    def _warm(self) -> None:
        if self.service is not None and self._text:
            self.service.warm(self._text)

    def _decide_ahead(self) -> None:
        text = self._text
        if self.service is None or not text:
            self.route()
            return
        self._cancel_open_request()
        decided = self.service.warm(text, whole=True, scores=True)
        decided.add_done_callback(lambda done: self._results.put(lambda: self._on_decided_ahead(text, done)))

    def _cancel_open_request(self) -> None:
        if self._asked is not None:
            self._asked.cancel()

    def route(self) -> None:
        """Ask for the route of the text; cancel an open request."""
        for timer in self._timers:
            self.after_cancel(timer)
        self._cancel_open_request()
        if self.service is None:
            return
        if not self._text:
            self._show(None)
            return
        try:
            asked = self._asked = self.service.submit(self._text, scores=True)
        except ArchRouteError as exc:
            self._show_error(str(exc))
            return
        # Called in the service's thread, which must not touch the window.
        asked.add_done_callback(lambda done: self._results.put(lambda: self._on_decided(done)))

    # Results.

    def _look(self) -> None:
        while True:
            try:
                show = self._results.get_nowait()
            except queue.Empty:
                break
            show()
        self._looking = self.after(LOOK_EVERY_MS, self._look)

    def _on_decided_ahead(self, text: str, done: Future[Warmup]) -> None:
        # Cancelled if the user typed on, or pressed Enter, in time.
        if text == self._text and not done.cancelled():
            self.route()

    def _on_decided(self, done: Future[Decision]) -> None:
        if done is not self._asked:
            return
        try:
            self._show(done.result())
        except CancelledError:
            return
        except ArchRouteError as exc:
            self._show_error(str(exc))

    def _show(self, decision: Decision | None) -> None:
        scores = decision.scores if decision is not None and decision.scores is not None else {}
        for name in self.table.get_children():
            self.table.set(name, "score", f"{scores[name]:.0%}" if name in scores else "")
            self.table.item(name, tags=("chosen",) if decision is not None and name == decision.route else ())
        self.confidence["value"] = decision.confidence if decision is not None else 0
        self.route_name["text"] = decision.route if decision is not None else ""
        if decision is None:
            self.detail["text"] = ""
            return
        self.detail["text"] = f"{decision.confidence:.0%} sure" + (f", so ask {decision.model}" if decision.model else "")
        cost = (
            f"{decision.timings.total_ms:.0f} ms, {decision.tokens.reused} tokens reused, {decision.tokens.evaluated} evaluated"
        )
        self.status.configure(text=f"{decision.decided_by}: {cost}", style="Quiet.TLabel")

    def _show_error(self, message: str) -> None:
        self.status.configure(text=message, style="Bad.TLabel")

    def close(self) -> None:
        """Close the window and the service."""
        self._closed = True
        self.after_cancel(self._looking)
        self._root.destroy()
        if self.service is not None:
            self.service.close(drain=False)


def style(root: tk.Tk, palette: Palette = LIGHT) -> None:
    """Fonts and colours."""
    theme = ttk.Style(root)
    theme.theme_use("clam")
    family = font.nametofont("TkDefaultFont").actual("family")
    for name, size, weight in (("AppText", 12, "normal"), ("AppHeading", 10, "bold"), ("AppRoute", 20, "bold")):
        root.tk.call("font", "create", name, "-family", family, "-size", size, "-weight", weight)
    root.configure(background=palette.window)
    theme.configure(".", background=palette.window, foreground=palette.ink)
    theme.configure("Heading.TLabel", font="AppHeading", foreground=palette.quiet)
    theme.configure("Route.TLabel", font="AppRoute", foreground=palette.accent)
    theme.configure("Quiet.TLabel", foreground=palette.quiet)
    theme.configure("Bad.TLabel", foreground=palette.bad)
    theme.configure("Treeview", rowheight=pixels(root, 30), background=palette.paper, fieldbackground=palette.paper)
    theme.configure("Treeview", foreground=palette.ink, borderwidth=0)
    theme.configure("Treeview.Cell", padding=(pixels(root, 8), 0))
    theme.configure("Treeview.Heading", padding=(pixels(root, 8), pixels(root, 3)))
    theme.configure("Treeview.Heading", background=palette.window, foreground=palette.quiet, relief="flat")
    theme.map("Treeview.Heading", background=[("active", palette.window)])
    bar = "Confidence.Horizontal.TProgressbar"
    theme.configure(bar, background=palette.accent, troughcolor=palette.edge, thickness=pixels(root, 8), borderwidth=0)
    # The theme draws a frame in these colours around both.
    theme.configure("Treeview", bordercolor=palette.edge, lightcolor=palette.edge, darkcolor=palette.edge)
    theme.configure(bar, bordercolor=palette.edge, lightcolor=palette.accent, darkcolor=palette.accent)


def main() -> None:
    """Open the window."""
    parser = argparse.ArgumentParser(description="Show the route of a message while it is being typed.")
    parser.add_argument("--config", help="routes and models; without it, five example routes")
    parser.add_argument("--model", default="auto", help="as for archroute route")
    parser.add_argument("--dark", action="store_true", help="light text on a dark window")
    chosen = parser.parse_args()
    palette = DARK if chosen.dark else LIGHT

    def open_service() -> RoutingService:
        if chosen.config is not None:
            return RoutingService(Router.from_config(chosen.config, model=chosen.model))
        with resources.as_file(EXAMPLE_ROUTES) as example:
            return RoutingService(Router(config=load_config(example), model=chosen.model))

    root = tk.Tk()
    root.title("archroute-edge")
    root.minsize(pixels(root, 980), pixels(root, 380))
    style(root, palette)
    TypingApp(root, open_service, palette).pack(fill="both", expand=True)
    root.mainloop()


if __name__ == "__main__":
    main()
