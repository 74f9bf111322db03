"""`geoseg doctor`: is everything that geoseg stands on in working order?"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from geoseg.cli.checks import Check, all_checks
from geoseg.cli.console import Verbose, flag, out, start
from geoseg.cli.exits import ENVIRONMENT

_LOOK = {"ok": ("ok", "green"), "warn": ("warning", "yellow"), "broken": ("BROKEN", "bold red")}


def doctor(
    as_json: Annotated[bool, flag("--json", help="Print the checks as one JSON array.")] = False,
    quiet: Annotated[bool, flag("--quiet", "-q", help="Only what is wrong.")] = False,
    verbose: Verbose = False,
) -> None:
    """Look at the installation and the machine; say what is wrong and what to do about it."""
    start(verbose=verbose)
    checks: list[Check] = []
    for check in all_checks():
        checks.append(check)
        if not as_json and not (quiet and check.status == "ok"):
            _show(check)
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in checks], indent=2))
    broken = [check.name for check in checks if check.status == "broken"]
    if broken:
        raise typer.Exit(ENVIRONMENT)
    if not (quiet or as_json):
        out.print("geoseg is in working order.", style="green")


def _show(check: Check) -> None:
    word, style = _LOOK[check.status]
    out.print(Text.assemble((f"{word:8}", style), f"{check.name:15}", check.found))
    if check.remedy:
        out.print(Text(f"{'':23}-> {check.remedy}", style=style))
