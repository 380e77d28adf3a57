"""Plug-ins: what enters the identity, what reaches a worker, clear refusals, and ORPO's loss by hand."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plugin_page import ORPO, PARITY, ROOT, block, forgetting, on_workers, planned

from analysis.fitting.fits import fit_point
from analysis.fitting.forms import FORMS
from analysis.fitting.joint import Design
from analysis.multipliers.model import candidates
from scaling.config.errors import ConfigError
from scaling.engine.store import Store
from scaling.planning.sweep_file import load_sweep
from scaling.plugins import load_plugins
from scaling.stage import Stage


@pytest.fixture
def forgotten():
    with forgetting() as patch:
        yield patch


@pytest.mark.slow
@pytest.mark.ray
def test_a_worker_gets_the_plug_in_and_its_local_modules_as_text(forgotten, ray_cluster, tmp_path):
    (tmp_path / "near.py").write_text("WORD = 'here'\n")
    (tmp_path / "sent.py").write_text(
        "import near\nfrom scaling.kinds import Kind, register_kind\n\n"
        "def run(config, inputs, out):\n"
        "    (out / 'text').write_text(near.WORD + ' ' + __file__)\n    return {}\n\n"
        "register_kind(Kind('sent', 1, 'host', run, work='scaling.pricing.work:nothing'))\n"
    )
    load_plugins([tmp_path / "sent.py"])
    store, stage = Store(tmp_path / "store"), Stage("sent", {})
    assert on_workers([stage], store, {"host": {"cpu": 1}}).done == (stage,)
    word, _, file = (store.find(stage) / "text").read_text().partition(" ")
    assert word == "here" and "scaling-plugin-sent-" in file


# What identifies a result.


def digests(folder: Path, orpo: str, extra: str = "") -> dict[str, set[str]]:
    """Kind -> digests of a study with this text of orpo.py."""
    folder.mkdir()
    (folder / "orpo.py").write_text(orpo, encoding="utf-8")
    (folder / "weights.py").write_text(f"ODDS = 0.1{extra}\n")
    text = block("yaml").replace("[short_rft.py]", "[orpo.py]").replace(", short_rft", "")
    (folder / "study.yaml").write_text(text, encoding="utf-8")
    found: dict[str, set[str]] = {}
    with forgetting() as patch:
        patch.chdir(folder)
        for stage in planned(folder / "study.yaml").stages:
            found.setdefault(stage.kind, set()).add(stage.digest)
    return found


def test_an_edit_of_a_plug_in_changes_the_digests_of_its_stages_alone(tmp_path):
    text = ORPO.read_text(encoding="utf-8")
    first = digests(tmp_path / "first", text)
    edited = digests(tmp_path / "edited", text.replace("log_sigmoid(ratio)", "log_sigmoid(2 * ratio)"))
    assert first["orpo"].isdisjoint(edited["orpo"])
    assert {kind for kind in first if first[kind] != edited[kind]} == {"orpo", "evaluation"}
    assert len(first["evaluation"] & edited["evaluation"]) == 3  # of the base policy, and SFT at two sizes


def test_comments_and_docstrings_change_no_digest_and_local_modules_do(tmp_path):
    text = "import weights\n" + ORPO.read_text(encoding="utf-8")
    first = digests(tmp_path / "first", text)
    assert digests(tmp_path / "commented", text.replace("import weights", "import weights  # near")) == first
    near = digests(tmp_path / "near", text, extra=" + 0.1")
    assert near["orpo"].isdisjoint(first["orpo"]) and near["sft"] == first["sft"]


def family_digests(folder: Path, parity: str, family: str) -> dict[str, str]:
    """Stage kind and slug -> digest of the page's study of a family, with this text of parity.py."""
    folder.mkdir()
    (folder / "parity.py").write_text(parity, encoding="utf-8")
    text = block("yaml", "A problem family").replace("{family: parity, length: 10", f"{{family: {family}")
    (folder / "parities.yaml").write_text(text, encoding="utf-8")
    with forgetting() as patch:
        patch.chdir(folder)
        return {f"{stage.kind} {stage.slug}": stage.digest for stage in planned(folder / "parities.yaml").stages}


def test_an_edit_of_a_family_changes_the_digests_of_all_stages_on_its_problems_alone(tmp_path):
    text = PARITY.read_text(encoding="utf-8")
    edited = text.replace("RIGHT = 0.9", "RIGHT = 0.8")
    first, second = (
        family_digests(tmp_path / name, version, "parity") for name, version in (("one", text), ("two", edited))
    )
    assert first.keys() == second.keys() and all(first[name] != second[name] for name in first)
    assert family_digests(tmp_path / "said", text.replace("RIGHT = 0.9", "RIGHT = 0.9  # of steps"), "parity") == first
    sums = [
        family_digests(tmp_path / f"sums {name}", version, "modular_sum")
        for name, version in (("one", text), ("two", edited))
    ]
    assert sums[0] == sums[1]


