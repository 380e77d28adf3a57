"""How often the verifier of text answers errs, on the real GSM8K: `python -m benchmarks.verifier FOLDER`, some minutes.

FOLDER holds GSM8K's train.jsonl and test.jsonl. Every one of the 8,792 reference answers meets itself, renderings that
change no value (they should be accepted), answers of other problems and near misses (they should not), with math-verify
behind the exact comparison as in a study. The numbers with their words in the set's own solutions, such as "36 km an
hour", meet the reference too. A sample of all these pairs is judged by two public graders: math-verify alone, and
mathruler, which holds the grader of PRM800K (Lightman et al. 2023, arXiv 2305.20050) with MATH's normalisation.
Writes benchmarks/results/verifier.json; needs the extra `problems`, and `pip install mathruler`.
"""

import argparse
import json
import platform
import re
import time
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path

import numpy as np

from data.answers.exact_numbers import exact_value
from data.answers.final_answer import final_answer, same_answer
from data.answers.math_process import MathProcess
from data.records import read_jsonl

RESULT = Path(__file__).with_name("results") / "verifier.json"
HOSTILE = ("9^{9^{9}}", "10^{10^{10}}", "((9!)!)!", r"\sum_{i=1}^{10^9} i^i")
PHRASE = re.compile(r"(?<![\w.,$/])(-?\$?\d[\d,]*(?:\.\d+)?)((?: |-)[A-Za-z][^.,;:=+*/()\d\n]*)(?=[.,;\n]|$)")

Grader = Callable[[str, str], bool]


def _whole(answer: str) -> int:
    value = exact_value(answer)
    assert value is not None and value.denominator == 1, answer
    return value.numerator


RENDERINGS: Mapping[str, Callable[[int], str]] = {
    "thousands parted": lambda n: f"{n:,}",
    "two decimals": lambda n: f"{n}.00",
    "dollars": lambda n: f"${n}",
    "LaTeX dollars": lambda n: rf"\${n}",
    "a unit": lambda n: f"{n} dollars per hour",
    "a unit in LaTeX": lambda n: rf"{n}\text{{ cm}}^2",
    "per cent": lambda n: rf"{n}\%",
    "fraction": lambda n: rf"\frac{{{2 * n}}}{{2}}",
    "dfrac": lambda n: rf"$\dfrac{{{3 * n}}}{{3}}$",
    "slash": lambda n: f"{5 * n}/5",
    "assignment": lambda n: f"x = {n}",
    "bold and a full stop": lambda n: f"**{n}**.",
}
BY_MATH_VERIFY: Mapping[str, Callable[[int], str]] = {
    "sum": lambda n: f"{n - 7}+7",
    "square root": lambda n: rf"\sqrt{{{n * n}}}" if n >= 0 else str(n),
    "product": lambda n: rf"{n} \cdot 1",
    "power": lambda n: rf"\frac{{{n}}}{{2^{{0}}}}",
}
NEAR_MISSES: Mapping[str, Callable[[int], str]] = {
    "one more": lambda n: str(n + 1),
    "one less": lambda n: str(n - 1),
    "other sign": lambda n: str(-n),
    "ten times": lambda n: str(10 * n),
    "a tenth": lambda n: str(Fraction(n, 10)),
    "two digits swapped": lambda n: _swapped(n),
    "a digit dropped": lambda n: str(n)[:-1],
    "a thousand times, in words": lambda n: f"{n} thousand",
    "reciprocal": lambda n: f"1/{n}" if n else "1",
    "half more": lambda n: rf"{n}\frac{{1}}{{2}}",
}
HEDGES: Mapping[str, Callable[[int], str]] = {
    "comma misplaced": lambda n: f"{str(n)[:-1]},{str(n)[-1:]}",
    "or another": lambda n: f"{n} or {n + 1}",
    "and another": lambda n: rf"{n} \text{{ and }} {n + 1}",
    "listed": lambda n: f"{n}, {n + 1}",
    "a range": lambda n: f"{n}-{n + 1}",
    "a set": lambda n: rf"\{{{n}, {n + 1}\}}",
    "an interval": lambda n: f"[{n}, {n + 1}]",
    "an inequality": lambda n: rf"x \geq {n}",
    "times a variable": lambda n: f"{n}x",
    "wrong sum": lambda n: f"{n}+1",
    "squared": lambda n: f"{n}^2" if n * n != n else "",
}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verifier", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="with GSM8K's train.jsonl and test.jsonl")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--sample", type=int, default=500, help="answers for what math-verify or a peer judges")
    arguments = parser.parse_args(argv)
    solutions = [
        row["answer"] for split in ("train", "test") for row in read_jsonl(arguments.folder / f"{split}.jsonl")
    ]
    answers = [final_answer(solution, ("hashes",)) for solution in solutions]
    process = MathProcess()
    found = measured(solutions, answers, process, arguments.sample)
    found["peers"] = compared(solutions, answers, process, arguments.sample)
    found["hostile"] = [_timed(process, text) for text in HOSTILE]
    process.close()
    packages = {name: version(name) for name in ("math-verify", "mathruler")}
    found["versions"] = {"python": platform.python_version(), **packages}
    arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


