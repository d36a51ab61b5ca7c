"""``python -m tools.docs``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tools.docs.checking import PAGES, check_page
from tools.docs.console import ROOT


@click.group()
def main() -> None:
    """Keep the pages true: see tools/docs/__init__.py."""


@main.command()
@click.argument("pages", nargs=-1, type=click.Path(path_type=Path))
def check(pages: tuple[Path, ...]) -> None:
    """Report where PAGES, all by default, differ from the program."""
    found = [check_page(page) for page in _chosen(pages)]
    differences = [text for page in found for text in page.differences]
    problems = [text for page in found for text in page.problems]
    for text in (*differences, *problems):
        click.echo(text)
    if differences:
        click.echo("to write what commands print now into the pages: python -m tools.docs write", err=True)
    sys.exit(1 if differences or problems else 0)


@main.command()
@click.argument("pages", nargs=-1, type=click.Path(path_type=Path))
def write(pages: tuple[Path, ...]) -> None:
    """Write differing outputs into PAGES, all by default; report problems to correct by hand."""
    left = False
    for page in _chosen(pages):
        found = check_page(page)
        if found.differences:
            page.write_text(found.text, encoding="utf-8")
            click.echo(f"{page.relative_to(ROOT)}: written", err=True)
        for text in found.problems:
            click.echo(text)
            left = True
    sys.exit(1 if left else 0)


@main.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), default=ROOT / "docs", help="Folder to write to.")
def pictures(output: Path) -> None:
    """Make the pictures of the example app, light and dark; needs Xvfb, Pillow and tkinter."""
    # A machine without a screen can check the pages.
    from tools.docs.pictures import make_pictures

    for path, said in make_pictures(output).items():
        click.echo(f"{path}: {said}")


@main.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), default=ROOT / "docs", help="Folder to write to.")
def page(output: Path) -> None:
    """Make the pictures of the server's page, light and dark; needs Chromium and Pillow."""
    # A machine without a browser can check the pages.
    from tools.docs.page_pictures import make_pictures

    for path in make_pictures(output):
        click.echo(f"{path}: {path.stat().st_size:,} bytes")


def _chosen(pages: tuple[Path, ...]) -> tuple[Path, ...]:
    chosen = tuple(page.resolve() for page in pages)
    for page in chosen:
        if page not in PAGES:
            raise click.UsageError(f"{page} is none of the pages: {', '.join(str(each.relative_to(ROOT)) for each in PAGES)}")
    return chosen or PAGES


if __name__ == "__main__":
    main(prog_name="python -m tools.docs")
