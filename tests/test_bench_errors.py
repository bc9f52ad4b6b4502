"""The benchmark's table of errors, and what it says of mistakes in its arguments.

SPDX-License-Identifier: MIT
"""

import json
import math
import sys

import pytest

from fastnorm import bench
from fastnorm.bench import errors


def test_accuracy_of_hostile_input(capsys):
    pytest.importorskip("rich")
    bench.main(accuracy=True, engines=["numpy"], case=r"layer_norm: .*(1e4|3e38)")
    lines = capsys.readouterr().out.splitlines()
    offset = next(line.split() for line in lines if "1e4 + N(0,1)" in line)
    assert float(offset[-2]) < 4e-7 < 1e-5 < float(offset[-1])
    overflow = next(line.split() for line in lines if "+-3e38" in line)
    assert float(overflow[-3]) < 4e-7
    assert overflow[-2:] == ["not", "finite"]


@pytest.mark.parametrize("op", ["batch_norm_training", "group_norm", "instance_norm"])
def test_accuracy_of_channels_and_groups(op, capsys):
    bench.main(accuracy=True, engines=["numpy"], case=f"{op}: 1e4", json_path="-")
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["op"] == op
    assert row["errors"]["fastnorm"] < 4e-7 < 1e-5 < row["errors"]["numpy"]
    cases_of = [case for case, _ in errors.hostile_cases(f"{op}: ")]
    assert len(cases_of) == len(errors.HOSTILE) - (op == "group_norm")
    groups = {"group_norm": 32}
    sizes = {math.prod(c.shape) // groups.get(op, c.channels) for c in cases_of}
    assert sizes <= {4096, 1 << 22}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"case": "("}, "not a regular expression"),
        ({"case": "nothing like it"}, "matches none of the"),
        ({"case": "nothing like it", "accuracy": True}, "matches no row"),
        ({"engines": ["tf"]}, "'tf' is not one of fastnorm, numpy"),
        ({"threads": 0}, "threads is 0"),
        ({"rounds": 0}, "rounds is 0"),
        ({"dtype": "float16"}, "dtype is 'float16'"),
        ({"dtype": "float64", "case": "16bit"}, "matches none of the .* for float64"),
        ({"plot": "x.png", "accuracy": True}, "no plot of the accuracy"),
        ({"plot": "x.mp3"}, "'x.mp3' ends with none of"),
    ],
)
def test_mistakes_are_one_sentence(arguments, message):
    if "x.mp3" in arguments.values():
        pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match=message) as caught:
        bench.main(json_path="-", **arguments)
    assert "\n" not in str(caught.value)


def test_a_missing_engine_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ValueError, match="--engine sklearn needs sklearn"):
        bench.main(json_path="-", engines=["sklearn"])


def test_a_path_that_cannot_be_written_is_refused_first(tmp_path):
    with pytest.raises(FileNotFoundError):
        bench.main(json_path=str(tmp_path / "none" / "x.json"))
    # and a run that then fails leaves no empty file
    with pytest.raises(ValueError, match="matches none"):
        bench.main(json_path=str(tmp_path / "x.json"), case="nothing like it")
    assert list(tmp_path.iterdir()) == []