def test_an_unknown_family_is_refused_with_those_that_are_registered(tmp_path, forgotten):
    (tmp_path / "parity.py").write_text(PARITY.read_text(encoding="utf-8"))
    (tmp_path / "parities.yaml").write_text(
        block("yaml", "A problem family").replace("family: parity", "family: pairty")
    )
    with pytest.raises(ConfigError, match=r"problems\.family is 'pairty'; expected one of 'modular_sum', .*'parity'\."):
        load_sweep(tmp_path / "parities.yaml")


def test_a_wrong_key_of_a_family_is_refused_with_its_own_keys(tmp_path, forgotten):
    (tmp_path / "parity.py").write_text(PARITY.read_text(encoding="utf-8"))
    (tmp_path / "parities.yaml").write_text(block("yaml", "A problem family").replace("length", "lenght"))
    with pytest.raises(ConfigError, match=r"unknown key 'problems.lenght'.*Did you mean 'problems.length'"):
        load_sweep(tmp_path / "parities.yaml")


def test_a_family_that_lacks_a_function_is_refused_by_name(tmp_path, forgotten):
    (tmp_path / "parity.py").write_text(PARITY.read_text(encoding="utf-8").replace("def solve(", "def _solve("))
    (tmp_path / "parities.yaml").write_text(block("yaml", "A problem family"))
    with pytest.raises(ConfigError, match="the problem family 'parity' lacks solve; its module parity defines"):
        load_sweep(tmp_path / "parities.yaml")


def test_the_pages_form_competes_in_studies_and_finds_a_planted_multiplier(tmp_path, forgotten):
    (tmp_path / "log_power.py").write_text(block("python", "A curve form"))
    load_plugins([tmp_path / "log_power.py"])
    assert [form.name for form in candidates(5, None, 0.1)] == ["pow2", "pow3", "log_power"]
    log_size, arm = np.log(np.tile(64.0 * 2 ** np.arange(7), 2)), np.repeat([0, 1], 7)
    x = np.exp(log_size + arm * np.log(4.0)) / 512
    errors = 0.02 + 0.2 * np.log1p(x) ** -0.5
    design = Design(log_size, arm, np.full(14, 1e4), float(errors.min()))
    fit = fit_point(design, errors, FORMS["log_power"], "H1")
    assert fit.converged[0] and fit.log_multiplier(1)[0] == pytest.approx(np.log(4.0), abs=1e-3)


# Refusals.

FAMILY = (
    "from typing import Literal\nfrom scaling.config.problems import DrawnProblems, ProblemFamily, register_family\n"
)
FORM = (
    "import numpy as np\nfrom analysis.fitting.forms import FORMS, Form, register_form\npow3 = FORMS['pow3'].evaluate\n"
)
KIND = "from scaling.kinds import Kind, register_kind\n"
ALGORITHM = (
    "from scaling.config.algorithms import Algorithm, register_algorithm\nfrom scaling.config.training import Sft\n"
)
REFUSED = {
    "taken_kind": (KIND + "register_kind(Kind('sft', 1, 'host', print, work=print))\n", r"line 2: .*'sft' is built in"),
    "taken_algorithm": (
        ALGORITHM + "register_algorithm(Algorithm('dpo', Sft, print, 'x'))\n",
        r"line 3: .*'dpo' is built in",
    ),
    "taken_family": (
        FAMILY + "class Sums(DrawnProblems):\n    family: Literal['star_graph'] = 'star_graph'\n"
        "register_family(ProblemFamily(Sums, __name__))\n",
        r"line 5: .*'star_graph' is built in",
    ),
    "nameless_family": (
        FAMILY + "class Sums(DrawnProblems):\n    family: str = 'sums'\n"
        "register_family(ProblemFamily(Sums, __name__))\n",
        r"line 5: .*Sums does not name its family",
    ),
    "rows_as_family": (
        FAMILY + "from scaling.config.text_problems import Jsonl\nregister_family(ProblemFamily(Jsonl, __name__))\n",
        r"line 4: .*Jsonl are not DrawnProblems",
    ),
    "taken_form": (
        FORM + "register_form(Form('pow3', '', ('log_a', 'log_b', 'floor'), 5, pow3))\n",
        r"line 4: .*'pow3' is built in",
    ),
    "form_in_another_order": (
        FORM + "register_form(Form('mine', '', ('log_a', 'floor', 'log_b'), 5, pow3))\n",
        r"line 4: .*expected log_a, log_b, then floor",
    ),
    "form_without_starts": (
        FORM + "register_form(Form('mine', '', ('log_a', 'log_b', 'floor', 'log_d'), 5, pow3))\n",
        r"line 4: .*expected one value of each start for each parameter",
    ),
    "form_with_a_wrong_derivative": (
        FORM + "def evaluate(*at):\n    found = pow3(*at)\n    return found._replace(by_log_x=-found.by_log_x)\n"
        "register_form(Form('mine', '', ('log_a', 'log_b', 'floor'), 5, evaluate))\n",
        r"line 7: .*mine: the derivative by log x is \S+ but the values change by -",
    ),
    "misspelled": ("x = 1\ndef f(:\n", r"misspelled\.py, line 2: invalid syntax"),
    "heavy": ("x = 1\nimport jax.numpy as jnp\n", r"heavy\.py imports jax when it is loaded.*inside of the functions"),
    "raising": ("x = 1\n1 / 0\n", r"line 2: ZeroDivisionError: division by zero"),
    "json": ("", r"the name 'json' belongs to another module; rename the file, such as my_json\.py"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_plug_in_that_cannot_be_used_is_refused_in_a_sentence(name, forgotten, tmp_path):
    text, expected = REFUSED[name]
    (tmp_path / f"{name}.py").write_text(text)
    with pytest.raises(ConfigError, match=rf"--import .*{name}\.py: .*{expected}|--import .*{expected}"):
        load_plugins([tmp_path / f"{name}.py"])
    assert name == "json" or name not in sys.modules


def test_a_plug_in_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="expected a Python file that exists"):
        load_plugins([tmp_path / "missing.py"])


def test_a_name_of_another_plug_in_is_refused(forgotten, tmp_path):
    for name, version in (("one", 1), ("two", 2)):
        text = f"register_kind(Kind('mine', {version}, 'host', print, work=print))\n"
        (tmp_path / f"{name}.py").write_text(KIND + text)
    load_plugins([tmp_path / "one.py"])
    with pytest.raises(ConfigError, match="'mine' is already registered"):
        load_plugins([tmp_path / "two.py"])


def test_an_algorithm_that_no_plug_in_registered_is_an_unknown_value(tmp_path):
    text = block("yaml").replace("imports: [short_rft.py]", "imports: []").replace("orpo: {epochs: 1}", "")
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(ConfigError, match="orpo"):
        load_sweep(tmp_path / "study.yaml")


@pytest.mark.slow
def test_jax_behind_a_module_of_this_project_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "behind.py").write_text("import algorithms.dpo\n")
    (tmp_path / "study.yaml").write_text(block("yaml"))
    done = subprocess.run(
        [sys.executable, "-m", "scaling.sweep", "study.yaml", "--import", "behind.py", "--plan"],
        cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.fspath(ROOT)},
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "imports a module of this project that imports " in done.stderr


