"""A checkpoint's own tokenizer and chat template, through `transformers`, with the interface of `tokenizer`.

In: the folder of a checkpoint or of an imported policy. Out: `HfTokenizer`. A prompt is the user's turn in the chat
template and the opening of the assistant's. For a base checkpoint without a chat template, or if the study names a
template of its own, it is BOS and the text in that template. A completion is its text and the token that ends a turn.
Code that comes with a checkpoint is never run.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile
from pathlib import Path
from typing import Any

from scaling.config.policy import DEFAULT_TEMPLATE, PROMPT
from scaling.model.sizes import ModelConfig

NO_TEXT = "\ufffd"
PROMPT_FILE = "prompt_template.json"  # beside an imported policy, where a study names a template


@dataclass(frozen=True)
class HfTokenizer:
    """Text to token ids and back."""

    tokenizer: Any  # transformers.PreTrainedTokenizerBase
    stop_tokens: tuple[int, ...]  # ids that end a completion, the tokenizer's own first
    vocab_size: int  # V of the policy: often more than the tokenizer has, to a multiple of 64 or 128
    prompt_template: str | None = None  # in place of the chat template

    def id_of(self, word: str) -> int:
        """The id of a word that is one token, such as the one that ends a step."""
        ids = self.encode(word)
        if len(ids) != 1:
            raise ValueError(f"tokenizer: {word!r} is {len(ids)} tokens, {ids}; expected a text that is one token.")
        return ids[0]

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without specials, even where the text spells one."""
        return list(self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))

    def encode_prompt(self, text: str) -> list[int]:
        if self.prompt_template is not None:
            bos = self.tokenizer.bos_token_id
            return ([] if bos is None else [bos]) + self.encode(self.prompt_template.replace(PROMPT, text))
        turn = [{"role": "user", "content": text}]
        return list(self.tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=False))

    def encode_completion(self, text: str) -> list[int]:
        return [*self.encode(text), self.stop_tokens[0]]

    def decode(self, ids: Iterable[int]) -> str:
        """The text up to the first stop token, other specials left out; U+FFFD for an id that stands for no text."""
        known, kept = len(self.tokenizer), before_stop(ids, self.stop_tokens, self.vocab_size)
        runs = [(is_text, list(run)) for is_text, run in groupby(kept, lambda token: token < known)]
        return "".join(self._text(run) if is_text else NO_TEXT * len(run) for is_text, run in runs)

    def room_for(self, num_words: int, vocabulary: Sequence[str]) -> int:
        """The most tokens that num_words words of a vocabulary take; without a vocabulary, num_words counts tokens."""
        if not vocabulary:
            return num_words
        return num_words * max(len(self.encode(before + word)) for word in vocabulary for before in ("", " "))

    def _text(self, run: list[int]) -> str:
        return str(self.tokenizer.decode(run, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def before_stop(ids: Iterable[int], stop_tokens: Collection[int], vocab_size: int) -> list[int]:
    """The ids up to the first stop token, without it. Raises ValueError for one that is outside the vocabulary."""
    kept = list(takewhile(lambda token: token not in stop_tokens, map(int, ids)))
    for token in kept:
        if not 0 <= token < vocab_size:
            raise ValueError(
                f"tokenizer: token {token} is outside the vocabulary of {vocab_size}; the tokens come from another"
                " tokenizer."
            )
    return kept


def load_tokenizer(folder: Path, config: ModelConfig) -> HfTokenizer:
    """The tokenizer in a folder, for a policy of this shape; it stops at its own eos_token and at the policy's."""
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise ImportError(
            "a checkpoint's tokenizer needs the package transformers, which is not installed; install the project with"
            " its extra: pip install --editable '.[hf]'."
        ) from error
    files = ("tokenizer.json", "tokenizer.model", "vocab.json")
    if not any((folder / name).is_file() for name in files):
        raise ValueError(
            f"{folder} has no tokenizer: none of {', '.join(files)}; give the folder of a whole checkpoint."
        )
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if tokenizer.eos_token_id is None:
        raise ValueError(f"{folder}: the tokenizer has no eos_token; name it in tokenizer_config.json.")
    if len(tokenizer) > config.vocab_size:
        raise ValueError(
            f"{folder}: the tokenizer has {len(tokenizer)} tokens, but the policy's vocab_size is {config.vocab_size};"
            " they are not of one checkpoint."
        )
    own = folder / PROMPT_FILE
    template = json.loads(own.read_text(encoding="utf-8")) if own.is_file() else None
    if template is None and tokenizer.chat_template is None:
        template = DEFAULT_TEMPLATE
    stop_tokens = dict.fromkeys((tokenizer.eos_token_id, *(config.stop_tokens or ())))
    return HfTokenizer(tokenizer, tuple(stop_tokens), config.vocab_size, template)


def save_tokenizer(tokenizer: HfTokenizer, folder: Path, prompt_template: str | None) -> None:
    """Write its files, with the template that replaces the checkpoint's own, if any."""
    tokenizer.tokenizer.save_pretrained(folder)
    if prompt_template is not None:
        (folder / PROMPT_FILE).write_text(json.dumps(prompt_template) + "\n", encoding="utf-8")