def measured(solutions: list[str], answers: list[str], process: MathProcess, sample: int) -> dict[str, object]:
    """Counts of what was accepted, and times. sample: answers for kinds that math-verify judges, 20 ms each."""
    check, rng = process.equivalent, np.random.default_rng(0)
    whole = [_whole(answer) for answer in answers]
    some = rng.permutation(len(answers))[:sample]
    start = time.perf_counter()
    itself = sum(same_answer(answer, answer, check) for answer in answers)
    plain = sum(same_answer(f"{n:,}.0", answer, check) for n, answer in zip(whole, answers, strict=True))
    seconds = time.perf_counter() - start
    partners = rng.permutation(len(answers))
    shuffled = [(answers[a], answers[b]) for a, b in enumerate(partners) if whole[a] != whole[b]]

    def accepted(kinds: Mapping[str, Callable[[int], str]], of: Sequence[int], right: bool) -> dict[str, dict]:
        table = {}
        for kind, written in kinds.items():
            pairs = [(written(whole[i]), answers[i]) for i in of]
            if not right:  # 11 with its digits swapped, or ten times 0, is no miss
                pairs = [(text, answer) for text, answer in pairs if text and exact_value(text) != exact_value(answer)]
            table[kind] = {"pairs": len(pairs), "accepted": sum(same_answer(*pair, check) for pair in pairs)}
        return table

    everything = range(len(answers))
    return {
        "answers": len(answers),
        "accepted_against_themselves": itself,
        "microseconds_a_comparison": 1e6 * seconds / (2 * len(answers)),
        "plain_renderings_accepted": plain,
        "renderings": accepted(RENDERINGS, everything, right=True),
        "renderings_by_math_verify": accepted(BY_MATH_VERIFY, some, right=True),
        "shuffled": {"pairs": len(shuffled), "accepted": sum(same_answer(*pair, check) for pair in shuffled)},
        "near_misses": accepted(NEAR_MISSES, everything, right=False),
        "hedges": accepted(HEDGES, some, right=False),
        "phrases": {
            kind: {"pairs": len(found), "accepted": sum(same_answer(*pair, lambda *asked: False) for pair in found)}
            for kind, found in phrases(solutions, answers).items()
        },
        "milliseconds_of_math_verify": _milliseconds(process, [whole[i] for i in some[:200]]),
        "cut_before_the_answer": _cut(solutions, answers, check),
        "killed": process.num_killed,
    }


def phrases(solutions: Sequence[str], answers: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """Numbers with their words in the set's own solutions, and the reference, which has the same value or another."""
    pairs: dict[str, list[tuple[str, str]]] = {"phrases of the value": [], "phrases of another value": []}
    for solution, answer in zip(solutions, answers, strict=True):
        body = re.sub(r"<<[^<>\n]*>>", "", solution.rpartition("\n####")[0])
        for number, words in PHRASE.findall(body):
            same = exact_value(number) == exact_value(answer)
            pairs[f"phrases of {'the' if same else 'another'} value"].append((number + words, answer))
    return pairs


def compared(solutions: list[str], answers: list[str], process: MathProcess, sample: int) -> dict[str, dict[str, int]]:
    """Kind of pair -> how many of a sample each grader accepts."""
    graders: dict[str, Grader] = {
        "verifier": lambda given, reference: same_answer(given, reference, process.equivalent),
        "math-verify": _math_verify(),
        "mathruler": _mathruler(),
    }
    rng = np.random.default_rng(1)
    some = [answers[i] for i in rng.permutation(len(answers))[:sample]]
    table = {}
    pairs = {
        kind: [(text, answer) for answer in some if (text := written(_whole(answer)))]
        for kinds in (RENDERINGS, BY_MATH_VERIFY, NEAR_MISSES, HEDGES)
        for kind, written in kinds.items()
    }
    for kind in (*NEAR_MISSES, *HEDGES):
        pairs[kind] = [(text, answer) for text, answer in pairs[kind] if exact_value(text) != exact_value(answer)]
    for kind, found in phrases(solutions, answers).items():
        pairs[kind] = [found[i] for i in rng.permutation(len(found))[: 5 * sample]]
    for kind, of_kind in pairs.items():
        accepted = {name: sum(grader(*pair) for pair in of_kind) for name, grader in graders.items()}
        table[kind] = {"pairs": len(of_kind), **accepted}
    return table


def _math_verify() -> Grader:
    from math_verify import parse, verify

    return lambda given, reference: verify(parse(f"${reference}$"), parse(f"${given}$"))


def _mathruler() -> Grader:
    try:
        from mathruler.grader import grade_answer
    except ImportError as error:
        raise ImportError("the second public grader is missing: pip install mathruler pylatexenc") from error
    return lambda given, reference: bool(grade_answer(given, reference))


def _cut(solutions: list[str], answers: list[str], check: Callable[[str, str], bool]) -> dict[str, int]:
    """Solutions without their last line, which state no answer: how many each form would reward."""
    cut = [solution.rpartition("\n####")[0] for solution in solutions]
    counts = {"solutions": len(cut)}
    for form in ("hashes", "boxed", "phrase", "last_number"):
        given = [final_answer(text, (form,)) for text in cut]
        pairs = [(text, answer) for text, answer in zip(given, answers, strict=True) if text is not None]
        counts[form] = sum(same_answer(*pair, check) for pair in pairs)
    return counts


def _milliseconds(process: MathProcess, numbers: list[int]) -> float:
    start = time.perf_counter()
    for number in numbers:
        process.equivalent(f"{number - 3}+3", str(number))
    return 1e3 * (time.perf_counter() - start) / len(numbers)


def _timed(process: MathProcess, text: str) -> dict[str, object]:
    start = time.perf_counter()
    equal = process.equivalent(text, "5")
    return {"answer": text, "accepted": equal, "seconds": time.perf_counter() - start}


def _swapped(number: int) -> str:
    digits = str(number)
    return digits[:-2] + digits[-1] + digits[-2] if len(digits.lstrip("-")) > 1 else ""


if __name__ == "__main__":
    main()
