"""The tokenizer of a GGUF file, written as the files that `transformers` reads.

In: a .gguf file whose tokenizer is byte-level BPE (GPT-2, SmolLM2, Qwen2). Out: tokenizer.json and the chat template in
a folder. The file only names how text is cut before merging: an unknown name is refused.
"""

from pathlib import Path
from typing import Any

CONTROL, USER_DEFINED = 3, 4  # llama.cpp's types of tokens that stand for no text
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PRE_TOKENIZERS = ("gpt-2", "smollm", "qwen2")


def write_tokenizer(path: Path, folder: Path) -> None:
    """Write a GGUF file's tokenizer to a folder."""
    try:
        from gguf import GGUFReader
        from tokenizers import AddedToken, Tokenizer, decoders, models
        from transformers import PreTrainedTokenizerFast
    except ImportError as error:
        raise ImportError(
            "a GGUF file's tokenizer needs the packages gguf and transformers; install the project with its extra:"
            " pip install --editable '.[hf]'."
        ) from error
    fields = GGUFReader(path).fields
    stated: dict[str, Any] = {
        name.removeprefix("tokenizer."): field.contents() for name, field in fields.items() if name[:10] == "tokenizer."
    }
    model, pre = stated.get("ggml.model"), stated.get("ggml.pre")
    if model != "gpt2" or pre not in PRE_TOKENIZERS:
        raise ValueError(
            f"{path}: its tokenizer is {model!r}, cut as {pre!r}; known is 'gpt2', cut as {', '.join(PRE_TOKENIZERS)}."
            " Take the checkpoint in safetensors, which has its tokenizer beside it."
        )
    words = stated["ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in stated["ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({word: index for index, word in enumerate(words)}, merges))
    tokenizer.pre_tokenizer = _pre_tokenizer(pre)
    tokenizer.decoder = decoders.ByteLevel()
    specials = [
        AddedToken(word, special=kind == CONTROL, normalized=False)
        for word, kind in zip(words, stated["ggml.token_type"], strict=True)
        if kind in (CONTROL, USER_DEFINED)
    ]
    tokenizer.add_tokens(specials)
    named = {
        f"{role}_token": words[stated[f"ggml.{key}_token_id"]]
        for role, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
        if f"ggml.{key}_token_id" in stated
    }
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **named)
    fast.chat_template = stated.get("chat_template")
    fast.save_pretrained(folder)


def _pre_tokenizer(kind: str) -> Any:
    from tokenizers import Regex, pre_tokenizers

    if kind == "qwen2":
        split = pre_tokenizers.Split(Regex(_QWEN2), behavior="isolated")
        return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if kind == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), bytes_])
    return bytes_
