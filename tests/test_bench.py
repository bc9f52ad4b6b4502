"""The benchmark's loop and its figures. No test looks at a time's size.

SPDX-License-Identifier: MIT
"""

import gc
import importlib.util
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fastnorm
from fastnorm import bench
from fastnorm.bench import cases, errors, loop, report
from fastnorm.bench.cases import Bars, Case
from fastnorm.bench.engine import Engine, Job
from fastnorm.bench.engine_fastnorm import FASTNORM

TINY = loop.Effort(rounds=2, sample_seconds=1e-6)
PLAIN = Case("layer_norm", (3, 20), "rows", True)
TINY_CASES = (
    Case("layer_norm", (3, 20), "rows", True),
    Case("layer_norm", (3, 20), "rows", False),
    Case("rms_norm", (3, 20), "rows", True),
    Case("rms_norm", (3, 20), "rows", False),
    Case("batch_norm", (2, 3, 4, 5), "NCHW", True),
    Case("batch_norm", (2, 4, 5, 3), "NHWC", True),
    Case("batch_norm", (2, 4, 5, 3), "NHWC", False),
    Case("batch_norm", (2, 3, 4, 5), "NCHW", False),
    Case("batch_norm_training", (2, 3, 4, 5), "NCHW", True),
    Case("batch_norm_training", (2, 4, 5, 3), "NHWC", True),
    Case("batch_norm_training", (2, 3, 4, 5), "NCHW", False),
    Case("layer_norm_int8", (3, 20), "rows", True, detail="given", plain=PLAIN),
    Case("layer_norm_16bit", (3, 20), "rows", True, detail="float16", plain=PLAIN),
    Case("moments", (30, 11), "columns", False),
    Case("moments", (300,), "flat", False),
)
ROOT = Path(__file__).parents[1]


def test_the_loop_gives_all_figures():
    results = list(bench.run(TINY_CASES, [FASTNORM, wrong_engine()], TINY))
    assert [result.case for result in results] == list(TINY_CASES)
    for result in results:
        assert {"copyto", "fastnorm"} <= set(result.measurements)
        for measurement in result.measurements.values():
            assert 0 < measurement.median_us < math.inf
            assert 0 < measurement.copy_ratio < math.inf
        assert result.measurements["copyto"].copy_ratio == 1
        # in units, rounding shows
        low, high = (0.1, 0.51) if result.case.error_unit else (0, 1e-6)
        assert low <= result.measurements["fastnorm"].error < high
        assert "plain" not in result.measurements | result.speedups
        assert (result.plain_ratio is None) == (result.case.plain is None)
    assert set(results[0].speedups) == {"wrong"}
    assert results[2].speedups == {}


def wrong_engine() -> Engine:
    """Layer norm that forgets the bias."""

    def layer_norm(case: Case, data: cases.Data) -> Job:
        shape = case.shape[1:]
        return Job(lambda: fastnorm.layer_norm(data.x, shape, data.weight))

    return Engine("wrong", (), {"layer_norm": layer_norm})


def test_a_wrong_engine_shows_a_big_error():
    result = next(bench.run(TINY_CASES[:1], [FASTNORM, wrong_engine()], TINY))
    bias = cases.make_data(TINY_CASES[0], "float32", 1).bias
    # |y - exact| is |bias|, and the error at the largest of them is relative
    assert 0.1 < result.measurements["wrong"].error <= float(np.abs(bias).max()) + 1e-6


@pytest.mark.parametrize(
    ("got", "exact", "error"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([0.5, 2.0], [0.25, 2.0], 0.25),  # absolute below 1
        ([110.0], [100.0], 0.1),  # relative above
        ([np.nan], [1.0], math.inf),
        ([np.inf], [1.0], math.inf),
        ([0.0], [np.inf], math.inf),
        ([np.inf], [1e40], 0.0),  # the exact value rounds to this in float32
        ([-np.inf], [1e40], math.inf),
        ([np.nan], [np.nan], 0.0),
        ([1.0, 2.0], [1.0], math.inf),
    ],
)
def test_the_error_measure(got, exact, error):
    got = (np.array(got, np.float32),)
    assert errors.largest_error(got, (np.array(exact),)) == pytest.approx(error)


def test_ratios_are_medians_within_rounds(monkeypatch):
    # rounds of (copyto, fastnorm): ratios 2, 10, 3, where medians of times give 2.5
    seconds = iter([1.0, 2.0, 1.0, 10.0, 4.0, 12.0])
    monkeypatch.setattr(loop, "_calibrate", lambda *_: 1)
    monkeypatch.setattr(loop, "_sample", lambda *_: next(seconds))
    effort = loop.Effort(rounds=3, sample_seconds=1.0)
    (result,) = bench.run(TINY_CASES[:1], [FASTNORM], effort)
    assert result.measurements["fastnorm"].copy_ratio == 3
    assert result.measurements["fastnorm"].median_us == pytest.approx(10e6)


