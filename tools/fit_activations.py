"""Print the coefficients in src/template/activation.h (needs mpmath).

SPDX-License-Identifier: MIT

Minimax polynomials by Remez' exchange, in 50 digits, rounded at the end.
"""

import argparse
from collections.abc import Callable, Sequence

import numpy as np
from mpmath import cos, erfc, exp, log, lu_solve, matrix, mp, mpf, pi, sqrt  # type: ignore[import-untyped]

Function = Callable[[mpf], mpf]

mp.dps = 50
WIDTH = mpf(3) / 8  # of the pieces of GELU and GELU_TANH


def alternating(errors: Sequence[mpf], count: int) -> list[int]:
    """Return where `count` neighbouring extremes of alternating sign are."""
    extremes: list[int] = []
    for i, error in enumerate(errors):
        if extremes and (error > 0) == (errors[extremes[-1]] > 0):
            if abs(error) > abs(errors[extremes[-1]]):
                extremes[-1] = i
        else:
            extremes.append(i)
    while len(extremes) > count:
        weaker = abs(errors[extremes[0]]) < abs(errors[extremes[-1]])
        extremes.pop(0 if weaker else -1)
    return extremes


def remez(
    f: Function, degree: int, weight: Function, low: mpf, high: mpf, grid: int
) -> tuple[list[mpf], mpf]:
    """Fit a polynomial.

    Parameters
    ----------
    f, weight : callable
        The largest ``weight(x) * abs(f(x) - p(x))`` is made small.
    degree : int
        Of the polynomial p.
    low, high : mpf
        The interval.
    grid : int
        Extremes are looked for at so many points.

    Returns
    -------
    coefficients : list of mpf
        The constant term first.
    error : mpf
        The largest weighted error.
    """
    middle, half, n = (low + high) / 2, (high - low) / 2, degree + 1
    points = [middle - half * cos(pi * k / grid) for k in range(grid + 1)]
    values = [f(x) for x in points]
    weights = [weight(x) for x in points]
    chosen = [round((k + 0.5) * grid / (n + 1)) for k in range(n + 1)]
    coefficients: list[mpf] = []
    error = mpf(0)
    for _ in range(60):
        system, right = matrix(n + 1, n + 1), matrix(n + 1, 1)
        for row, i in enumerate(chosen):
            for k in range(n):
                system[row, k] = points[i] ** k
            system[row, n] = (-1) ** row / weights[i]
            right[row] = values[i]
        solution = lu_solve(system, right)
        coefficients = [solution[k] for k in range(n)]
        errors = [
            w * (y - polynomial(coefficients, x))
            for x, y, w in zip(points, values, weights, strict=True)
        ]
        error = max(abs(e) for e in errors)
        chosen = alternating(errors, n + 1)
        if len(chosen) <= n or error < abs(solution[n]) * (1 + mpf(10) ** -4):
            break
    return coefficients, error


def polynomial(coefficients: Sequence[mpf], x: mpf) -> mpf:
    """Return the polynomial's value at x."""
    result = mpf(0)
    for c in reversed(coefficients):
        result = result * x + c
    return result


def literal(x: mpf, dtype: type[np.floating]) -> str:
    """Return x, rounded to dtype, as C writes it."""
    digits = float(dtype(float(x))).hex().split("p")
    mantissa = digits[0].rstrip("0").removesuffix(".")
    suffix = "f" if dtype is np.float32 else ""
    return "0" if x == 0 else f"{mantissa}p{digits[1]}{suffix}"


def show(
    name: str, coefficients: Sequence[mpf], error: mpf, dtype: type[np.floating]
) -> None:
    """Print one polynomial, the highest power first."""
    unit = 2**24 if dtype is np.float32 else 2**53
    print(f"{name}: {mp.nstr(error * unit, 3)} * 1 / {unit}")
    print("    " + ", ".join(literal(c, dtype) for c in reversed(coefficients)))


def fit_exponentials() -> None:
    """exp(-r) as 1 - r + r^2 * p(r)."""

    def rest(r: mpf) -> mpf:
        return (exp(-r) - 1 + r) / r**2

    def weight(r: mpf) -> mpf:
        return exp(r) * r**2

    # A little wide, and not symmetric, so that no point is 0.
    half = log(2) / 2 * mpf("1.0001")
    short = log(2) / 16 * mpf("1.001")
    wide = mpf("1.0007")
    fits: list[tuple[str, int, mpf, int, type[np.floating]]] = [
        ("EXP", 4, half, 1001, np.float32),
        ("EXP_SHORT", 1, short, 1001, np.float32),
        ("EXP", 9, half, 1501, np.float64),
    ]
    for name, degree, end, grid, dtype in fits:
        fit = remez(rest, degree, weight, -end, end * wide, grid)
        show(name, *fit, dtype)


def fit_erfcx() -> None:
    """(1 + 2 a) * exp(a^2 / 2) * erfc(a / sqrt(2)) / 2 in (a - 5) / (a + 5)."""

    def scaled(t: mpf) -> mpf:
        a = 5 * (1 + t) / (1 - t)
        return (1 + 2 * a) * exp(a * a / 2) * erfc(a / sqrt(2)) / 2

    end = mpf(39 - 5) / (39 + 5)
    fit = remez(scaled, 22, lambda t: 1 / scaled(t), mpf(-1), end, 1001)
    show("ERFCX", *fit, np.float64)


def fit_pieces(name: str, tail: Function) -> None:
    """tail(a) around the multiples of WIDTH, with the least relative error."""
    columns: list[list[mpf]] = []
    wide = mpf("1.0001") * WIDTH / 2
    for n in range(15):
        centre = n * WIDTH

        def shifted(r: mpf, centre: mpf = centre) -> mpf:
            return tail(centre + r)

        if n == 0:  # exactly 0 and a slope of 1 / 2 there

            def rest(r: mpf) -> mpf:
                return (tail(r) / r - mpf(1) / 2) / r

            found, _ = remez(rest, 3, lambda r: r * r / tail(r), mpf("1e-6"), wide, 301)
            column = [mpf(0), mpf(1) / 2, *found]
        else:
            column, _ = remez(shifted, 5, lambda r: 1 / shifted(r), -wide, wide, 301)
        columns.append(column)
    columns.append([mpf(0)] * 6)
    print(f"{name}:")
    for power in reversed(range(6)):
        row = ", ".join(literal(column[power], np.float32) for column in columns)
        print(f"    {{{row}}},")


def gelu_tail(a: mpf) -> mpf:
    """Return a - gelu(a)."""
    return a * erfc(a / sqrt(2)) / 2


def gelu_tanh_tail(a: mpf) -> mpf:
    """Return a - gelu(a), by its approximation with tanh."""
    return a / (1 + exp(2 * sqrt(2 / pi) * (a + mpf("0.044715") * a**3)))


def show_eighths() -> None:
    """Print FN_EIGHTHS of src/simd/tables.h."""
    bits = [int(np.float32(2 ** (j / 8)).view(np.uint32)) for j in range(8)]
    print("FN_EIGHTHS:")
    print("    " + ", ".join(f"0x{b - (j << 20):08x}" for j, b in enumerate(bits)))


def main() -> None:
    """Print everything; takes about a minute."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    fit_exponentials()
    fit_pieces("GELU", gelu_tail)
    fit_pieces("GELU_TANH", gelu_tanh_tail)
    fit_erfcx()
    show_eighths()


if __name__ == "__main__":
    main()