# ORPO's loss.


@pytest.fixture
def orpo(forgotten):
    load_plugins([ORPO])
    return sys.modules["orpo"]


def numpy_orpo(logits, tokens, mask, weight, odds_weight):
    """Eqs. 6 and 7 in float64, one completion after another; total over pairs."""
    total = 0.0
    for pair in range(len(tokens)):
        mean = []
        for side in range(2):
            logps = []
            for place in range(1, tokens.shape[2]):
                if mask[pair, side, place]:
                    row = logits[pair, side, place - 1]
                    logps.append(row[tokens[pair, side, place]] - np.log(np.exp(row).sum()))
            mean.append(np.mean(logps))
        odds = [np.exp(value) / (1 - np.exp(value)) for value in mean]
        ratio = np.log(odds[0] / odds[1])
        total += weight[pair] * (-mean[0] + odds_weight * np.log1p(np.exp(-ratio)))
    return total


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 2, 5, 7))
    tokens = rng.integers(0, 7, size=(3, 2, 5)).astype(np.int32)
    mask = np.zeros((3, 2, 5), np.float32)
    mask[:, 0, 2:4] = mask[:, 1, 2:5] = 1.0  # the chosen completion is a token shorter
    return logits, {
        "tokens": tokens,
        "mask": mask,
        "weight": np.array([1.0, 1.0, 0.0], np.float32),  # the last pair is filler
        "odds_weight": np.float32(0.3),
    }


def _loss(orpo, logits, batch):
    def apply(params, tokens):
        return params.reshape(tokens.shape[0], tokens.shape[1], -1)

    return orpo.orpo_loss(apply, logits, {name: jnp.asarray(value) for name, value in batch.items()})["loss"]


def test_orpos_loss_is_that_of_plain_numpy(orpo, batch):
    logits, arrays = batch
    found = _loss(orpo, jnp.asarray(logits, jnp.float32), arrays)
    assert float(found.count) == 2.0
    np.testing.assert_allclose(float(found.total), numpy_orpo(logits, **arrays), rtol=1e-5)


def test_orpos_gradient_is_that_of_finite_differences(orpo, batch):
    logits, arrays = batch
    gradient = jax.grad(lambda moved: _loss(orpo, moved, arrays).total)(jnp.asarray(logits, jnp.float32))
    step = 1e-5
    for place in [(0, 0, 1, 3), (0, 1, 2, 0), (1, 0, 2, 6), (1, 1, 3, 2), (2, 0, 2, 1), (0, 0, 0, 0)]:
        up, down = logits.copy(), logits.copy()
        up[place] += step
        down[place] -= step
        slope = (numpy_orpo(up, **arrays) - numpy_orpo(down, **arrays)) / (2 * step)
        np.testing.assert_allclose(float(gradient[place]), slope, atol=1e-5)
