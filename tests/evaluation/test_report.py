"""The report of made-up decisions: what comes first, and which model was right."""

from __future__ import annotations

from archroute_edge.evaluation import Case, CaseResult, EvaluationReport, compare, evaluation_page, report_on
from archroute_edge.evaluation._figures import confusion_tables, differing_table, summary_table, tag_tables
from archroute_edge.routes import Route, RouteTable

TABLES = [RouteTable([Route("a"), Route("b"), Route(f"only in {number}")]) for number in range(3)]
DOMAINS = ("shop", "bank", "travel")


def reports(*decided: str) -> EvaluationReport:
    """Two cases a table, of which the first belongs to ``a`` and the second to ``other``; a string of decisions a model."""
    cases = [
        Case(
            number + 1,
            f"<b>message {number}</b>",
            TABLES[number // 2],
            "a" if number % 2 == 0 else "other",
            None,
            0,
            None,
            tags,
        )
        for number in range(6)
        for tags in [(DOMAINS[number // 2], "typos" if number % 2 else "plain")]
    ]
    models = []
    for name, words in zip("mn", decided, strict=False):
        results = {}
        for place, (case, route) in enumerate(zip(cases, words.split(), strict=True)):
            scores = {each: 0.7 if each == route else 0.1 for each in (*case.table.names, "other")}
            results[place] = CaseResult(case.line, case.route, route, 0.7, scores, route, None, 1.0, 9, 0, 9, False)
        models.append(report_on(name, "none", cases, results))
    return EvaluationReport("here", 6, 3, models, compare(*models) if len(models) > 1 else None)


def test_kinds_of_message_stand_before_domains_and_the_worst_first() -> None:
    kinds, domains = tag_tables(reports("a other a a b a"))
    assert (kinds.title, [row[0] for row in kinds.rows]) == ("Accuracy by kind of message", ["typos", "plain"])
    assert (domains.title, [row[0] for row in domains.rows]) == ("Accuracy by domain", ["travel", "bank", "shop"])


def test_confusions_are_those_of_a_table_the_worst_first() -> None:
    """Would break if routes of two tables that have one name were counted together."""
    (model,) = reports("a other a a b a").models
    worst, better = confusion_tables(model)
    assert worst.title == "a, b, only in 2: 0 of 2 right"
    assert worst.rows == [("a", "b 1", "0 of 1"), ("other", "a 1", "0 of 1")]
    assert (better.title, better.rows) == ("a, b, only in 1: 1 of 2 right", [("other", "a 1", "0 of 1")])


def test_a_comparison_says_which_model_was_right() -> None:
    report = reports("a other a a b a", "a other b other a b")
    assert report.comparison is not None
    table = differing_table(report.comparison, 9)
    assert table is not None
    assert [(row[0], row[4]) for row in table.rows] == [("3", "m"), ("4", "n"), ("5", "n"), ("6", "neither")]
    assert report.answer()[-1] == "n is right more often, by no more than chance could give; more cases would tell."


def test_a_page_says_when_and_how_and_what_first() -> None:
    report = reports("a other a a b a")
    page = evaluation_page(report, "2026-01-31 · archroute eval").render()
    places = [page.index(text) for text in ("2026-01-31", "m decides 50.0 % of 6 cases right", "Figures", "<svg", "<details>")]
    assert places == sorted(places)
    assert "<b>" not in page
    # An encoder has no prompt, and nothing is said of one.
    assert summary_table(report).headers == ["", "m"]
