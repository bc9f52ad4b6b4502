"""The benchmark's tables: every engine, every case, what is copied, what errors are.

SPDX-License-Identifier: MIT
"""

import importlib.util
from dataclasses import replace
from itertools import combinations, groupby

import numpy as np
import pytest

import fastnorm
from fastnorm import bench
from fastnorm.bench import cases, errors, exact, report
from fastnorm.bench.cases import Case
from fastnorm.bench.engine_fastnorm import FASTNORM


def rows(op: str, detail: str = "", out: bool = True) -> Case:
    return Case(op, (3, 20), "rows", out, detail=detail)


def images(op: str, channels: int, out: bool = True) -> list[Case]:
    return [
        Case(op, (2, channels, 4, 5), "NCHW", out),
        Case(op, (2, 4, 5, channels), "NHWC", out),
    ]


SMALL_CASES = (
    *[rows(op, out=out) for op in ("layer_norm", "rms_norm") for out in (True, False)],
    rows("layer_norm_residual"),
    rows("rms_norm_residual"),
    *[rows("layer_norm_16bit", name) for name in ("bfloat16", "float16")],
    *[rows("layer_norm_int8", name) for name in ("dynamic", "given")],
    *[
        rows("layer_norm_activation", name)
        for name in ("relu", "gelu", "gelu_tanh", "silu")
    ],
    *[rows("layer_norm_subnormal", name) for name in ("kept", "flushed")],
    *images("batch_norm", 3),
    *images("batch_norm", 3, out=False),
    *images("batch_norm_training", 3),
    *images("batch_norm_training", 3, out=False),
    *images("batch_norm_add_relu", 3),
    *[
        Case("batch_norm_masked", (3, 4, 20), "NCHW", True, detail=d)
        for d in ("lengths", "mask")
    ],
    *[rows(f"{norm}_norm_backward") for norm in ("layer", "rms", "l2", "weight")],
    images("instance_norm_backward", 3)[0],
    *images("batch_renorm_backward", 3),
    *images("batch_norm_backward", 3),
    *images("group_norm_backward", 64),
    *images("group_norm", 64),
    *images("group_norm", 64, out=False),
    *images("instance_norm", 3),
    *images("instance_norm", 3, out=False),
    *[
        Case("normalize_image", (2, 4, 5, 3), "NHWC", out, detail="to NCHW")
        for out in (True, False)
    ],
    *[rows(op, out=out) for op in ("l2_norm", "l1_norm") for out in (True, False)],
    Case("moments", (30, 11), "columns", False),
    Case("moments", (300,), "flat", False),
    Case("running_moments", (30, 11), "columns", False),
    Case("running_moments_bytes", (3, 7, 5, 3), "NHWC", False),
    *images("batch_renorm", 3),
    rows("weight_norm"),
    Case("scaler_fit", (1200, 11), "columns", False),
    *[Case("scaler_transform", (1200, 11), "columns", out) for out in (True, False)],
)


# Whose results are float64, or not in the form that is stored.
NO_ARRAY = (
    "moments", "running_moments", "running_moments_bytes", "layer_norm_int8",
    "scaler_fit",
)  # fmt: skip


def case_id(case: Case) -> str:
    return case.name.replace(" ", "-")


BUILT = [
    pytest.param(engine, case, id=f"{engine.name}-{case_id(case)}")
    for engine in bench.ENGINES
    for case in SMALL_CASES
    if case.op in engine.builders
]


def needs(engine, case: Case, dtype: str = "float32") -> None:
    if not engine.available():
        pytest.skip(f"{engine.name} is not installed")
    if not case.runs(dtype):
        pytest.skip(f"{case.name} is not for {dtype}, or ml_dtypes is not installed")


@pytest.mark.parametrize(("engine", "case"), BUILT)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_engine_computes_the_same_thing(engine, case, dtype):
    needs(engine, case, dtype)
    data = cases.make_data(case, dtype, 1)
    kept, other = data.x.copy(), data.other.copy()
    with engine.session(1):
        job = engine.prepare(case, data)
        if job is None:
            pytest.skip(f"{engine.name} has no {case.name}")
        for _ in range(3):  # a call must not go on from what the last one left
            got = tuple(np.array(part) for part in job.read(job.call()))
    bound = 2e-6 if dtype == "float32" else 1e-14
    if engine.name == "onnxruntime":
        bound = 2e-6  # its epsilon is a float32 in every model
    if case.error_unit:
        bound = 0.51
    wanted = exact.exact_results(case, data)
    unit = exact.error_unit(case, wanted[0])
    assert errors.largest_error(got, wanted, unit) < bound
    if case.op == "layer_norm_16bit":
        assert got[0].dtype.name == case.detail
    elif case.op not in NO_ARRAY:
        assert got[0].dtype == dtype
    np.testing.assert_array_equal(data.x, kept)
    np.testing.assert_array_equal(data.other, other)


