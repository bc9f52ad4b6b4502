# SPDX-License-Identifier: MIT
"""test_interop_sklearn.py - the scaler by scikit-learn's own checks, and beside its."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from oracle import random, same_bits

pytest.importorskip("sklearn")

from scipy import sparse  # type: ignore[import-untyped]
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler as Theirs
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastnorm.interop.sklearn import StandardScaler

Array = NDArray[Any]
TOLERANCE = {"float32": 3e-6, "float64": 1e-12, "float16": 3e-3}
FITTED = ("mean_", "var_", "scale_", "n_samples_seen_", "n_features_in_")


def overwrites(estimator: Any) -> dict[str, str]:
    """What cannot be where the first call has overwritten the second one's input."""
    reason = "the check transforms one array twice; scikit-learn's own scaler fails too"
    check = "check_methods_sample_order_invariance"
    return {} if estimator.copy else {check: reason}


@parametrize_with_checks(
    [
        StandardScaler(),
        StandardScaler(with_mean=False),
        StandardScaler(with_std=False),
        StandardScaler(with_mean=False, with_std=False),
        StandardScaler(copy=False),
    ],
    expected_failed_checks=overwrites,
)
def test_scikit_learns_own_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def assert_same_fit(ours: Any, theirs: Any, rtol: float = 1e-9) -> None:
    for name in FITTED:
        a, b = getattr(ours, name), getattr(theirs, name)
        assert (a is None) == (b is None), name
        if a is None:
            continue
        assert np.shape(a) == np.shape(b), name
        if name != "n_samples_seen_":  # theirs is float64 here and int64 there
            assert np.asarray(a).dtype == np.asarray(b).dtype, name
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12, err_msg=name)


def both(**options: Any) -> tuple[Any, Any]:
    return StandardScaler(**options), Theirs(**options)


@pytest.mark.parametrize("with_mean", [True, False])
@pytest.mark.parametrize("with_std", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32", "uint8"])
def test_results_and_attributes_are_theirs(
    with_mean: bool, with_std: bool, dtype: str
) -> None:
    x = (50 + 20 * random((300, 7), "f8")).astype(dtype)
    ours, theirs = both(with_mean=with_mean, with_std=with_std)
    y, z = ours.fit_transform(x), theirs.fit_transform(x)
    assert y.dtype == z.dtype
    kind = y.dtype.name
    np.testing.assert_allclose(y, z, rtol=TOLERANCE[kind], atol=TOLERANCE[kind] * 20)
    assert_same_fit(ours, theirs)
    back = ours.inverse_transform(y)
    assert back.dtype == y.dtype
    np.testing.assert_allclose(back, x, rtol=0, atol=100 * TOLERANCE[kind])
    assert not np.may_share_memory(y, x)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("missing", [False, True])
def test_parts_are_taken_in_as_if_they_came_at_once(
    weighted: bool, missing: bool
) -> None:
    x = 1e3 + 3 * random((500, 6), "f8")
    weights = np.abs(random(500, "f8", 1)) if weighted else None
    if missing:
        x[np.random.default_rng(2).random(x.shape) < 0.2] = np.nan
    ours, theirs = both()
    whole = StandardScaler().fit(x, sample_weight=weights)
    for i in range(0, 500, 90):
        part = None if weights is None else weights[i : i + 90]
        ours.partial_fit(x[i : i + 90], sample_weight=part)
        theirs.partial_fit(x[i : i + 90], sample_weight=part)
    assert_same_fit(ours, theirs)
    assert_same_fit(ours, whole, 1e-13)
    assert np.ndim(ours.n_samples_seen_) == (1 if missing else 0)
    y = ours.transform(x)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(x))
    np.testing.assert_allclose(y, theirs.transform(x), atol=1e-10)
    again = ours.fit(x[:10])
    assert again.n_samples_seen_ is not None and np.max(again.n_samples_seen_) <= 10


def test_weights_are_repetitions() -> None:
    x = random((40, 3), "f8")
    weights = np.arange(40) % 4
    weighted = StandardScaler().fit(x, sample_weight=weights)
    repeated = StandardScaler().fit(np.repeat(x, weights, axis=0))
    np.testing.assert_allclose(weighted.mean_, repeated.mean_, rtol=1e-13)
    np.testing.assert_allclose(weighted.var_, repeated.var_, rtol=1e-13)
    assert weighted.n_samples_seen_ == repeated.n_samples_seen_ == weights.sum()
    with pytest.raises(ValueError, match="weight"):
        StandardScaler().fit(x, sample_weight=-1 - weights)


