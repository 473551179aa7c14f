"""Numbers as people hand them over: one Python number for each spelling, one sentence for what is none."""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

from deepdefense.arguments import checked_number, checked_whole, from_text, plain_number

SPELLINGS = {
    "float": 0.25,
    "NumPy float32": np.float32(0.25),
    "NumPy float16": np.float16(0.25),
    "NumPy float64": np.float64(0.25),
    "NumPy longdouble": np.longdouble(0.25),
    "array": np.array(0.25),
    "tensor": torch.tensor(0.25),
    "tensor that takes a gradient": torch.tensor(0.25, requires_grad=True),
    "bfloat16": torch.tensor(0.25, dtype=torch.bfloat16),
    "parameter": torch.nn.Parameter(torch.tensor(0.25)),
    "fraction": Fraction(1, 4),
    "decimal": Decimal("0.25"),
}


@pytest.mark.parametrize("value", SPELLINGS.values(), ids=list(SPELLINGS))
def test_every_spelling_of_a_quarter(value):
    found = checked_number("eps", value, above=0, most=1)
    assert type(found) is float and found == 0.25


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3), torch.tensor(3), torch.tensor(3.0), Fraction(3)])
def test_every_spelling_of_three(value):
    assert checked_whole("steps", value, least=1) == 3 and type(checked_whole("steps", value)) is int
    assert checked_number("n", value) == 3


def test_values_are_those_that_the_scalar_holds():
    assert checked_number("eps", np.float32(0.1)) == float(np.float32(0.1)) != 0.1
    assert checked_number("eps", Fraction(8, 255)) == 8 / 255
    assert type(checked_number("eps", 1)) is int and checked_number("x", -2.5) == -2.5
    assert checked_whole("n", 6.0) == 6 and checked_whole("n", np.float32(100)) == 100 and type(checked_whole("n", 1e2)) is int


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("0.1", "got '0.1', which is text; give the number itself, without quotes"),
        ("8/255", "got '8/255', which is text"),
        ("a lot", "got 'a lot'$"),
        (None, "got None"),
        (True, "got True"),
        (np.bool_(True), "got "),
        (torch.tensor(True), "got tensor"),
        (1j, "got 1j"),
        (np.complex64(1), "got "),
        ([0.1], r"got \[0.1\]"),
        (np.array([0.1]), r"got ndarray of shape \(1,\)"),
        (torch.tensor([0.1, 0.2]), r"got Tensor of shape \(2,\)"),
        (math.nan, "got nan"),
        (torch.tensor(math.nan), r"got tensor\(nan\)"),
        (np.float64(math.inf), "got .*inf"),
        (Decimal("NaN"), "got Decimal"),
        (0, "got 0"),
        (np.float32(1.5), "got .*1.5"),
    ],
)
def test_what_is_no_number_within_the_limits_is_one_sentence(value, shown):
    with pytest.raises(ValueError, match=f"^eps must be a number above 0 and at most 1, in image units; .*{shown}") as error:
        checked_number("eps", value, above=0, most=1, unit="in image units")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [0.5, "3", None, True, math.nan, math.inf, np.float32(2.5), torch.tensor([1, 2])])
def test_what_is_not_whole(value):
    with pytest.raises(ValueError, match="^steps must be a whole number(;| of at least 1;)"):
        checked_whole("steps", value, least=1)


def test_limits_of_whole_numbers():
    with pytest.raises(ValueError, match="^n must be a whole number of at least 1 and at most 5; got 6"):
        checked_whole("n", 6, least=1, most=5)
    with pytest.raises(ValueError, match="^n must be a whole number; got 'x'"):
        checked_whole("n", "x")
    with pytest.raises(ValueError, match="^n must be a number; got 'x'"):
        checked_number("n", "x")


@pytest.mark.parametrize(
    ("text", "value"),
    [("6", 6), (" 6.0 ", 6.0), ("1e2", 100.0), ("8/255", 8 / 255), ("-.5", -0.5), *((none, None) for none in ("56.1%", "", "1/0", "two"))],
)
def test_numbers_in_text(text, value):
    assert from_text(text) == value and type(from_text(text)) is type(value)


def test_what_is_no_number_at_all():
    assert [plain_number(value) for value in ("1", None, [], {}, object(), True, float)] == [None] * 7