@pytest.mark.parametrize(("engine", "case"), BUILT)
def test_out_cases_reuse_their_array_and_the_others_do_not(engine, case):
    needs(engine, case)
    if case.op in NO_ARRAY:
        pytest.skip("no array, or not in the form that is stored")
    job = engine.prepare(case, cases.make_data(case, "float32", 1))
    if job is None:
        pytest.skip(f"{engine.name} has no {case.name}")
    first, second = job.read(job.call()), job.read(job.call())
    if case.op.endswith("_backward"):
        # The gradients of the parameters are always new.
        first, second = first[:1], second[:1]
    for one, two in zip(first, second, strict=True):
        assert np.shares_memory(one, two) == (case.out and not job.allocates)


@pytest.mark.parametrize(
    ("detail", "wanted"),
    [("dynamic", {"out_dtype": "int8"}), ("given", {"out_scale": 0.1})],
)
def test_int8_results_are_stored_as_asked(detail, wanted):
    job = prepared("layer_norm_int8", detail)
    assert wanted.items() <= job.call.keywords.items()
    result = job.call()
    assert isinstance(result, tuple) == (detail == "dynamic")
    q = result[0] if detail == "dynamic" else result
    assert q is job.call.keywords["out"]
    assert q.dtype == np.int8


def prepared(op: str, detail: str):
    case = rows(op, detail)
    return FASTNORM.prepare(case, cases.make_data(case, "float32", 1))


def test_subnormals_are_flushed_in_one_of_the_cases_only():
    for detail in ("kept", "flushed"):
        job = prepared("layer_norm_subnormal", detail)
        assert job.call.keywords["flush_denormals"] is (detail == "flushed")
        x = job.call.args[0]
        assert 0 < np.abs(x).max() < np.finfo(np.float32).smallest_normal


@pytest.mark.parametrize(
    ("case", "per_element"),
    [
        (rows("layer_norm"), 8),
        (rows("layer_norm_residual"), 16),  # x, residual; y, sum
        (rows("rms_norm_residual"), 16),
        (rows("layer_norm_16bit", "float16"), 4),
        (rows("layer_norm_int8", "given"), 5),
        (rows("layer_norm_activation", "gelu"), 8),
        (images("batch_norm_add_relu", 3)[0], 12),  # x, what is added; y
        (rows("weight_norm_backward"), 12),
        (rows("layer_norm_backward"), 12),  # the gradient of y, x; that of x
        (images("group_norm", 64)[1], 8),
        # as much as is written, read as well: the pixels are a fourth of it
        (Case("normalize_image", (2, 4, 5, 3), "NHWC", True, detail="to NCHW"), 8),
    ],
    ids=lambda value: case_id(value) if isinstance(value, Case) else None,
)
def test_the_copy_moves_the_bytes_of_the_case(case, per_element):
    data = cases.make_data(case, "float32", 1)
    job = bench.FLOOR.prepare(case, data)
    before = [part.copy() for part in job.read(None)]
    job.call()
    written = job.read(None)
    assert 2 * sum(part.nbytes for part in written) == per_element * data.x.size
    assert not any(np.array_equal(a, b) for a, b in zip(before, written, strict=True))


def test_every_operation_has_names():
    ops = {case.op for case in bench.CASES}
    assert ops == set(report.OP_TEXT) == set(report._SHORT)


def test_every_operation_has_a_copy_and_a_fastnorm_call():
    ops = {case.op for case in bench.CASES}
    assert ops == {case.op for case in SMALL_CASES}
    assert ops == set(bench.FLOOR.builders) == set(FASTNORM.builders)


def test_names_are_unique_and_quick_is_a_part():
    names = [case.name for case in bench.CASES]
    assert len(set(names)) == len(names)
    quick = cases.select_cases(None, True)
    assert {case.name for case in quick} < set(names)
    assert {case.op for case in quick} == {case.op for case in bench.CASES}