@pytest.mark.parametrize("n", [10, 100, 5000])
@pytest.mark.parametrize("average", [1e-10, 1.0, 1e10])
def test_near_constant_features_are_those_of_scikit_learn(
    n: int, average: float
) -> None:
    scales = np.logspace(-17, 2, 60)
    x = average + scales * np.where(np.arange(n) % 2, 1.0, -1.0)[:, np.newaxis]
    ours, theirs = both()
    ours.fit(x)
    theirs.fit(x)
    np.testing.assert_array_equal(ours.scale_ == 1, theirs.scale_ == 1)
    constant = StandardScaler().fit(np.full((n, 2), [0.1, average]))
    assert np.all(constant.scale_ == 1) and np.all(constant.var_ == 0)
    y = constant.transform(np.full((1, 2), [0.1, average]))
    np.testing.assert_array_equal(y, [[0, 0]])


def test_features_far_from_zero_come_out_right() -> None:
    x = (1e6 + random((4000, 3), "f8")).astype("f4")
    wide = x.astype("f8")
    exact = (wide - wide.mean(0)) / wide.std(0)
    ours, theirs = both()
    np.testing.assert_allclose(ours.fit_transform(x), exact, atol=1e-6)
    assert np.max(np.abs(theirs.fit_transform(x) - exact)) > 1e-3


@pytest.mark.parametrize("order", ["C", "F"])
def test_copy_false_is_in_place(order: Any) -> None:
    x = np.array(random((60, 5)), order=order)
    scaler = StandardScaler(copy=False).fit(x)
    right = StandardScaler().fit(x).transform(x)
    kept = x.copy()
    y = scaler.transform(x)
    assert np.may_share_memory(x, y)
    np.testing.assert_allclose(x, right, atol=1e-6)
    assert not np.may_share_memory(x, scaler.transform(x, copy=True))
    back = scaler.inverse_transform(x)
    assert np.may_share_memory(x, back)
    np.testing.assert_allclose(back, kept, atol=1e-5)
    x.flags.writeable = False
    frozen = x.copy()
    assert not np.may_share_memory(x, scaler.transform(x))
    assert same_bits(x, frozen)


def test_what_is_given_is_kept_unless_copy_is_false() -> None:
    x = random((6, 3), "f8")
    scaler = StandardScaler().fit(x)
    right, kept = scaler.transform(x), x.copy()
    buffer: Any = x
    for given in (x, memoryview(buffer), x.tolist(), [*x], x[::-1][::-1]):
        assert same_bits(np.asarray(scaler.transform(given)), right)
        assert same_bits(x, kept)
    whole = np.arange(12).reshape(4, 3)
    assert scaler.transform(whole).dtype == np.float64 and whole[3, 2] == 11


@pytest.mark.parametrize("method", ["transform", "inverse_transform"])
@pytest.mark.parametrize("copy", [True, False])
def test_out_is_written_and_returned(method: str, copy: bool) -> None:
    x = random((50, 5))
    scaler = StandardScaler(copy=copy).fit(x)
    call = getattr(scaler, method)
    right, kept = call(x, copy=True), x.copy()
    x.flags.writeable = False
    for out in (np.empty_like(x), np.empty_like(x, order="F"), np.ones((50, 9), "f4")):
        into = out[:, :5]
        assert call(x, out=into) is into
        assert same_bits(np.ascontiguousarray(into), right) and same_bits(x, kept)
        assert np.all(out[:, 5:] == 1)
    wide = np.empty(x.shape)
    assert call(x.tolist(), out=wide) is wide
    assert same_bits(wide, call(x.astype("f8"), copy=True))
    own = kept.copy()
    assert call(own, out=own) is own and same_bits(own, right)


@pytest.mark.parametrize("method", ["transform", "inverse_transform"])
def test_an_out_that_does_not_fit_is_refused_unwritten(method: str) -> None:
    x = random((50, 5))
    scaler = StandardScaler(with_mean=False).fit(x)
    call = getattr(scaler, method)
    both = np.ones((60, 5), "f4")
    frozen = np.ones_like(x)
    frozen.flags.writeable = False
    for given, out, words in (
        (x, np.ones((50, 4), "f4"), "out has shape"),
        (x, np.ones((50, 5)), "standardize: out has dtype float64, [xy]'s"),
        (x, frozen, "out is read-only"),
        (both[:50], both[10:], "overlap"),
        (sparse.csr_matrix(x), np.ones_like(x), f"{method}: out is given, but X is"),
    ):
        with pytest.raises((ValueError, TypeError), match=words):
            call(given, out=out)
        assert np.all(out == 1)


@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_infinity_is_refused_by_fit_and_stays_itself_in_transform(bad: float) -> None:
    clean = random((3000, 5))
    scaler = StandardScaler().fit(clean)
    state = pickle.dumps(scaler)
    x = clean.copy()
    x[2999, 4], x[3, 3] = bad, np.nan
    for weights in (None, np.ones(3000)):
        with pytest.raises(ValueError, match="Input X contains infinity or a value"):
            scaler.partial_fit(x, sample_weight=weights)
        with pytest.raises(ValueError, match="Input X contains infinity or a value"):
            StandardScaler().fit(x, sample_weight=weights)
    assert pickle.dumps(scaler) == state
    right = scaler.transform(clean)
    right[2999, 4], right[3, 3] = bad, np.nan
    y = scaler.transform(x)
    np.testing.assert_array_equal(y, right)
    assert scaler.inverse_transform(y)[2999, 4] == bad


