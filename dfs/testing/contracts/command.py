"""The contract of a command: it explains itself, prints through its context, and fails in known ways."""

import contextlib
import json
import re
import sys
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import click
import pytest
from click.testing import CliRunner
from hypothesis import given, settings, strategies as st

from dfs.core.api import CommandPlugin, DfsError, Options, QuorumError, Settings
from dfs.testing.commands import Recorder
from dfs.testing.contracts.base import Contract, property_test

GLOBAL_OPTIONS: Final = frozenset(
    {
        *("-c", "--conf", "-C", "--cluster", "-u", "--user", "-v", "--verbose", "-q", "--quiet", "--json"),
        *("--json-lines", "--progress", "--jobs", "--timeout", "--limit-up", "--limit-down", "--strict"),
        *("-y", "--yes", "--log-json", "--stats", "--plugin", "--no-color", "--debug"),
    }
)
KEY_PATTERN: Final = re.compile(r"[a-z][a-z0-9_]*")
NO_SUCH_FLAG: Final = "--colour-of-the-bicycle-shed"
WORD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


def parts_of(command: click.Command) -> list[click.Command]:
    """Return a command and, of a group, those below it."""
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return [command, *(part for child in below for part in parts_of(child))]


class CommandContract(Contract[CommandPlugin]):
    """Derive it and name the ``plugin``; ``examples``: arguments with which it does its work.

    Override `context` for a command that needs a conf or a cluster.
    """

    kind = CommandPlugin
    examples: ClassVar[Any] = ()  # sequences of words

    def new(self) -> click.Command:
        """Return the command."""
        command: click.Command = self.plugin.make(Options())
        return command

    def made(self, values: Settings) -> object:
        """Make one with these options."""
        return self.plugin.make(Options(values=values))

    def context(self) -> Recorder:
        """Return what the command gets by ``@click.pass_obj``."""
        return Recorder()

    def run(
        self, arguments: Sequence[str], context: Recorder | None = None, command: click.Command | None = None
    ) -> Recorder:
        """Run it as `dfs` does; what it printed by itself fails the test."""
        used, chosen = context or self.context(), command or self.new()
        with CliRunner().isolation() as (out, err, *_):
            try:
                chosen.main(list(arguments), prog_name="dfs", standalone_mode=False, obj=used)
            finally:
                sys.stdout.flush()
                printed = out.getvalue() + err.getvalue()
        asked_for_help = "--help" in arguments or "-h" in arguments
        assert asked_for_help or not printed, f"printed past its context: {printed!r}"
        return used

    def examples_or_skip(self) -> Sequence[Sequence[str]]:
        """Return the examples; skips the test when there are none."""
        if not self.examples:
            pytest.skip("no examples: set `examples` to arguments with which the command does its work")
        return tuple(self.examples)

    def test_making_it_twice_gives_the_same(self) -> None:
        """A prompt makes commands anew: nothing depends on how often it was made."""
        first, second = self.new(), self.new()
        assert isinstance(first, click.Command)
        assert [part.name for part in parts_of(first)] == [part.name for part in parts_of(second)]

    def test_it_is_called_by_its_name(self) -> None:
        """``dfs NAME`` finds the command whose name the plugin declares."""
        assert self.new().name == self.plugin.name

    def test_help_tells_what_it_does(self) -> None:
        """``--help`` works without any context, and says something of the command and of each option."""
        for part in parts_of(self.new()):
            assert (part.help or "").strip(), f"{part.name} has no help"
            assert part.get_short_help_str(limit=200).strip()
            for parameter in part.params:
                if isinstance(parameter, click.Option) and not parameter.hidden:
                    assert (parameter.help or "").strip(), f"{part.name} {parameter.opts[0]} has no help"
        context = Recorder()
        with CliRunner().isolation() as (out, *_):
            try:
                self.new().main(["--help"], prog_name="dfs", standalone_mode=False, obj=context)
            except click.exceptions.Exit as ended:
                code = ended.exit_code
            else:
                code = 0
            text = out.getvalue().decode()
        assert code == 0
        assert "--help" in text
        assert context == Recorder(refusal=context.refusal), "--help did some work"

    def test_options_of_dfs_are_left_alone(self) -> None:
        """An option with the name of one of `dfs` would hide it."""
        for part in parts_of(self.new()):
            shown = [each for each in part.params if not (isinstance(each, click.Option) and each.hidden)]
            own = {text for parameter in shown for text in (*parameter.opts, *parameter.secondary_opts)}
            assert not own & GLOBAL_OPTIONS, f"{part.name} hides {sorted(own & GLOBAL_OPTIONS)}"

    def test_unknown_options_are_usage_errors(self) -> None:
        """A misspelt option is told, not passed over; nothing was done before."""
        for part in parts_of(self.new()):
            if isinstance(part, click.Group):
                continue
            context = self.context()
            with pytest.raises(click.UsageError):
                self.run([NO_SUCH_FLAG], context, part)
            assert not context.emitted

    @settings(property_test, max_examples=40)
    @given(st.lists(WORD, min_size=1, max_size=4))
    def test_any_words_end_in_a_known_way(self, words: list[str]) -> None:
        """Whatever stands on the command line: a result, a usage error or a DfsError; nothing else."""
        if any(word in {"-h", "--help"} for word in words):
            return
        with contextlib.suppress(click.ClickException, click.exceptions.Exit, click.Abort, DfsError):
            self.run(words, Recorder())

    def test_results_are_records(self) -> None:
        """Each example emits values a program can read: JSON, keys in snake_case, one line of text each."""
        for arguments in self.examples_or_skip():
            context = self.run(arguments)
            assert context.emitted or context.notes, f"{arguments} said nothing"
            for kind, values, text in context.emitted:
                assert not kind or KEY_PATTERN.fullmatch(kind), kind
                assert json.loads(json.dumps(values)) is not None
                assert all(KEY_PATTERN.fullmatch(key) for key in values), sorted(values)
                assert not set(text) & set("\r\x1b\0"), "control characters are the output's business"
            assert all(note.strip() and "\x1b" not in note for note in context.notes)

    def test_nothing_is_kept_between_two_runs(self) -> None:
        """The same command object, run twice, says twice the same: `dfs` at its prompt keeps it."""
        for arguments in self.examples_or_skip():
            command = self.new()
            first, second = (self.run(arguments, self.context(), command) for _ in range(2))
            assert [kind for kind, _, _ in first.emitted] == [kind for kind, _, _ in second.emitted]
            assert [sorted(values) for _, values, _ in first.emitted] == [
                sorted(values) for _, values, _ in second.emitted
            ]

    def test_errors_are_not_swallowed(self) -> None:
        """A cluster that cannot be reached is an error of the command too, raised or told by `fail`."""
        met = False
        for arguments in self.examples_or_skip():
            context = Recorder(refusal=QuorumError("too few nodes answered"))
            try:
                self.run(arguments, context)
            except DfsError:
                met = True
            else:
                met = met or bool(context.used)
                assert context.failures or not context.used, "an error was swallowed"
        if not met:
            pytest.skip("its examples need no cluster")
