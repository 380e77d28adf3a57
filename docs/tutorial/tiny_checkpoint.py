"""Write a checkpoint for the tutorial, in place of one that you would download: `python tiny_checkpoint.py DIR`.

Out: DIR, in Hugging Face's layout: a Llama of 108,000 random parameters that reads and writes single characters.
"""

import sys
from pathlib import Path

import jax
import tokenizers
import transformers

from scaling.model.policy import Policy
from scaling.model.sizes import ModelConfig
from scaling.model.transformer import architecture
from scaling.pretrained.hf import save_checkpoint

WORDS = ("<pad>", "<s>", "</s>", *"0123456789+=# \n")


def save_tokenizer(folder: Path) -> None:
    """A word a character, and the three marks that a checkpoint needs."""
    model = tokenizers.models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<pad>")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = tokenizers.decoders.Fuse()
    tokenizer.add_special_tokens([tokenizers.AddedToken(word, special=True, normalized=False) for word in WORDS[:3]])
    marks = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks).save_pretrained(folder)


def main(folder: Path) -> None:
    folder.mkdir(parents=True)
    shape = ModelConfig(
        vocab_size=len(WORDS), width=64, num_layers=2, num_heads=4, num_kv_heads=4, head_width=16, ffn_width=192,
        max_positions=128,
    )  # fmt: skip
    save_checkpoint(Policy(architecture(shape).init(jax.random.key(0)), shape), folder)
    save_tokenizer(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