@pytest.mark.parametrize("form", ["csr", "csc"])
def test_sparse_tables_are_scaled_but_not_centered(form: str) -> None:
    dense = random((50, 8), "f8") * (random((50, 8), "f8", 1) > 0.5)
    x = sparse.csr_array(dense).asformat(form)
    ours, theirs = both(with_mean=False)
    y, z = ours.fit(x).transform(x), theirs.fit(x).transform(x)
    np.testing.assert_array_equal(y.toarray(), z.toarray())
    assert_same_fit(ours, theirs)
    np.testing.assert_allclose(ours.inverse_transform(y).toarray(), dense, atol=1e-12)
    # more of both kinds
    for scaler in (ours, theirs):
        scaler.partial_fit(dense[:20]).partial_fit(x)
    assert_same_fit(ours, theirs)
    with pytest.raises(ValueError, match="Cannot center sparse"):
        StandardScaler().fit(x)


def test_pipelines_grids_clones_and_pickles() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 200)
    x = rng.standard_normal((200, 5)) * 100 + y[:, np.newaxis] * 150
    ours = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
    theirs = make_pipeline(Theirs(), LogisticRegression()).fit(x, y)
    np.testing.assert_array_equal(ours.predict(x), theirs.predict(x))
    grid = GridSearchCV(ours, {"standardscaler__with_std": [True, False]}, cv=3)
    assert grid.fit(x, y).best_score_ > 0.8
    scaler = StandardScaler(with_std=False).fit(x)
    copy = clone(scaler)
    assert copy.get_params() == scaler.get_params() and not hasattr(copy, "mean_")
    other = pickle.loads(pickle.dumps(scaler))
    assert same_bits(other.transform(x), scaler.transform(x))
    other.partial_fit(x)
    assert other.n_samples_seen_ == 400 and scaler.n_samples_seen_ == 200
    names = scaler.get_feature_names_out(["a", "b", "c", "d", "e"])
    assert list(names) == ["a", "b", "c", "d", "e"]


def test_data_frames() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(random((9, 3), "f8"), columns=["a", "b", "c"])
    kept = frame.copy()
    scaler = StandardScaler(copy=False).set_output(transform="pandas")
    out = scaler.fit_transform(frame)
    assert list(out.columns) == list(scaler.feature_names_in_) == ["a", "b", "c"]
    np.testing.assert_allclose(out, Theirs().fit_transform(kept), atol=1e-12)
    with pytest.raises(ValueError, match="feature names"):
        scaler.transform(kept[["b", "a", "c"]])


def test_columns_of_nothing_but_missing_values() -> None:
    x = random((20, 3), "f8")
    x[:, 1] = np.nan
    ours, theirs = both()
    ours.fit(x)
    with np.errstate(invalid="ignore"):
        theirs.fit(x)
    np.testing.assert_array_equal(ours.n_samples_seen_, [20, 0, 20])
    assert np.isnan(ours.mean_[1]) and np.isnan(ours.var_[1])
    y = ours.transform(random((4, 3), "f8"))
    assert np.all(np.isnan(y[:, 1])) and np.all(np.isfinite(y[:, [0, 2]]))


def test_memory_beside_the_result() -> None:
    x = random((20000, 64))
    peaks = {}
    for name, kind in (("ours", StandardScaler), ("theirs", Theirs)):
        scaler = kind().fit(x[:100])
        tracemalloc.start()
        scaler.partial_fit(x)
        peaks[name, "fit"] = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        scaler.transform(x)
        peaks[name, "transform"] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks["ours", "fit"] < 0.1 * x.nbytes < peaks["theirs", "fit"]
    assert peaks["ours", "transform"] < 1.1 * x.nbytes
    assert peaks["ours", "transform"] <= peaks["theirs", "transform"]


def test_what_is_refused() -> None:
    x = random((6, 4))
    scaler = StandardScaler().fit(x)
    for call in (scaler.transform, scaler.inverse_transform, scaler.partial_fit):
        with pytest.raises(ValueError, match="4 features as input"):
            call(x[:, :3])
        with pytest.raises(ValueError, match="2D array|0 sample"):
            call(x[0])
    for name in ("copy", "with_mean", "with_std"):
        options: Any = {name: 1}
        with pytest.raises(ValueError, match=f"{name} is 1, True or False is needed"):
            StandardScaler(**options).fit(x)


def test_importing_fastnorm_does_not_import_scikit_learn() -> None:
    code = "import sys, fastnorm, fastnorm.interop; assert 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
