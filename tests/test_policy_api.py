"""scaling.api: a policy by its folder or by its run, and completions that depend on prompt, sample and seed alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scaling.api import PolicyError, load_policy
from scaling.engine.results_dir import open_store
from scaling.engine.worker import run_stage
from scaling.planning.plan import plan
from scaling.planning.sweep_file import load_sweep
from scaling.planning.which_run import listed
from scaling.stage import in_order

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "scaling" / "shipped" / "pretrain" / "modular_sum-xs-14a70b4333"
OPTIMIZER = {"epochs": 1, "batch_size": 4}


@pytest.fixture(scope="module")
def base():
    return load_policy(SHIPPED)


@pytest.fixture
def ran(tiny):
    """Runs the policies of a tiny sweep, with changes, into its store; its file and the stages that train."""

    def run(**changes):
        file = tiny(sft=OPTIMIZER, seeds=[0], **{"grid": {"algorithm": ["sft"], "data_size": [4, 8]}, **changes})
        sweep = load_sweep(Path(file), ())
        store = open_store(sweep)
        policies = [one.stage.inputs["policy"] for one in plan(sweep, store.numbers).runs]
        for stage in in_order(policies):
            run_stage(stage, store)
        assert all(store.find(stage) for stage in policies)
        return file, [Path(store.find(stage)) for stage in policies]

    return run


def test_a_shipped_policy_completes_a_prompt(base):
    (completion,) = base.generate(["3 5 7 1 ?"])
    assert completion.prompt == "3 5 7 1 ?" and completion.finished
    assert completion.text.rpartition(" # ")[2].isdigit() and completion.text.count(";") == 3
    assert completion.num_tokens == len(completion.text.split()) + 1
    assert -20 < completion.logp < 0
    assert repr(base) == "<Policy modular_sum-xs-14a70b4333: 155,200 parameters>"


def test_the_log_probability_is_that_of_the_training_code(base):
    import jax.numpy as jnp

    from scaling.model.policy import policy_of
    from scaling.model.transformer import architecture
    from scaling.training.logps import completion_logps

    policy, tokenizer = policy_of(base._inputs, "policy"), base._tokenizer
    (completion,) = base.generate(["3 5 7 1 ?"], temperature=0.7, seed=3)
    prompt, answer = tokenizer.encode_prompt(completion.prompt), tokenizer.encode_completion(completion.text)
    tokens = jnp.array([prompt + answer])
    mask = jnp.array([[0.0] * len(prompt) + [1.0] * len(answer)])
    logits = architecture(policy.config).apply(policy.params, tokens)
    assert completion.logp == pytest.approx(float(completion_logps(logits, tokens, mask)[0]), abs=1e-3)


def test_a_completion_depends_on_prompt_sample_and_seed_alone(base):
    settings = {"temperature": 1.0, "samples": 3}
    both = base.generate(["3 5 7 1 ?", "1 2 3 4 ?"], seed=1, **settings)
    alone = base.generate(["1 2 3 4 ?"], seed=1, **settings)
    assert [item.text for item in both[3:]] == [item.text for item in alone]
    assert [(item.prompt, item.sample) for item in both[2:4]] == [("3 5 7 1 ?", 2), ("1 2 3 4 ?", 0)]
    assert [item.text for item in base.generate(["1 2 3 4 ?"], seed=2, **settings)] != [item.text for item in alone]
    assert base.generate([]) == []


def test_a_limit_cuts_a_completion(base):
    (cut,) = base.generate(["3 5 7 1 ?"], max_new_tokens=4)
    assert cut.num_tokens == 4 and not cut.finished


@pytest.mark.parametrize(
    ("prompts", "settings", "match"),
    [
        ("3 5 7 1 ?", {}, r"give a list of texts: \['3 5 7 1 \?'\]"),
        (["3 5 99 ?"], {}, "word '99' .* is not among the 63 words"),
        (["3 ?"], {"samples": 2}, "samples is 2 at temperature 0"),
        (["3 ?"], {"samples": 0}, "samples is 0"),
        (["3 ?"], {"temperature": -1.0}, "temperature is -1.0"),
        (["3 ?"], {"seed": -1}, "seed is -1"),
        (["3 ?"], {"top_p": 0.0}, "top_p is 0.0"),
    ],
)
def test_what_cannot_be_sampled_is_an_error(base, prompts, settings, match):
    with pytest.raises(ValueError, match=match):
        base.generate(prompts, **settings)


def test_a_run_of_a_sweep_has_the_policy_of_its_artifact(ran):
    file, (_, folder) = ran()
    policy = load_policy(file, {"data_size": 8})
    (completion,) = policy.generate(["1 2 3 ?"], temperature=1.0)
    assert load_policy(folder).generate(["1 2 3 ?"], temperature=1.0) == [completion]
    assert policy.name.startswith("sft/d8-s0-")
    with pytest.raises(PolicyError, match=r"2 runs .* also say which data_size \(4, 8\)"):
        load_policy(file)
    with pytest.raises(PolicyError, match=r"where has data_size = 5; the runs of .* have 4, 8"):
        load_policy(file, {"data_size": 5})
    with pytest.raises(PolicyError, match="where has 'size', which does not vary between runs"):
        load_policy(file, {"size": 8})


def test_an_empty_value_is_shown_as_an_option_takes_it():
    assert listed([None, 3, "a"]) == "null, 3, 'a'"


def test_adapters_are_merged_into_the_policy_they_start_from(ran):
    lora = {"rank": 2, "alpha": 4.0}
    file, folders = ran(policy={"size": "xxs", "base": "random", "lora": lora})
    assert (folders[0] / "adapters.safetensors").exists()
    policies = [load_policy(file, {"data_size": 4}), load_policy(folders[0])]
    texts = [policy.generate(["1 2 3 ?"], temperature=1.0, samples=4) for policy in policies]
    assert texts[0] == texts[1]


def test_an_imported_policy_brings_its_tokenizer(ran, tmp_path):
    pytest.importorskip("transformers", reason="needs transformers: pip install -e '.[hf]'")
    from random_checkpoint import save_random

    (tmp_path / "checkpoint").mkdir()
    file, folders = ran(policy={"hf": str(save_random(tmp_path / "checkpoint"))})
    of_run = load_policy(file, {"data_size": 4}).generate(["1 2 3 ?"], max_new_tokens=8)
    assert load_policy(folders[0]).generate(["1 2 3 ?"], max_new_tokens=8) == of_run
    (folder,) = (folders[0].parents[1] / "pretrain").iterdir()
    (completion,) = load_policy(folder).generate(["Good day"], max_new_tokens=8)
    assert completion.num_tokens <= 8


def test_a_run_that_is_not_in_says_what_to_run(tiny):
    file = tiny(seeds=[0], grid={"algorithm": ["sft"], "data_size": [8]})
    with pytest.raises(PolicyError, match=r"sft/d8-s0-\w+, the policy of .* run python -m scaling\.sweep"):
        load_policy(file)
    file = tiny(
        seeds=[0], grid={"algorithm": ["sft"], "data_size": [8]}, select={"seeds": [5], "sft": {"epochs": [1, 2]}}
    )
    with pytest.raises(PolicyError, match="are not chosen yet"):
        load_policy(file)


def test_what_holds_no_policy_is_an_error(ran, tmp_path):
    with pytest.raises(PolicyError, match="is neither a folder nor a sweep file"):
        load_policy(tmp_path / "missing")
    with pytest.raises(PolicyError, match=r"has no record\.json"):
        load_policy(ROOT / "results" / "shipped" / "quickstart")
    with pytest.raises(PolicyError, match="where and overrides choose among the runs"):
        load_policy(SHIPPED, {"seed": 0})
    file, _ = ran()
    (folder, *_) = sorted((Path(file).parent / "store" / "teacher").iterdir())
    with pytest.raises(PolicyError, match="of kind teacher, which holds no policy"):
        load_policy(folder)
    alone = tmp_path / "kind" / "policy-0123456789"
    alone.mkdir(parents=True)
    (alone / "policy.json").write_text("{}")
    (alone / "record.json").write_text(json.dumps({"kind": "dpo", "config": {}, "inputs": {"start": "0" * 10}}))
    with pytest.raises(PolicyError, match="states no problem family"):
        load_policy(alone)


def test_importing_it_brings_no_jax():
    code = "import sys, scaling.api; assert not {'jax', 'ray', 'flax'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=3000)