def test_the_plain_case_takes_its_turn(monkeypatch):
    # rounds of (copyto, plain, fastnorm): ratios 0.5, 5, 3, where medians of times
    # give 5; the plain case has its own data
    seconds = iter([1.0, 2.0, 1.0, 1.0, 2.0, 10.0, 1.0, 4.0, 12.0])
    monkeypatch.setattr(loop, "_calibrate", lambda *_: 1)
    monkeypatch.setattr(loop, "_sample", lambda *_: next(seconds))
    given = []
    prepare = Engine.prepare

    def noted(self, case, data):
        given.append((case, data))
        return prepare(self, case, data)

    monkeypatch.setattr(Engine, "prepare", noted)
    case = Case("layer_norm_16bit", (3, 20), "rows", True, detail="float16")
    case = replace(case, plain=PLAIN, bars=Bars(plain=2.5))
    effort = loop.Effort(rounds=3, sample_seconds=1.0)
    (result,) = bench.run([case], [FASTNORM], effort)
    assert result.plain_ratio == 3
    assert result.measurements["fastnorm"].copy_ratio == 10
    assert result.losses == ["3.00x the plain case, bar 2.5x"]
    kinds = [(c.op, d.x.dtype.name) for c, d in given]
    assert ("layer_norm", "float32") in kinds
    assert ("layer_norm_16bit", "float16") in kinds


def test_exact_results_are_worked_out_once(monkeypatch):
    worked_out = []
    exact = loop.exact_results
    monkeypatch.setattr(
        loop,
        "exact_results",
        lambda case, data: worked_out.append(case.op) or exact(case, data),
    )
    between = Case("rms_norm", (3, 20), "rows", True)
    int8 = Case("layer_norm_int8", (3, 20), "rows", True, detail="given")
    chosen = [PLAIN, between, int8, replace(int8, detail="dynamic"), between]
    results = list(bench.run(iter(chosen), [FASTNORM], TINY))
    assert worked_out == ["layer_norm", "rms_norm"]
    assert max(result.measurements["fastnorm"].error for result in results) < 0.51


def test_engines_take_turns_and_no_garbage_is_collected_in_between():
    order = []

    def engine(name: str) -> Engine:
        def build(case: Case, data: cases.Data) -> Job:
            y = errors.exact_results(case, data)[0]

            def call():
                order.append((name, gc.isenabled()))
                return y

            return Job(call)

        return Engine(name, (), {"layer_norm": build})

    effort = loop.Effort(rounds=3, sample_seconds=0.0)
    engines = [FASTNORM, engine("a"), engine("b")]
    list(bench.run(TINY_CASES[:1], engines, effort))
    # a sample is one call with the collector as it was, then one without
    assert order[-12:] == [("a", True), ("a", False), ("b", True), ("b", False)] * 3
    assert gc.isenabled()


def test_a_sample_lasts_at_least_as_long_as_asked():
    now = [0]

    def call():
        now[0] += 7_000  # nanoseconds

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.time, "perf_counter_ns", lambda: now[0])
        count = loop._calibrate(call, 1e-3)
        assert count * 7_000 >= 1_000_000
        assert count < 200
        assert loop._sample(call, 10) == pytest.approx(7e-6)


def test_the_calls_before_a_sample_last_as_long_as_asked():
    now, timed = [0], []

    def call():
        timed.append(gc.isenabled())
        now[0] += 7_000  # nanoseconds

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.time, "perf_counter_ns", lambda: now[0])
        assert loop._sample(call, 10, 1e-3) == pytest.approx(7e-6)
    assert timed == [True] * 143 + [False] * 10  # 143 * 7 us is the first above 1 ms


def figures(ours: float, copy: float, bars: Bars, **speedups: float) -> loop.Result:
    case = Case("layer_norm", (3, 20), "rows", True, bars)
    measurement = loop.Measurement(ours, copy, 0.0, False)
    return loop.Result(case, {"fastnorm": measurement}, speedups)


@pytest.mark.parametrize(
    ("result", "losses"),
    [
        (figures(1.0, 1.2, Bars(1.2)), []),
        (figures(1.0, 1.3, Bars(1.2)), ["1.30x copyto, bar 1.2x"]),
        (figures(1.1, 9.0, Bars(None, 1.0)), ["1.10 us, bar 1 us"]),
        (figures(1.0, 9.0, Bars(), torch=1.0), []),
        (figures(1.0, 9.0, Bars(), torch=0.5, numpy=2), ["slower than torch (0.50x)"]),
        (figures(1.0, 9.0, Bars(), numba=0.5), []),
        (
            figures(1.0, 9.0, Bars(over={"torch": 8.0}), torch=7.0),
            ["7.00x faster than torch, bar 8x"],
        ),
        (figures(1.0, 9.0, Bars(over={"torch": 8.0})), []),
        (figures(1.0, 9.0, Bars(plain=0.65)), []),
    ],
)
def test_losses_are_found(result, losses):
    assert loop.find_losses(result, True) == losses


