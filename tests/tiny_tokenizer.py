"""A byte-level tokenizer of 256 bytes, three merges and three specials, for `transformers` and for llama.cpp."""

from pathlib import Path

import numpy as np
import tokenizers
import transformers

SPECIALS = ("<pad>", "<s>", "</s>")
BYTES = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
MERGES = (("h", "e"), ("he", "l"), ("Ġ", "="))
WORDS = (*SPECIALS, *BYTES, *map("".join, MERGES))
TEMPLATE = (
    "{% for message in messages %}<s>{{ message['role'] }}\n{{ message['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


def save_tokenizer(folder: Path, template: str | None = None, eos: str | None = "</s>") -> None:
    """Write tokenizer.json and what belongs to it."""
    model = tokenizers.models.BPE({word: index for index, word in enumerate(WORDS)}, list(MERGES))
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Digits(individual_digits=True),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens([tokenizers.AddedToken(word, special=True, normalized=False) for word in SPECIALS])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token=eos
    )
    fast.chat_template = template
    fast.save_pretrained(folder)


def add_gguf_tokenizer(writer, pre: str = "smollm") -> None:
    """The same tokenizer in the fields of a GGUF file."""
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(list(WORDS))
    writer.add_token_types([3] * len(SPECIALS) + [1] * (len(WORDS) - len(SPECIALS)))
    writer.add_token_merges([" ".join(merge) for merge in MERGES])
    writer.add_pad_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)


def random_text(rng: np.random.Generator) -> str:
    """Letters, digits, blanks, line ends and what takes several bytes."""
    return "".join(rng.choice(list("hel =0189\n  é世$\t"), size=rng.integers(0, 30)))
