# SPDX-License-Identifier: MIT
"""fastnorm.commands - the command line: normalize, stats, bench, info.

Every mistake of the user's ends in one sentence on stderr and exit status 2 (see
fastnorm.terminal). The work on files is in fastnorm.blockwise and fastnorm.files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from . import RunningMoments, __version__, show_config
from .blockwise import Channels, Job, Rows, file_moments
from .blockwise import run as run_job
from .files import NewArray, load, open_array, replacing
from .terminal import Axes, Bar, Bytes

# What each operation takes besides the options that all take.
_OPTIONS_OF = {
    "layer_norm": {"axis", "weight", "bias"},
    "rms_norm": {"axis", "weight"},
    "batch_norm": {
        "channel_axis", "weight", "bias", "running_mean", "running_var", "stats",
    },
    "standardize": {"channel_axis", "stats"},
}  # fmt: skip
_TABLE_ROWS = 40


_memory = click.option(
    "--memory", type=Bytes(), default="64M", show_default=True,
    help="About how much memory to work in.",
)  # fmt: skip
_threads = click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="[default: FASTNORM_NUM_THREADS or all CPUs]",
)
_quiet = click.option("--quiet", is_flag=True, help="No progress bar.")


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 88}
)
@click.version_option(__version__, prog_name="fastnorm")
def app() -> None:
    """Normalization of arrays in .npy files, at the speed of a copy.

    \b
    fastnorm normalize x.npy y.npy --op layer_norm
    fastnorm stats train.npy --save stats.npz
    fastnorm normalize test.npy out.npy --op standardize --stats stats.npz
    fastnorm bench --quick
    """  # noqa: D301 (click reads the backspace)


@app.command()
@click.argument("source", metavar="IN.npy", type=click.Path())
@click.argument("target", metavar="OUT.npy", type=click.Path())
@click.option("--op", required=True, type=click.Choice(list(_OPTIONS_OF)))
@click.option(
    "--axis", type=Axes(),
    help="Axis, or adjacent axes, to normalize over (layer_norm, rms_norm). "
    "[default: -1]",
)  # fmt: skip
@click.option(
    "--channel-axis", type=int,
    help="Axis whose entries have their own statistics. [default: 1 for batch_norm, "
    "the last for standardize, whose files of one axis are one feature]",
)  # fmt: skip
@click.option("--weight", type=click.Path(), help=".npy, multiplied after the norm.")
@click.option("--bias", type=click.Path(), help=".npy, added after the weight.")
@click.option("--running-mean", type=click.Path(), help=".npy, stored mean.")
@click.option("--running-var", type=click.Path(), help=".npy, stored variance.")
@click.option(
    "--stats", type=click.Path(),
    help="Stored statistics: what 'fastnorm stats --save' wrote.",
)  # fmt: skip
@click.option(
    "--eps", type=float,
    help="Added to the variance. [default: 1e-5; standardize: 0; rms_norm: the machine "
    "epsilon]",
)  # fmt: skip
@click.option(
    "--dtype", type=click.Choice(["float32", "float64"]),
    help="Convert to this first; needed for files of integers and float16.",
)  # fmt: skip
@_memory
@_threads
@click.option("--force", is_flag=True, help="Replace OUT.npy if it exists.")
@_quiet
def normalize(
    source: str, target: str, op: str, dtype: str | None, eps: float | None,
    memory: int, threads: int | None, force: bool, quiet: bool, **given: Any,
) -> None:  # fmt: skip
    """Normalize IN.npy into OUT.npy, in blocks: any size of file works.

    Without stored statistics, batch_norm and standardize use those of the whole file
    (the variance divided by the count). OUT.npy has the shape and the order of IN.npy
    and appears when it is complete; it may be IN.npy (with --force). Parameters are
    converted to the type of the data.

    \b
    fastnorm normalize tokens.npy out.npy --op layer_norm --weight w.npy --bias b.npy
    fastnorm normalize table.npy out.npy --op standardize
    fastnorm normalize photos.npy out.npy --op standardize --dtype float32
    fastnorm normalize nchw.npy out.npy --op batch_norm \\
        --running-mean mean.npy --running-var var.npy
    """  # noqa: D301 (click reads the backspace)
    for name, value in given.items():
        if value is not None and name not in _OPTIONS_OF[op]:
            raise ValueError(f"--{name.replace('_', '-')} has no meaning for {op}")
    array = open_array(source)
    work = _working_dtype(source, array, dtype)
    if array.ndim == 0:
        raise ValueError(f"{source} holds a single number, which has no axes")
    if eps is None:
        eps = {"standardize": 0.0, "rms_norm": float(np.finfo(work).eps)}.get(op, 1e-5)
    if not 0 <= eps < np.inf:
        raise ValueError(f"--eps is {eps}, it must be finite and not negative")
    norm: Rows | Channels
    if op in ("layer_norm", "rms_norm"):
        norm = Rows(_adjacent(given["axis"] or (-1,), array.ndim), op == "layer_norm")
        shape = tuple(array.shape[i] for i in norm.axes)
    else:
        norm = _channels(op, array, work, given)
        shape = (array.size if norm.axis is None else array.shape[norm.axis],)
    weight, bias = (_parameter(given[name], shape, work) for name in ("weight", "bias"))
    with (
        NewArray(
            target, array.shape, work,
            fortran_order=not array.flags.c_contiguous, force=force,
        ) as output,
        Bar(op, array.size, quiet) as bar,
    ):  # fmt: skip
        job = Job(norm, work, eps, weight, bias, memory, threads, bar)
        run_job(array, output, job)


def _working_dtype(
    source: str, array: NDArray[Any], dtype: str | None
) -> np.dtype[Any]:
    if dtype is not None:
        return np.dtype(dtype)
    if array.dtype.kind != "f" or array.dtype.itemsize not in (4, 8):
        raise ValueError(
            f"{source} has dtype {array.dtype}, --dtype float32 or --dtype float64 "
            "must say what to convert it to"
        )
    return array.dtype.newbyteorder("=")


def _axis_index(axis: int, ndim: int) -> int:
    if not -ndim <= axis < ndim:
        raise ValueError(f"axis {axis} is outside of the {ndim} axes of the file")
    return axis % ndim


def _adjacent(axes: tuple[int, ...], ndim: int) -> tuple[int, ...]:
    indices = tuple(sorted(_axis_index(axis, ndim) for axis in axes))
    if indices != tuple(range(indices[0], indices[0] + len(indices))):
        raise ValueError(f"--axis {','.join(map(str, axes))} are not adjacent axes")
    return indices


def _channels(
    op: str, array: NDArray[Any], work: np.dtype[Any], given: dict[str, Any]
) -> Channels:
    """The channel axis, and the stored statistics if there are any."""
    axis = given["channel_axis"]
    if axis is None and op == "standardize":
        axis = -1 if array.ndim > 1 else None
    elif axis is None:
        axis = 1
    axis = None if axis is None else _axis_index(axis, array.ndim)
    channels = 1 if axis is None else array.shape[axis]
    mean, var = given["running_mean"], given["running_var"]
    if (mean is None) != (var is None):
        raise ValueError("--running-mean and --running-var must come together")
    if given["stats"] is not None:
        if mean is not None:
            raise ValueError("--stats and --running-mean are two sources of one thing")
        return Channels(axis, *_saved_stats(given["stats"], channels))
    if mean is None:
        if op == "batch_norm" and array.size == channels > 0:
            raise ValueError("batch_norm: one value per channel has no variance")
        return Channels(axis)
    means = _parameter(mean, (channels,), _precise(mean, work))
    variances = _parameter(var, (channels,), _precise(var, work))
    if variances is not None and np.any(variances < 0):
        raise ValueError(f"{var} has negative values, a variance has none")
    return Channels(axis, means, variances)


def _precise(path: str, work: np.dtype[Any]) -> np.dtype[Any]:
    """float64 for statistics that are stored so, which float32 would spoil."""
    stored = open_array(path).dtype
    return np.dtype("f8") if stored.kind == "f" and stored.itemsize > 4 else work


def _saved_stats(path: str, channels: int) -> tuple[NDArray[Any], NDArray[Any]]:
    try:
        saved = RunningMoments.load(path)
    except (ValueError, TypeError, EOFError) as error:
        raise ValueError(f"{path} is not what 'fastnorm stats --save' wrote") from error
    count = np.size(saved.count)
    if count != channels:
        raise ValueError(f"{path} has {count} channels, the file has {channels}")
    if np.any(saved.count < 1):
        raise ValueError(f"{path} holds statistics of no values")
    return np.ravel(saved.mean), np.ravel(saved.var())


def _parameter(
    path: str | None, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> NDArray[Any] | None:
    if path is None:
        return None
    values = load(path, dtype)
    if values.shape != shape:
        raise ValueError(f"{path} has shape {values.shape}, {shape} is needed")
    return values


@app.command()
@click.argument("sources", metavar="FILE.npy...", nargs=-1, required=True)
@click.option(
    "--channel-axis", type=int,
    help="Axis whose entries have their own statistics. [default: the last; a file of "
    "one axis is one feature]",
)  # fmt: skip
@click.option("--all", "whole", is_flag=True, help="One mean and std of everything.")
@click.option(
    "--ddof", type=click.IntRange(min=0), default=0, show_default=True,
    help="Divide the squares by count - ddof.",
)  # fmt: skip
@click.option(
    "--nan", type=click.Choice(["propagate", "omit", "error"]), default="propagate",
    show_default=True, help="NaN makes its channel's NaN, is missing, or is a mistake.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON (not finite: null).")
@click.option("--plot", type=click.Path(), help="Draw mean and std (.png, .svg, .pdf).")
@click.option(
    "--save",
    type=click.Path(),
    help="Write an .npz for normalize --stats, and for RunningMoments.load.",
)
@_memory
@_threads
@_quiet
def stats(
    sources: tuple[str, ...], channel_axis: int | None, whole: bool, ddof: int,
    nan: Literal["propagate", "error", "omit"], as_json: bool, plot: str | None,
    save: str | None, memory: int, threads: int | None, quiet: bool,
) -> None:  # fmt: skip
    """Count, mean, deviation, minimum, maximum of each channel over all files.

    Files are read in blocks and merged, in float64; any real type will do. What --save
    writes can be merged with others in Python, see fastnorm.RunningMoments.

    \b
    fastnorm stats photos-*.npy                     (channels last)
    fastnorm stats nchw.npy --channel-axis 1 --plot channels.png
    fastnorm stats table.npy --ddof 1 --json
    """  # noqa: D301 (click reads the backspace)
    if whole and channel_axis is not None:
        raise ValueError("--all and --channel-axis exclude each other")
    total: RunningMoments | None = None
    for source in sources:
        array = open_array(source)
        axis = channel_axis
        if axis is None and not whole and array.ndim > 1:
            axis = -1
        axis = None if axis is None else _axis_index(axis, array.ndim)
        with Bar(source, array.size, quiet) as bar:
            try:
                found = file_moments(
                    array, axis, nan, memory, num_threads=threads, progress=bar
                )
            except ValueError as error:
                raise ValueError(f"{source}: {error}") from error
        if total is not None and found.shape != total.shape:
            ours, first = (m.shape[0] if m.shape else "no" for m in (found, total))
            raise ValueError(f"{source} has {ours} channels, {sources[0]} has {first}")
        total = found if total is None else total.merge(found)
    assert total is not None
    if save is not None:
        with replacing(save) as file:
            total.save(file)
    results = {
        name: np.ravel(values)
        for name, values in (
            ("count", total.count), ("mean", total.mean), ("var", total.var(ddof)),
            ("std", total.std(ddof)), ("min", total.min), ("max", total.max),
        )
    }  # fmt: skip
    if plot is not None:
        from .plots import plot_channels

        plot_channels(plot, results["mean"], results["std"])
    if as_json:
        lists = {name: _finite(values) for name, values in results.items()}
        facts = {"files": sources, "ddof": ddof}
        click.echo(json.dumps(facts | lists, allow_nan=False))
    else:
        del results["var"]
        _print_table(results)


def _finite(values: NDArray[Any]) -> list[float | None]:
    return [v if np.isfinite(v) else None for v in values.tolist()]


def _print_table(columns: dict[str, NDArray[Any]]) -> None:
    table = Table(caption=None)
    for heading in ("channel", *columns):
        table.add_column(heading, justify="right")
    channels = columns["count"].size
    shown: Sequence[int] = range(channels)
    if channels > _TABLE_ROWS:
        half = _TABLE_ROWS // 2
        shown = [*range(half), *range(channels - half, channels)]
    for row, i in enumerate(shown):
        if row and i != shown[row - 1] + 1:
            table.add_row("...")
        words = [
            f"{column[i]:.9g}" for name, column in columns.items() if name != "count"
        ]
        table.add_row(str(i), str(columns["count"][i]), *words)
    Console().print(table)
    if channels > _TABLE_ROWS:
        click.echo(f"{channels} channels in all: --json or --save give every one")


@app.command()
@click.option("--quick", is_flag=True, help="Fewer shapes and rounds.")
@click.option(
    "--json", "json_path", is_flag=False, flag_value="-", metavar="[PATH]",
    help="Write JSON: to stdout, or to PATH beside the table.",
)  # fmt: skip
@click.option("--plot", type=click.Path(), help="Draw the ratios (.png, .svg, .pdf).")
@click.option("--case", metavar="REGEX", help="Only cases whose name matches.")
@click.option(
    "--engine", "engines", multiple=True,
    help="fastnorm, numpy, torch, onnxruntime, sklearn; may be repeated. "
    "[default: all that are installed]",
)  # fmt: skip
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), help="How often to measure.")
@click.option("--accuracy", is_flag=True, help="Errors on hostile input, not times.")
@click.option(
    "--dtype", type=click.Choice(["float32", "float64"]), default="float32",
    show_default=True,
)  # fmt: skip
def bench(**options: Any) -> None:
    """Measure this machine: time, ratio to np.copyto, speed-up, largest error.

    \b
    fastnorm bench --quick
    fastnorm bench --case layer_norm --engine fastnorm --engine torch --plot bench.png
    """  # noqa: D301 (click reads the backspace)
    from . import bench as measurement

    measurement.main(**options)


@app.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(as_json: bool) -> None:
    """Version, instruction sets, threads and build."""
    config = show_config(mode="dicts")
    if as_json:
        click.echo(json.dumps(config))
        return
    table = Table(show_header=False)
    for key, value in config.items():
        text = ", ".join(value) if isinstance(value, (list, tuple)) else str(value)
        table.add_row(key, text)
    Console().print(table)