def test_bars_are_not_for_other_settings_but_slower_is_slower():
    result = figures(5.0, 9.0, Bars(1.2, 1.0, {"torch": 8.0}), torch=2.0, numpy=0.9)
    assert loop.find_losses(result, False) == ["slower than numpy (0.90x)"]


def test_threads_are_given_and_restored():
    before = fastnorm.get_num_threads()
    with bench.sessions([FASTNORM], before + 3):
        assert fastnorm.get_num_threads() == before + 3
    assert fastnorm.get_num_threads() == before


@pytest.fixture
def tiny_table(monkeypatch):
    monkeypatch.setattr(cases, "CASES", TINY_CASES)


@pytest.mark.usefixtures("tiny_table")
def test_json_on_stdout_is_all_there_is(capsys):
    bench.main(json_path="-", engines=["numpy"], rounds=1, quick=True)
    document = json.loads(capsys.readouterr().out)
    assert document["kind"] == "timings"
    assert document["settings"]["rounds"] == 1
    assert {"cpu", "isa", "date", "versions"} <= set(document["machine"])
    assert document["machine"]["isa"] == fastnorm.isa()
    assert [case["name"] for case in document["cases"]] == [c.name for c in TINY_CASES]
    for case in document["cases"]:
        assert set(case["engines"]) == {"copyto", "fastnorm", "numpy"}
        assert set(case["speedups"]) == {"numpy"}
        assert set(case["engines"]["numpy"]) == {
            "median_us",
            "copy_ratio",
            "error",
            "allocates",
        }


@pytest.mark.usefixtures("tiny_table")
def test_table_plot_and_file(capsys, tmp_path):
    pytest.importorskip("rich")
    pytest.importorskip("matplotlib")
    plot, figures = tmp_path / "bench.png", tmp_path / "bench.json"
    bench.main(
        json_path=str(figures), plot=str(plot), engines=["numpy"], rounds=1, quick=True
    )
    text = capsys.readouterr().out
    document = json.loads(figures.read_text())
    lost = [case for case in document["cases"] if case["losses"]]
    assert text.count("  LOSS ") >= len(lost)
    assert f"{len(lost)} of {len(TINY_CASES)} cases lost" in text
    for case in TINY_CASES:
        assert case.shape_text in text
    assert "…" not in text  # no figure is cut
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_losses_are_marked(capsys):
    pytest.importorskip("rich")
    result = figures(1.0, 9.0, Bars(1.2), numpy=0.5)
    result.measurements["numpy"] = loop.Measurement(0.5, 4.5, math.inf, True)
    result.losses = loop.find_losses(result, True)
    document = report.timing_document([result], {}, {})
    json.dumps(document, allow_nan=False)
    report.print_timings(document, "here")
    text = capsys.readouterr().out
    assert "9.00 (1.2)" in text
    assert "x plain: time over" not in text
    assert "0.50x*" in text
    assert any(
        "9.00 (1.2)" in x and x.rstrip().endswith("LOSS") for x in text.split("\n")
    )
    assert "LOSS layer_norm 3x20 rows out: slower than numpy (0.50x); 9.00x" in text


def widest() -> loop.Result:
    """A row that needs more room than any real one."""
    bars = Bars(1.15, plain=0.65)
    case = Case("batch_norm_training", (64, 224, 224, 3), "NHWC", False, bars)
    slow = loop.Measurement(1_234_567.0, 123.46, math.inf, True)
    return loop.Result(
        replace(case, detail="to NCHW", plain=PLAIN),
        dict.fromkeys(["copyto", *bench.ENGINE_NAMES], slow),
        dict.fromkeys(bench.ENGINE_NAMES[1:], 123.46),
        ["slower"],
        123.46,
    )


def common() -> loop.Result:
    """A row of the engines that take part in most cases."""
    names = bench.ENGINE_NAMES[:4]
    quick = loop.Measurement(1.0, 1.0, 0.0, False)
    return loop.Result(
        PLAIN, dict.fromkeys(["copyto", *names], quick), dict.fromkeys(names[1:], 2.0)
    )


