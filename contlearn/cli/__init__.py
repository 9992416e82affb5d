"""The `contlearn` program: a group whose commands are loaded when they are called."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from contlearn.cli.settings import Settings
from contlearn.cli.terminal import (
    Terminated,
    as_json_text,
    ended_by_sigterm,
    prepare_streams,
    quiet_pipe,
)
from contlearn.errors import ContlearnError
from contlearn.redaction import redact
from contlearn.version import __version__

__all__ = ["cli", "main"]

# Name → (module of contlearn.cli, one line of help). The module has a command of the same name.
COMMANDS: Final = {
    "init": ("init", "Make a workspace: contlearn.toml and the folders."),
    "ingest": ("ingest", "Check labelled files and take them in."),
    "update": ("update", "Learn what is new, prove it, and promote it if the gate allows."),
    "status": ("status", "Show what is served, what waits and what runs."),
    "history": ("history", "Show all cycles, promotions and rollbacks."),
    "show": ("show", "Show one version: lineage, measures, decision, files."),
    "diff": ("diff", "Show what changed from one version to another."),
    "anchor": ("anchor", "The best proven version, from which small losses are counted."),
    "alias": ("alias", "Give versions names of their own."),
    "verify": ("verify", "Check that the files of versions are as they were written."),
    "evaluate": ("evaluate", "Score a version, as it is served, on held-out sets or a file."),
    "predict": ("predict", "Predict texts with the champion or another version."),
    "promote": ("promote", "Make a version the champion."),
    "rollback": ("rollback", "Go back to the former champion."),
    "export": ("export", "Copy a version into a folder that optimum and onnxruntime load."),
    "serve": ("serve", "Answer predictions over HTTP, following the champion."),
    "suggest": ("suggest", "Choose the unlabelled texts most worth a label."),
    "bench": ("bench", "Measure on this machine: strategies on your records, serving."),
    "daemon": ("daemon", "Watch workspaces and update when there is a reason to."),
    "notify": ("notify", "Test the notifications, send what waits, make a secret."),
    "drift": ("drift", "Say whether the world has changed, and how right the answers still are."),
    "report": ("report", "Write a page: the model's history, or one version with its worst flips."),
    "metrics": ("metrics", "Print the metrics, or write them for node_exporter."),
    "data": ("data", "Look after records and the quarantine."),
    "catalog": ("catalog", "Say whose the catalog is, and claim one."),
    "config": ("config", "Show the configuration and its schema."),
    "plugins": ("plugins", "List plugins and check them."),
    "doctor": ("doctor", "Check this machine and this installation."),
    "demo": ("demo", "Run a real story from data to rollback in a few minutes."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module only when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List built-in commands in the order of a newcomer's day, then those of plugins."""
        self._add_plugin_commands(ctx)
        return [*COMMANDS, *sorted(set(self.commands) - set(COMMANDS))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one command."""
        if cmd_name in COMMANDS:
            module = importlib.import_module(f"contlearn.cli.{COMMANDS[cmd_name][0]}")
            command: click.Command = module.command
            return command
        self._add_plugin_commands(ctx)
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands without importing them."""
        rows = [(name, text) for name, (_, text) in COMMANDS.items()]
        self.list_commands(ctx)
        rows.extend(
            (name, command.get_short_help_str(70))
            for name, command in sorted(self.commands.items())
            if name not in COMMANDS
        )
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the near name of an unknown command."""
        import difflib

        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            near = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
            raise click.UsageError(
                f"There is no command {name!r}." + (f" Did you mean {near[0]!r}?" if near else ""),
                ctx,
            )
        return super().resolve_command(ctx, args)

    def _add_plugin_commands(self, ctx: click.Context) -> None:
        if ctx.meta.get("contlearn.plugins"):
            return
        ctx.meta["contlearn.plugins"] = True
        import importlib.metadata

        folder = ctx.params.get("plugins_dir")
        if not importlib.metadata.entry_points(group="contlearn") and folder is None:
            return
        from contlearn.plugins.manager import PluginManager

        PluginManager(folder=folder).add_commands(self, taken=COMMANDS)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Keep a text model learning: take in labels, fine-tune, prove, promote, serve, go back.",
)
@click.option(
    "--workspace",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    envvar="CONTLEARN_WORKSPACE",
    help="The workspace; the current folder if left out.",
)
@click.option("-v", "--verbose", count=True, help="Say more on standard error.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, no remarks.")
@click.option(
    "--plugins-dir",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Also load the plugin files in this folder. They are run as code.",
)
@click.version_option(__version__, prog_name="contlearn")
@click.pass_context
def cli(
    context: click.Context, workspace: Path, verbose: int, quiet: bool, plugins_dir: Path | None
) -> None:
    """Keep the settings of the group for the commands."""
    context.obj = Settings(root=workspace, verbose=verbose, quiet=quiet, plugins_dir=plugins_dir)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program: the one border where errors become messages and exit codes."""
    as_json = "--json" in (sys.argv[1:] if arguments is None else arguments)
    prepare_streams()
    code = 1
    # Whatever is told of the end, it does not change how it ended.
    with ended_by_sigterm(), quiet_pipe():
        code = _run(arguments, as_json=as_json)
    sys.exit(code)


def _run(arguments: Sequence[str] | None, *, as_json: bool) -> int:
    """Run a command and give its exit code; errors are shown here."""
    try:
        code = _within_group(arguments)
        return code if isinstance(code, int) else 0
    except ContlearnError as error:
        with quiet_pipe():
            _show(error, as_json=as_json)
        return error.exit_code
    except click.exceptions.Exit as error:
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        # click turns the one into the other, with the cause kept.
        by_signal = isinstance(error.__cause__ or error, Terminated)
        number = signal.SIGTERM if by_signal else signal.SIGINT
        with quiet_pipe():
            how = "Ended by SIGTERM" if by_signal else "Interrupted"
            click.echo(f"{how}. The same command takes the work up again.", err=True)
        return 128 + number
    except click.ClickException as error:
        with quiet_pipe():
            if as_json:
                _print_json(
                    {"error": error.format_message(), "where": "command line", "hint": None}
                )
            error.show()
        return error.exit_code
    except Exception as error:
        import traceback

        from contlearn.packages import missing_package

        missing = missing_package(error)
        if missing is not None:
            with quiet_pipe():
                _show(missing, as_json=as_json)
            return missing.exit_code
        with quiet_pipe():
            click.echo(redact(traceback.format_exc()), err=True, nl=False)
            click.echo(
                "This is a bug in contlearn. Please report it with the lines above.", err=True
            )
        return 1


def _within_group(arguments: Sequence[str] | None) -> object:
    """Call the group; a reader of our output that went away (`| head`) is no failure."""
    before = sys.stdout
    try:
        return cli.main(args=arguments, prog_name="contlearn", standalone_mode=False)
    except SystemExit as ended:
        # click ends the program on a closed pipe; what was written before is all that was wanted.
        if sys.stdout is before:
            return ended.code
        sys.stdout = before
        return 0


def _show(error: ContlearnError, *, as_json: bool) -> None:
    if as_json:
        _print_json(error.to_json())
    click.secho("Error: ", fg="red", bold=True, err=True, nl=False)
    click.echo(error.what, err=True)
    if error.where:
        click.echo(f"  where: {error.where}", err=True)
    if error.hint:
        click.echo(f"  to do: {error.hint}", err=True)


def _print_json(value: object) -> None:
    click.echo(as_json_text(value))
