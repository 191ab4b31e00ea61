"""Every page of --help says all that was written for it."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from forecast import cli


def pages(command: Any, *words: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and sub-command with the words that it is called by."""
    yield words, command
    names = command.list_commands(None) if hasattr(command, "list_commands") else []
    for name in names:
        yield from pages(command.get_command(None, name), *words, name)


PAGES = dict(pages(typer.main.get_command(cli.app)))


def shown(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr("sys.argv", ["forecast", *words, "--help"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


@pytest.mark.parametrize("words", list(PAGES), ids=lambda words: " ".join(words) or "forecast")
def test_a_help_page_holds_every_word(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = shown(words, monkeypatch, capsys)
    command = PAGES[words]
    for each in [command, *command.params]:
        text = re.sub(r"\\\[", "[", str(getattr(each, "help", None) or ""))
        for line in filter(None, map(str.strip, text.split("\n\n"))):
            assert " ".join(line.split()) in page
    assert "\\[" not in page


def test_tables_of_a_recipe_are_named_in_the_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "[retention]" in shown(("prune",), monkeypatch, capsys)
    assert "[checks]" in shown(("retrain",), monkeypatch, capsys)
    listed = shown((), monkeypatch, capsys)
    assert "[retention]" in listed
    assert "[schedule]" in listed


@pytest.mark.parametrize(
    ("words", "meant"),
    [(["retrian"], "retrain"), (["recipe", "chekc"], "check"), (["retrain", "x", "--dryrun"], "--dry-run")],
)
def test_a_misspelt_word_is_answered_with_the_nearest_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], meant: str
) -> None:
    monkeypatch.setattr("sys.argv", ["forecast", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert meant in capsys.readouterr().err