def test_the_widest_row_is_not_cut(capsys):
    pytest.importorskip("rich")
    results = [widest(), *[common()] * 9]
    report.print_timings(report.timing_document(results, {}, {}), "here")
    text = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in text.splitlines()]
    wanted = "BN train 64x3x224x224 NHWC to NCHW new 1,234,567"
    wanted += " 123.5 (1.15) 123.5 (0.65)" + " 123.5x*" * 3
    wanted += " sklearn 123.5x* not finite LOSS"
    assert wanted in lines
    # the peers that are seldom there share a column, one below the other
    place = lines.index(wanted)
    below = ["opencv 123.5x*", "albucore 123.5x*", "numba 123.5x*"]
    assert lines[place + 1 : place + 4] == below
    assert "x plain: time over" in text
    assert "LN 3x20 1.00 1.00 2.00x 2.00x 2.00x 0" in lines


def test_peers_that_are_seldom_there_share_a_column():
    few = report.timing_document([widest(), *[common()] * 9], {}, {})
    assert report.columns_of(few) == (
        ["numpy", "torch", "onnxruntime"],
        ["sklearn", "opencv", "albucore", "numba"],
    )
    all_there = report.timing_document([widest()], {}, {})
    assert report.columns_of(all_there) == (list(bench.ENGINE_NAMES[1:]), [])


@pytest.mark.parametrize(
    ("error", "unit", "text"),
    [
        (None, "", ""),
        (0.0, "", "0"),
        (1.26e-7, "", "1.3e-07"),
        (0.501, "ulp", "0.50 ulp"),
        (0.0, "step", "0.00 step"),
        (1.5, "step", "1.50 step"),
        ("inf", "ulp", "not finite"),
    ],
)
def test_errors_are_told_in_their_unit(error, unit, text):
    assert report.error_text(error, unit) == text


@pytest.fixture(scope="module")
def readme_table():
    path = ROOT / "bench" / "readme_table.py"
    spec = importlib.util.spec_from_file_location("readme_table", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_table(readme_table, tmp_path):
    won = figures(1.0, 1.1, Bars(1.2), numpy=2.5)
    lost = figures(12.0, 1.3, Bars(1.2), numpy=20.0)
    for result in (won, lost):
        result.measurements["numpy"] = loop.Measurement(9.0, 9.0, 0.0, True)
        result.losses = loop.find_losses(result, True)
    machine = {
        "cpu": "Z80",
        "caches": {},
        "isa": "avx2",
        "versions": {},
        "date": "2026",
    }
    settings = {"dtype": "float32", "threads": 1, "rounds": 3}
    stored = Case("layer_norm_int8", (3, 20), "rows", True, Bars(plain=0.85))
    stored = replace(stored, detail="given", plain=PLAIN)
    measured = won.measurements | {
        "fastnorm": loop.Measurement(1.0, 1.1, 0.5, False),
        "opencv": loop.Measurement(3.0, 3.3, 0.5, False),
    }
    int8 = loop.Result(stored, measured, {"opencv": 3.0}, [], 0.7)
    results = [won, lost, int8, *[won] * 3]
    document = report.timing_document(results, machine, settings)
    figures_path, readme = tmp_path / "results.json", tmp_path / "README.md"
    figures_path.write_text(json.dumps(document))
    readme.write_text("a\n<!-- bench:begin -->\nstale\n<!-- bench:end -->\nb\n")
    arguments = [str(figures_path), str(readme)]
    assert readme_table.main([*arguments, "--check"]) == 1
    assert readme_table.main(arguments) == 0
    assert readme_table.main([*arguments, "--check"]) == 0
    text = readme.read_text()
    assert text.startswith("a\n<!-- bench:begin -->\n| work ")
    assert text.endswith("\n<!-- bench:end -->\nb\n")
    assert "stale" not in text
    lines = text.splitlines()
    # one table: an operation, its cases; the next operation
    first = lines.index("| *layer norm* | | | | | | | |")
    assert lines[first + 1 : first + 6] == [
        "| 3x20 | 1.00 | 1.10 | 1.2 |  | 2.50x\\* |  | 0 |",
        "| **3x20** | 12.0 | 1.30 | 1.2 |  | 20.0x\\* |  | 0 |",
        *["| 3x20 | 1.00 | 1.10 | 1.2 |  | 2.50x\\* |  | 0 |"] * 3,
    ]
    assert lines[first + 6 : first + 9] == [
        "| *layer norm to int8* | | | | | | | |",
        "| 3x20 given | 1.00 | 1.10 |  | 0.70 (0.85) |  | opencv 3.00x | 0.50 step |",
        "",
    ]
    assert text.count("\n|---|") == 1
    assert "- layer norm 3x20: 1.30x copyto, bar 1.2x" in text
    assert "Z80" in text
    with pytest.raises(ValueError, match="needs one"):
        readme_table.insert("no markers", "x")
