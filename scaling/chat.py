"""Ask a trained policy: `python -m scaling.chat sweeps/NAME.yaml --algorithm rft --data-size 256 --seed 6`.

In: a sweep file or a policy's folder, which run, and prompts, from `--prompt` or one a line. Out: completions with
their log-probabilities and, where the answer is given, the verifier's judgement.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import scaling.origins  # noqa: F401  (first, since it says why the others cannot be imported)
from scaling.api import LoadedPolicy, PolicyError, load_policy
from scaling.config.errors import ConfigError
from scaling.planning.which_run import add_where, asked_where
from scaling.plugins import add_imports, load_plugins


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 wrong usage, no such policy, or a prompt that it cannot read."""
    arguments = _parser().parse_args(argv)
    try:
        load_plugins(arguments.imports)
        policy = load_policy(arguments.source, asked_where(arguments), arguments.set)
        print(repr(policy), file=sys.stderr)
        if "" in (arguments.answer, *(arguments.prompt or ())):
            raise ConfigError("--prompt or --answer is empty; give a text, such as the first of scaling.show problems.")
    except (ConfigError, PolicyError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    status = 0
    for prompt in arguments.prompt or _lines():
        try:
            _answer(policy, prompt, arguments)
        except (PolicyError, ValueError) as error:  # the next prompt may be one that it can read
            print(f"error: {error}", file=sys.stderr)
            status = 2
    return status


def _lines() -> Iterable[str]:
    if sys.stdin.isatty():
        print("A prompt a line; an empty one ends.", file=sys.stderr)
    for line in sys.stdin:
        if not line.strip():
            return
        yield line.rstrip("\n")


def _answer(policy: LoadedPolicy, prompt: str, arguments: argparse.Namespace) -> None:
    settings = (arguments.temperature, arguments.samples, arguments.sampling_seed)
    for item in policy.generate([prompt], *settings, max_new_tokens=arguments.max_new_tokens):
        facts = [f"log-probability {item.logp:.2f}", f"{item.num_tokens} tokens"]
        facts += [] if item.finished else ["cut by the limit"]
        if arguments.answer is not None:
            right, stated = policy.judge(prompt, arguments.answer, item.text)
            facts.append(f"{'right' if right else 'wrong'}, it states {'no answer' if stated is None else stated}")
        print(f"{item.text}\n  ({'; '.join(facts)})")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scaling.chat", description="Complete prompts with a trained policy."
    )
    parser.add_argument("source", type=Path, help="a sweep, such as sweeps/quickstart.yaml, or a policy's folder")
    add_where(parser)
    add_imports(parser)
    parser.add_argument("--prompt", action="append", metavar="TEXT", help='such as "3 5 7 1 ?"; may be repeated')
    parser.add_argument("--answer", metavar="TEXT", help="of the problem: also say whether the verifier accepts")
    parser.add_argument("--temperature", type=float, default=0.0, metavar="T", help="default 0, greedy")
    parser.add_argument("--samples", type=int, default=1, metavar="N", help="of each prompt, default 1")
    parser.add_argument("--sampling-seed", type=int, default=0, metavar="N", help="default 0")
    parser.add_argument("--max-new-tokens", type=int, metavar="N", help="default: what the family's solutions take")
    return parser


if __name__ == "__main__":
    sys.exit(main())
