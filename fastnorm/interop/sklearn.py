# sklearn.py - scikit-learn's scaler of tables, with fastnorm's arithmetic.
# SPDX-License-Identifier: MIT
# ruff: noqa: N803, N806  (X is what scikit-learn calls it)
"""StandardScaler with the attributes and results of scikit-learn's, in one pass.

Examples
--------
>>> import numpy as np
>>> from fastnorm.interop.sklearn import StandardScaler
>>> x = np.array([[0, 1], [2, 5]], dtype=np.float32)
>>> StandardScaler().fit_transform(x)
array([[-1., -1.],
       [ 1.,  1.]], dtype=float32)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import sklearn.preprocessing
from scipy import sparse  # type: ignore[import-untyped]
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    validate_data,
)

import fastnorm

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    _Array = NDArray[Any]

__all__ = ["StandardScaler"]

_DTYPES = (np.float64, np.float32, np.float16)
_FITTED = ("mean_", "var_", "scale_", "n_samples_seen_")


class StandardScaler(
    OneToOneFeatureMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """Zero mean and unit variance for each feature, as scikit-learn's of this name.

    In its place in pipelines, grids and pickles; the statistics are `RunningMoments`,
    the table is read once to fit and once to transform, and nothing of its size is
    allocated but the result.

    Parameters
    ----------
    copy : bool, default True
        False: a NumPy array of floats that is given to `transform` is overwritten.
    with_mean : bool, default True
        Subtract the mean.
    with_std : bool, default True
        Divide by the standard deviation.

    Attributes
    ----------
    mean_, var_ : ndarray of float64, shape (n_features,), or None
        Of the values seen; NaN is a missing value. None as in scikit-learn: `mean_`
        where neither is asked for, `var_` without `with_std`.
    scale_ : ndarray of float64, shape (n_features,), or None
        The root of `var_`, and 1 where that is no more than rounding errors of a
        constant would make of it.
    n_samples_seen_ : int or ndarray of shape (n_features,)
        How many values, or the sum of their weights; one number where all features have
        the same.
    n_features_in_, feature_names_in_
        As in every estimator.

    See Also
    --------
    fastnorm.standardize : the same from statistics that the caller has.

    Notes
    -----
    float32 stays float32 and float16 float16; all else becomes float64. Statistics are
    float64 throughout, also in `transform`, where scikit-learn rounds them to the type
    of the data first: features far from zero come out right.

    `fit` and `partial_fit` refuse a table with infinities. `transform` does not look
    for them, as that would take a quarter as long again: they stay what they are.

    Sparse input is what scikit-learn's own scaler makes of it, with
    ``with_mean=False``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnorm.interop.sklearn import StandardScaler
    >>> scaler = StandardScaler().fit([[1.0, 7.0], [3.0, np.nan], [5.0, 9.0]])
    >>> scaler.mean_, scaler.n_samples_seen_
    (array([3., 8.]), array([3, 2]))
    >>> scaler.inverse_transform(scaler.transform([[2.0, 8.5]]))
    array([[2. , 8.5]])
    """

    mean_: Any
    var_: Any
    scale_: Any
    n_samples_seen_: Any

    def __init__(
        self, *, copy: bool = True, with_mean: bool = True, with_std: bool = True
    ) -> None:
        self.copy = copy
        self.with_mean = with_mean
        self.with_std = with_std

    def fit(
        self, X: Any, y: object = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Find mean and deviation of each feature.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_features)
            NaN is a missing value.
        y : None
            Ignored.
        sample_weight : array_like of shape (n_samples,), optional
            How many times each sample counts, 0 or more.

        Returns
        -------
        StandardScaler
            This object.
        """
        for name in (*_FITTED, "_moments"):
            self.__dict__.pop(name, None)
        return self.partial_fit(X, y, sample_weight)

    def partial_fit(
        self,
        X: Any,
        y: object = None,  # noqa: ARG002
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Take in more samples, as if all had come at once.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.

        Returns
        -------
        StandardScaler
            This object.

        Raises
        ------
        ValueError
            If X has infinities, no samples or another number of features, or a weight
            is negative or not finite.
        """
        self._check_parameters()
        first = not hasattr(self, "n_samples_seen_")
        X = validate_data(
            self, X, accept_sparse=("csr", "csc"), dtype=_DTYPES,
            ensure_all_finite=False, reset=first,
        )  # fmt: skip
        if sparse.issparse(X):
            return self._fit_sparse(X, sample_weight)
        weights = None
        if sample_weight is not None:
            given = _check_sample_weight(sample_weight, X, dtype=np.float64)
            weights = given[:, np.newaxis]
        batch = fastnorm.RunningMoments(nan="omit").update(X, weights=weights)
        if np.any(np.isinf(batch.min) | np.isinf(batch.max)):
            raise ValueError(
                f"Input X contains infinity or a value too large for {X.dtype!r}."
            )
        weighted = weights is not None
        if not first:
            moments, was_weighted = self._state()
            batch, weighted = moments + batch, weighted or was_weighted
        self._moments = batch, weighted
        self._set_statistics(X.dtype if weighted else np.dtype(np.int64))
        return self

    def transform(
        self, X: Any, copy: bool | None = None, *, out: _Array | None = None
    ) -> Any:
        """Subtract the mean and divide by the deviation of each feature.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_features)
            NaN stays NaN.
        copy : bool, optional
            In place of the object's own `copy`.
        out : ndarray of X's shape, optional
            Written and returned, whatever `copy` is; of the result's dtype; may be X.
            For batches of one size: a new array's pages cost as much as the arithmetic.

        Returns
        -------
        ndarray or sparse matrix of X's shape
            `out` if given; X itself where that can be and `copy` is False.

        Raises
        ------
        ValueError
            If X has another number of features, or is sparse although `out` is given;
            if `out` is of another shape or overlaps X. Nothing has been written then.
        TypeError
            If `out` is no array, or one of another dtype. Nothing has been written.
        """
        check_is_fitted(self)
        self._check_parameters()
        copy = self.copy if copy is None else copy
        given = X
        X = validate_data(
            self, X, reset=False, accept_sparse="csr", dtype=_DTYPES,
            force_writeable=not copy and out is None, ensure_all_finite=False,
        )  # fmt: skip
        if sparse.issparse(X):
            _refuse_out("transform", out)
            return self._sparse().transform(given, copy=copy)
        return self._apply(given, X, copy, out, fastnorm.standardize)

    def inverse_transform(
        self, X: Any, copy: bool | None = None, *, out: _Array | None = None
    ) -> Any:
        """Multiply by the deviation of each feature and add its mean.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_samples, n_features)
            What `transform` returned.
        copy, out
            As for `transform`; so are what is returned and raised.

        Returns
        -------
        ndarray or sparse matrix of X's shape
        """
        check_is_fitted(self)
        self._check_parameters()
        copy = self.copy if copy is None else copy
        given = X
        X = check_array(
            X, accept_sparse="csr", dtype=_DTYPES, ensure_all_finite=False,
            force_writeable=not copy and out is None,
        )  # fmt: skip
        if X.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {X.shape[1]} features, but StandardScaler is expecting "
                f"{self.n_features_in_} features as input."
            )
        if sparse.issparse(X):
            _refuse_out("inverse_transform", out)
            return self._sparse().inverse_transform(given, copy=copy)
        return self._apply(given, X, copy, out, fastnorm.unstandardize)

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn what the scaler takes."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = not self.with_mean
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _check_parameters(self) -> None:
        for name in ("copy", "with_mean", "with_std"):
            value = getattr(self, name)
            if not isinstance(value, bool | np.bool_):
                raise ValueError(
                    f"StandardScaler: {name} is {value!r}, True or False is needed"
                )

    def _set_statistics(self, seen: np.dtype[Any]) -> None:
        """The attributes, from the moments; counts in the dtype `seen`."""
        moments, weighted = self._moments
        count = (moments.weight if weighted else moments.count).astype(seen)
        self.n_samples_seen_ = count[0] if np.all(count == count[0]) else count
        wanted = self.with_mean or self.with_std
        self.mean_ = moments.mean if wanted else None
        self.var_ = moments.var() if self.with_std else None
        self.scale_ = None
        if self.var_ is not None:
            constant = _is_constant(self.mean_, self.var_, self.n_samples_seen_)
            self.scale_ = np.where(constant, 1.0, np.sqrt(self.var_))

    def _state(self) -> tuple[fastnorm.RunningMoments, bool]:
        """The moments so far; after sparse input they are in the attributes alone."""
        if hasattr(self, "_moments"):
            return self._moments
        shape = (self.n_features_in_,)
        seen = np.broadcast_to(self.n_samples_seen_, shape)
        mean, var = (
            np.zeros(shape) if a is None else np.asarray(a, np.float64)
            for a in (self.mean_, self.var_)
        )
        zeros, some = np.zeros(shape), seen > 0
        state = {
            "axis": 0, "nan": "omit", "shape": shape,
            "count": np.ceil(seen).astype(np.int64), "weight": seen.astype(np.float64),
            "mean": np.where(some, mean, 0), "mean_low": zeros,
            "m2": np.where(some, var * seen, 0), "m2_low": zeros,
            "min": np.where(some, mean, np.inf), "max": np.where(some, mean, -np.inf),
        }  # fmt: skip
        return fastnorm.RunningMoments.from_dict(state), seen.dtype.kind == "f"

    def _sparse(self) -> Any:
        """scikit-learn's own scaler, as far as this one is."""
        scaler = sklearn.preprocessing.StandardScaler(
            copy=self.copy, with_mean=self.with_mean, with_std=self.with_std
        )
        for name in (*_FITTED, "n_features_in_", "feature_names_in_"):
            if hasattr(self, name):
                setattr(scaler, name, getattr(self, name))
        return scaler

    def _fit_sparse(self, X: Any, sample_weight: ArrayLike | None) -> Self:
        scaler = self._sparse().partial_fit(X, sample_weight=sample_weight)
        self.__dict__.pop("_moments", None)
        for name in _FITTED:
            setattr(self, name, getattr(scaler, name))
        return self

    def _apply(
        self,
        given: Any,
        x: _Array,
        copy: bool,
        out: _Array | None,
        function: Callable[..., _Array],
    ) -> _Array:
        """Each row of x, into `out`, into itself or into a new array."""
        shape = (x.shape[1],)
        mean = self.mean_ if self.with_mean else np.zeros(shape)
        scale = self.scale_ if self.with_std else np.ones(shape)
        if out is None:
            # What validation has converted is ours to write.
            apart = isinstance(given, list | tuple) or not np.may_share_memory(x, given)
            out = x if apart or not copy else np.empty_like(x)
        return function(x, mean, scale, out=out)


def _refuse_out(method: str, out: object) -> None:
    if out is not None:
        raise ValueError(f"StandardScaler.{method}: out is given, but X is sparse")


def _is_constant(mean: _Array, var: _Array, count: _Array) -> _Array:
    """Whether a variance is within the rounding errors that a constant's could have.

    The bound is that of two passes over `count` float64 values (Chan, Golub, LeVeque
    1983, "Algorithms for computing the sample variance"), which scikit-learn takes too.
    """
    eps = np.finfo(np.float64).eps
    with np.errstate(over="ignore", invalid="ignore"):
        bound: _Array = count * eps * var + (count * mean * eps) ** 2
        return var <= bound
