"""`geoseg train`: a model from a settings file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geoseg.cli.console import LogFormat, LogFormatOption, Quiet, Verbose, log, start
from geoseg.paths import expanded


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="TOML file: what to train, on what, for how long.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Weights to write. Unset: CONFIG's name, .safetensors, in this folder.",
        ),
    ] = None,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    tensorboard: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Folder for TensorBoard's curves.")] = None,
    stop_after: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="MINUTES", help="Stop with a checkpoint after so many minutes; the same command goes on."
        ),
    ] = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
    log_format: LogFormatOption = LogFormat.text,
) -> None:
    """Train a model, from scratch or from another; started again, it goes on from its last checkpoint."""
    start(verbose=verbose, quiet=quiet, log_format=log_format)
    from geoseg.training import read_train_config
    from geoseg.training import train as run
    from geoseg.training.checkpoint import checkpoint_of
    from geoseg.training.processes import Crew

    config = expanded(config)
    target = expanded(output or f"{config.stem}.safetensors")
    try:
        settings = read_train_config(config)
        run(settings, target, device=device, log=log.info, tensorboard=tensorboard, stop_after_min=stop_after)
    except KeyboardInterrupt:
        kept = "training goes on from its checkpoint" if checkpoint_of(target).exists() else "no step is kept yet"
        raise KeyboardInterrupt(kept) from None
    if Crew.here().leads:
        typer.echo(target)
