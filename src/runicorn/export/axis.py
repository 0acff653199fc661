"""Place numbers on the axis of a chart, and choose the round numbers to write beside it."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

GRID = 1000
LARGEST = sys.float_info.max


@dataclass(frozen=True)
class Axis:
    """A range of numbers, and where each lies on a line of ``GRID`` units."""

    low: float
    high: float
    whole: bool = False

    @classmethod
    def around(cls, numbers: Sequence[float], *, room: float = 0.0, whole: bool = False) -> Axis:
        """The range of *numbers*, widened by *room* of itself on either side; never empty."""
        low, high = (min(numbers), max(numbers)) if numbers else (0.0, 1.0)
        if low == high:
            margin = 0.5 if whole else abs(low) / 10 or 1.0
        else:
            margin = (high / 2 - low / 2) * room * 2
        return cls(max(low - margin, -LARGEST), min(high + margin, LARGEST), whole)

    @property
    def half(self) -> float:
        """Half of the range; the whole may exceed the largest float."""
        return self.high / 2 - self.low / 2

    def at(self, number: float) -> float:
        return (number / 2 - self.low / 2) / self.half * GRID if self.half else GRID / 2

    def ticks(self) -> list[tuple[float, str]]:
        """Return two to six round numbers of the range, as (position, text)."""
        step = _round_up(self.half / 2.5)
        if self.whole:
            step = max(1.0, step)
        if not step:  # narrower than floats can divide
            return []
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        numbers = [number * step for number in range(first, last + 1)]
        return [(self.at(n), _tick_text(n, step, max(map(abs, numbers)))) for n in numbers]


def short(value: float) -> str:
    """Return a number for reading: six significant digits, or fewer if they say the same."""
    value = float(value)
    if value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.6g}"


def _tick_text(number: float, step: float, largest: float) -> str:
    """The number with as many digits as tell it from its neighbour on the axis."""
    if 1e4 <= largest < 1e9 and step >= 10:
        unit, letter = (1e6, "M") if largest >= 1e6 and step >= 1e4 else (1e3, "k")
        return f"{number / unit:g}{letter}" if number else "0"
    if number and (largest >= 1e6 or largest < 1e-3):
        digits = max(0, math.floor(math.log10(abs(number))) - math.floor(math.log10(step)))
        mantissa, exponent = f"{number:.{digits}e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{number:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}" if number else "0"


def _round_up(wanted: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten not below *wanted*; 0 if there is none."""
    if wanted < 1e-300:
        return 0.0
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(power * n for n in (1, 2, 5, 10) if power * n >= wanted * (1 - 1e-9))
