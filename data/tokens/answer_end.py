"""A completion up to its answer: what a policy writes behind it is no reasoning, and nothing to learn.

In: token ids, and the family with the policy's tokenizer. Out: the tokens up to the end of the answer
(data.problems.text_problems) and the stop token. A completion that ends there stays as it is, as do those of families
with words of their own.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence

from data.answers.final_answer import final_answer
from data.problems.text_problems import answer_end
from data.tokens.hf_tokenizer import HfTokenizer
from data.tokens.tokenizer import AnyTokenizer
from scaling.config.problems import Problems
from scaling.config.text_problems import Gsm8k, Jsonl, Math, TextProblems


def up_to_answer(problems: Problems, tokenizer: AnyTokenizer) -> Callable[[Sequence[int]], list[int]]:
    """Tokens of a completion -> those up to its answer."""
    if not isinstance(problems, TextProblems) or not isinstance(tokenizer, HfTokenizer):
        return list
    assert isinstance(problems, Gsm8k | Math | Jsonl)  # all that there are
    forms = problems.answer_forms

    def cut(tokens: Sequence[int]) -> list[int]:
        text = tokenizer.decode(tokens)
        end = answer_end(problems, text)
        if not text[end:].strip():
            return list(tokens)
        count = bisect_left(range(len(tokens)), end, key=lambda count: len(tokenizer.decode(tokens[:count])))
        kept = list(tokens[:count])
        # A token that goes on behind the answer may change it.
        if final_answer(tokenizer.decode(kept), forms) != final_answer(text, forms):
            return list(tokens)
        return [*kept, tokenizer.stop_tokens[0]]

    return cut