def test_the_cases_of_an_operation_stand_together():
    groups = [op for op, _ in groupby(case.op for case in bench.CASES)]
    assert len(set(groups)) == len(groups)


def test_a_plain_case_is_a_case_of_the_same_shape():
    names = {case.name for case in bench.CASES}
    beside = [case for case in bench.CASES if case.plain]
    assert len(beside) >= 10
    for case in beside:
        assert case.plain.name in names
        assert case.plain.shape == case.shape
        assert not case.plain.detail
    # a bar of that kind means nothing without it
    assert all(case.plain for case in bench.CASES if case.bars.plain)


def test_equal_keys_mean_equal_exact_results():
    equal = 0
    for a, b in combinations(SMALL_CASES, 2):
        if not (a.runs("float32") and b.runs("float32")):
            continue
        if exact.exact_key(a) != exact.exact_key(b):
            continue
        equal += 1
        first, second = (
            exact.exact_results(case, cases.make_data(case, "float32", 1))
            for case in (a, b)
        )
        for one, two in zip(first, second, strict=True):
            np.testing.assert_array_equal(one, two)
    assert equal >= 10


@pytest.mark.parametrize(
    ("detail", "value", "ulp"),
    [
        ("bfloat16", 1.0, 2.0**-7),
        ("bfloat16", -2.5, 2.0**-6),
        ("bfloat16", 0.01, 2.0**-7),  # as at 1, below it
        ("float16", 1.99, 2.0**-10),
        ("float16", 4.0, 2.0**-8),
    ],
)
def test_the_unit_of_16_bit_results(detail, value, ulp):
    unit = exact.error_unit(rows("layer_norm_16bit", detail), np.array([value]))
    assert unit == [ulp]


def test_the_unit_of_int8_results():
    y = np.array([[-12.7, 3.0], [1.27, 0.5]])
    dynamic = exact.error_unit(rows("layer_norm_int8", "dynamic"), y)
    np.testing.assert_allclose(dynamic, [[0.1], [0.01]])
    given = exact.error_unit(rows("layer_norm_int8", "given"), y)
    # one step too far in one element is an error of one, whatever the scale
    wrong = y + np.array([[0.0, 0.1], [0.0, 0.0]])
    assert errors.largest_error((wrong,), (y,), given) == pytest.approx(1)
    assert errors.largest_error((wrong,), (y,), dynamic) == pytest.approx(1)
    wrong = y + np.array([[0.0, 0.0], [0.01, 0.0]])
    assert errors.largest_error((wrong,), (y,), dynamic) == pytest.approx(1)
    assert exact.error_unit(rows("layer_norm"), y) is None


def test_a_run_has_only_the_cases_that_it_can_have(monkeypatch):
    assert {case.op for case in cases.select_cases(None, False, "float64")} == {
        case.op for case in bench.CASES
    } - {
        "layer_norm_16bit",
        "layer_norm_int8",
        "normalize_image",
        "running_moments_bytes",
    }
    there = importlib.util.find_spec("ml_dtypes") is not None
    names = {case.detail for case in cases.select_cases("16bit", False)}
    assert names == ({"bfloat16", "float16"} if there else {"float16"})
    monkeypatch.setattr(cases.importlib.util, "find_spec", lambda _: None)
    names = {case.detail for case in cases.select_cases("16bit", False)}
    assert names == {"float16"}


def test_threads_are_given_to_opencv_and_restored():
    cv2 = pytest.importorskip("cv2")
    before = cv2.getNumThreads()
    (engine,) = (engine for engine in bench.ENGINES if engine.name == "opencv")
    wanted = 2 if before == 1 else 1
    with bench.sessions([engine], wanted):
        assert cv2.getNumThreads() == wanted
    assert cv2.getNumThreads() == before


def test_the_residual_case_is_not_the_plain_one():
    case = rows("layer_norm_residual")
    data = cases.make_data(case, "float32", 1)
    y, total = (part.copy() for part in exact.exact_results(case, data))
    np.testing.assert_array_equal(total, (data.x + data.other).astype(np.float32))
    plain = fastnorm.layer_norm(data.x, (20,), data.weight, data.bias, cases.EPS)
    assert np.abs(y - plain).max() > 0.1
    assert not np.array_equal(data.other, data.x)
    assert replace(case, op="layer_norm").name != case.name
