"""Sweep files: what is accepted, and that every mistake is one clear message with file, key and cure."""

import datetime
from pathlib import Path

import pytest
import yaml

from scaling.config.errors import ConfigError
from scaling.planning.grid import axes, cell_at, cells
from scaling.planning.sweep_file import load_sweep

GOOD = {
    "question": "Does it work?",
    "problems": {"family": "modular_sum", "modulus": 59},
    "grid": {"algorithm": ["sft", "rft"], "data_size": [64, 128]},
    "seeds": [0, 1, 2],
}


def write(tmp_path: Path, change: dict | None = None, text: str | None = None) -> Path:
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **(change or {})}) if text is None else text)
    return path


def message(tmp_path: Path, change: dict | None = None, text: str | None = None, overrides=()) -> str:
    path = write(tmp_path, change, text)
    with pytest.raises(ConfigError) as error:
        load_sweep(path, overrides)
    assert str(path) in str(error.value) or "--set" in str(error.value)
    return str(error.value)


def test_a_good_file_loads_and_its_cells_are_the_product(tmp_path):
    sweep = load_sweep(write(tmp_path))
    assert [(cell.algorithm, cell.data_size) for cell in cells(sweep)] == [
        ("sft", 64),
        ("sft", 128),
        ("rft", 64),
        ("rft", 128),
    ]
    assert axes(sweep) == ("algorithm", "data_size")


def test_a_list_of_grids_runs_its_union_once(tmp_path):
    grids = [GOOD["grid"], {"algorithm": ["sft"], "data_size": [128, 256]}]
    sweep = load_sweep(write(tmp_path, {"grid": grids}))
    assert [(cell.algorithm, cell.data_size) for cell in cells(sweep)][-1] == ("sft", 256)
    assert len(cells(sweep)) == 5


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ("policy.size", ["xs", "s"]),
        ("step_dpo.beta", [0.1, 1]),
        ("rft.max_positives", [1, 2]),
        ("problems.zipf_exponent", [0.5, 1.5]),
        ("evaluation.samples_per_problem", [4, 8]),
    ],
)
def test_any_key_of_the_schema_can_be_an_axis(tmp_path, axis, values):
    sweep = load_sweep(write(tmp_path, {"grid": {**GOOD["grid"], axis: values}}))
    assert len(cells(sweep)) == 8


def test_yaml_key_order_changes_nothing(tmp_path):
    first = load_sweep(write(tmp_path))
    second = load_sweep(write(tmp_path, text=yaml.safe_dump(dict(reversed(GOOD.items())), sort_keys=False)))
    assert cells(first) == cells(second)


def test_a_number_with_an_exponent_needs_no_dot(tmp_path):
    text = yaml.safe_dump(GOOD) + "\nsft: {learning_rate: 1e-4}\n"
    assert cells(load_sweep(write(tmp_path, text=text)))[0].sft.learning_rate == 1e-4


def test_set_replaces_a_key_before_anything_is_checked(tmp_path):
    sweep = load_sweep(write(tmp_path), ["rft.max_positives=32", "grid.data_size=[256]", "seeds=[5]"])
    assert cells(sweep)[0].rft.max_positives == 32
    assert {cell.data_size for cell in cells(sweep)} == {256}
    assert sweep.seeds == (5,)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"sfft": {}}, ["'sfft'", "Did you mean 'sft'"]),
        ({"sft": {"epoch": 3}}, ["'sft.epoch'", "Did you mean 'sft.epochs'"]),
        ({"sft": {"epochs": "five"}}, ["sft.epochs is 'five'", "integer"]),
        ({"sft": {"epochs": True}}, ["sft.epochs is True", "integer"]),
        ({"sft": {"epochs": 0}}, ["sft.epochs is 0", "greater than or equal to 1"]),
        ({"policy": {"size": "xss"}}, ["policy.size is 'xss'", "Did you mean 'xs'"]),
        ({"problems": {"family": "modular_sums"}}, ["problems.family is 'modular_sums'", "modular_sum"]),
        ({"problems": {"modulus": 59}}, ["problems.family is missing"]),
        ({"grid": {"algorithm": []}}, ["grid.algorithm is an empty axis"]),
        ({"grid": {"algorithm": ["sft", "sft"]}}, ["grid.algorithm[1] repeats 'sft'"]),
        ({"grid": {"algorithm": "sft"}}, ["grid.algorithm is 'sft'", "['sft']"]),
        ({"grid": {"algorithm": ["sfft"]}}, ["grid.algorithm[0] is 'sfft'", "Did you mean 'sft'"]),
        ({"grid": {"step_dpo.betta": [1.0]}}, ["grid.step_dpo.betta", "Did you mean 'step_dpo.beta'"]),
        ({"grid": {"sft.epochs": [1]}, "sft": {"epochs": 2}}, ["grid.sft.epochs", "also fixed"]),
        ({"grid": {"data_size": [64]}, "data_size": 64}, ["grid.data_size", "also fixed"]),
        ({"grid": []}, ["grid is empty"]),
        ({"grid": {"data_size": [10**7]}}, ["data_size is 10000000", "offers", "enlarge"]),
        ({"problems": {"family": "modular_sum", "modulus": 7, "num_validation": 5}}, ["num_test is 1024", "offers"]),
        ({"seeds": [0, 0]}, ["seeds[1] repeats 0"]),
        ({"seeds": []}, ["seeds"]),
        ({"seeds": [-1]}, ["seeds[0] is -1"]),
        ({"select": {"seeds": [0]}}, ["share [0]", "seeds of its own"]),
        ({"select": {"seeds": [100], "sft": {"epoch": [1]}}}, ["select.sft.epoch", "Did you mean 'sft.epochs'"]),
        ({"select": {"seeds": [100], "sft": {"epochs": []}}}, ["select.sft.epochs is empty"]),
        ({"select": {"seeds": [100], "sft": {"epochs": ["x"]}}}, ["select.sft.epochs[0] is 'x'"]),
        ({"select": {"seeds": [100], "sft": {"epochs": [2]}}, "sft": {"epochs": 5}}, ["also fixed"]),
        ({"analysis": {"claims": {"rtf": 2}}}, ["analysis.claims.rtf", "Did you mean 'rft'"]),
        ({"analysis": {"claims": {"rft": "about 2"}}}, ["'about 2'", '"<=1"']),
        (
            {"analysis": {"claims": {"rft": 2, "step_dpo": 8}}},
            ["analysis.claims.step_dpo claims 8", "the grid runs sft, rft.", "Take the claim out"],
        ),
        ({"grid": {"data_size": [64]}, "analysis": {"claims": {"dpo": "<=1"}}}, ["claims <=1", "the grid runs sft."]),
        ({"analysis": {"reference": "dpo"}}, ["analysis.reference is 'dpo'", "does not run"]),
        ({"step_values": {"best_of": 9}}, ["step_values", "best_of is 9", "rollouts_per_prefix"]),
        (
            {"step_values": {"adaptive": True}, "grid": {"algorithm": ["sft", "step_dpo", "step_rft"]}},
            ["grid at algorithm = 'step_rft'", "step_values.adaptive is true", "needs an unbiased Q of every step"],
        ),
        (
            {"step_values": {"adaptive": True}, "grid": {"algorithm": ["rft"], "rft.keep": ["distinct", "low_value"]}},
            ["rft.keep = 'low_value'", "needs an unbiased Q of every step"],
        ),
        ({"grid": {"rounds": [1, 21]}}, ["grid.rounds[1] is 21", "20"]),
        ({"evaluation": {"critical_steps": {"problms": 3}}}, ["evaluation.critical_steps.problms", "Did you mean"]),
        (
            {"evaluation": {"critical_steps": {"problems": 2000}}},
            ["critical_steps.problems is 2000", "num_test is 1024"],
        ),
        (
            {"grid": {"step_values.adaptive": [False, True], "step_dpo.pit_rule": ["largest_drop"]}},
            ["grid at step_dpo.pit_rule = 'largest_drop', step_values.adaptive = True", "step_values.adaptive: false"],
        ),
        (
            {"step_values": {"adaptive": True}, "select": {"seeds": [9], "step_dpo": {"pit_rule": ["largest_drop"]}}},
            ["select at step_dpo.pit_rule = 'largest_drop'", "an unbiased Q of every step"],
        ),
        ({"resources": {"train": {"cpu": 0}}}, ["resources.train.cpu is 0", "greater than 0"]),
        ({"resources": {"trian": {"cpu": 1}}}, ["unknown key 'resources.trian'", "Did you mean 'resources.train'?"]),
        ({"sft": None}, ["sft is None", "a mapping of its keys"]),
        ({"resources": {"train": {"cpus": 1}}}, ["resources: train.cpus", "did you mean cpu?"]),
        ({"resources": {"rollouts": {"GPU": 1}}}, ["resources: rollouts.GPU", "did you mean gpu?"]),
        ({"rft": {"max_positives": [1, 2]}}, ["To vary it, put it under grid: `rft.max_positives: [1, 2]`."]),
        ({"seeds": 3}, ["seeds is 3; expected a list. Write [0, 1, 2] for three."]),
        ({"question": 5}, ["question is 5", 'Quote the text: "5".']),
        ({"resources": {"train": {}}}, ["resources: train requests nothing", "cpu: 1"]),
        ({"resources": {"rollouts": {"gpu": 1.5}}}, ["resources: rollouts.gpu is 1.5", "a fraction below 1"]),
        ({"sft": {"learning_rate": float("inf")}}, ["sft.learning_rate is inf", "finite"]),
        ({"analysis": {"claims": {"rft": float("inf")}}}, ["analysis.claims.rft is inf", "finite"]),
        ({"analysis": {"claims": ["rft"]}}, ["analysis.claims is ['rft']", "a mapping"]),
        ({"seeds": [2**32]}, ["seeds[0] is 4294967296", "less than 4294967296"]),
        ({"seeds": list(range(60_000))}, ["grid has 240000 runs", "at most 100000", "Shorten an axis"]),
        ({"grid": {"step_dpo": {"beta": [1.0]}}}, ["grid.step_dpo is a section", "'step_dpo."]),
        ({"grid": {5: [1]}}, ["grid.5: unknown key '5'"]),
        (
            {"problems": {"family": "modular_sum", "degree": 2}},
            ["unknown key 'problems.degree'", "It is a key of the family star_graph."],
        ),
        ({"select": {"seeds": [100], "stf": {}}}, ["'select.stf'", "Did you mean 'select.sft'"]),
        ({"select": {"sft": {"epochs": [1, 2]}}}, ["select.seeds is missing"]),
        ({"store": ""}, ["store is ''", "expected some text"]),
        ({"seeds": "0-3"}, ["seeds is '0-3'; expected a list. Write [0, 1, 2] for three."]),
        ({"seeds": [1.5]}, ["seeds[0] is 1.5; expected an integer."]),
        ({"sft": {"learning_rate": "high"}}, ["sft.learning_rate is 'high'; expected a number."]),
        ({"rft": {"max_positives": True}}, ["rft.max_positives is True; expected an integer."]),
        ({"dpo": {"beta": 0}}, ["dpo.beta is 0; expected greater than 0."]),
        ({"verifier": {"classes": 1}}, ["verifier.classes is 1; expected greater than or equal to 2."]),
        (
            {"grid": {"algorithm": ["sfft"], "data_size": [64]}},
            ["grid.algorithm[0] is 'sfft'; expected 'sft',", "Did you mean 'sft'?"],
        ),
        (
            {"grid": {"algorithm": ["sft"], "data_size": ["64k"]}},
            ["grid.data_size[0] is '64k'; expected an integer."],
        ),
        ({"question": ["word"] * 100}, ["question is ['word', 'word'", "...; "]),
        ({"SFT": {}}, ["unknown key 'SFT'. Did you mean 'sft'?"]),
        ({"sft.epochs": 3}, ["unknown key 'sft.epochs'. Write it inside of its section, as sft: {epochs: ...}."]),
        ({"sft": {3: 4}}, ["sft has the key 3; expected a word. A number has no comma: write 1000."]),
        ({"sft": {"epochs": 1e3}}, ["sft.epochs is 1000.0; expected an integer. Write 1000."]),
        ({"sft": {"warmup_fraction": "10%"}}, ["sft.warmup_fraction is '10%'; expected a number. Write 0.1."]),
        ({"sft": {"learning_rate": "0.001"}}, ["expected a number. Write 0.001."]),
        ({"rft": {"include_synthetic": "yes"}}, ["expected true or false. The default is true."]),
        (
            {"checkpoint": "best"},
            ["checkpoint is 'best'; expected a mapping of its keys. Write checkpoint: {keep: last}."],
        ),
        (
            {"checkpoint": {"keep": "first"}},
            ["checkpoint.keep is 'first'; expected 'last' or 'best'. The default is last."],
        ),
        ({"resources": {"train": 1}}, ["resources.train is 1; expected a mapping. Write train: {cpu: 1}."]),
        ({"resources": {"cpu": 1}}, ["unknown key 'resources.cpu'. Known: resources.train, "]),
        ({"resources": {"hardware": {"name": "H100"}}}, ["expected a list. Write [{'name': 'H100'}]."]),
        (
            {"labels": {"sft": False}},
            ["labels.sft is False; expected text. Quote a text that YAML reads as true or false"],
        ),
        ({"labels": {"sft": "ours", "rft": "ours"}}, ["labels.sft is 'ours', as labels.rft is"]),
        ({"labels": {"sft": ""}}, ["labels.sft is ''; expected some text."]),
        ({"labels": {"rft, colour=4": "four"}}, ["no axis of the grid is colour; the axes are algorithm, data_size."]),
        ({"question": ""}, ["question is ''; expected some text."]),
        ({"grid": "sft"}, ["grid is 'sft'; it maps dotted keys to lists of values, such as algorithm: [sft, rft]."]),
        ({"grid": {"data_size": None}}, ["grid.data_size is empty; an axis is a list of values, such as [64, 128]."]),
        ({"grid": {"data_size": [[64]]}}, ["expected an integer. An axis is one list: leave the inner brackets out."]),
        ({"grid": {"data_size": [1, True]}}, ["grid.data_size[1] is True; expected an integer."]),
        ({"grid": {"algorithm": ["Step-DPO"]}}, ["grid.algorithm[0] is 'Step-DPO'", "Did you mean 'step_dpo'?"]),
        ({"grid": {"seed": [0]}}, ["grid.seed is no axis", "write seeds at the top of the file."]),
        ({"grid": {"sampler.model": ["a"]}}, ["grid.sampler.model is no axis", "write sampler at the top"]),
        ({"pretrain": {"num_updates": 10**23}}, ["pretrain.num_updates is 1000", "are not exact; lower it."]),
        ({"problems": "modular_sum"}, ["expected a mapping of its keys. Write problems: {family: modular_sum}."]),
        ({"problems": {"family": "ModularSum"}}, ["problems.family is 'ModularSum'", "Did you mean 'modular_sum'?"]),
        ({"teacher": {"model": "gpt"}}, ["sweep.yaml: teacher names gpt, but the family modular_sum"]),
        ({"analysis": {"claims": {"rft": True}}}, ["analysis.claims.rft is True; a claim is a multiplier such as 2"]),
        ({"analysis": {"claims": {"rft": "<=0"}}}, ["analysis.claims.rft is '<=0'; a claim is a multiplier"]),
        ({"analysis": {"claims": {"sft": 2}}}, ["claims 2 for the reference, whose multiplier is 1"]),
        ({"analysis": {"compare": [["rft"]]}}, ["analysis.compare[0] is ['rft']; expected two algorithms to compare"]),
        ({"analysis": {"compare": [["rft", "sft"]] * 2}}, ["analysis.compare[1] repeats ['rft', 'sft']"]),
        ({"analysis": {"equal_within": 1.25}}, ["but analysis.compare names no pair of algorithms"]),
        ({"evaluation": {"pass_at": [4, 4]}}, ["evaluation.pass_at has 4 more than once"]),
        ({"evaluation": {"sets": [{"name": "a b", "problems": {"operands": 5}}]}}, ["'a b'; expected letters, digits"]),
        (
            {"evaluation": {"sets": [{"name": "a", "problems": {"operand": 5}}]}},
            ["evaluation.sets[0].problems of 'a' has the unknown key 'operand'. Did you mean 'operands'?"],
        ),
        (
            {"evaluation": {"sets": [{"name": "a", "problems": {"operands": datetime.date(2024, 1, 1)}}]}},
            ["has operands = '2024-01-01'; expected integer, as in the section problems."],
        ),
        (
            {"evaluation": {"sets": [{"name": name, "problems": {"operands": 5}} for name in "ab"]}},
            ["evaluation.sets[1].problems of 'b' are those of 'a'"],
        ),
    ],
)
def test_every_mistake_names_key_value_and_cure(tmp_path, change, parts):
    found = message(tmp_path, change)
    for part in parts:
        assert part in found
    assert "\n" not in found


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("question: [unclosed", "is not YAML"),
        ("just a sentence", "holds a str"),
        ("", "holds nothing"),
        ("question: a\nquestion: b\n", "repeats the key 'question'"),
        ("question: !!python/object/apply:os.system ['true']\n", "is not YAML"),
        ("question: why\nseeds: [0]\n", "grid is missing; every sweep states question, grid and seeds."),
        ("? [a, b]\n: c\n", "line 1 has a key that is not a plain word"),
        (
            "question: why\nsft: {<<: {epochs: 1}, epochs: 2}\n",
            "line 2 has a key that is not a plain word, or merges with <<",
        ),
        ("question: 2024-13-45\n", "is not YAML: month must be in 1..12"),
        ("question: " + "[" * 3000 + "]" * 3000, "is not YAML: maximum recursion depth"),
        ("question: why\ngrid: }\n", "is not YAML: line 2, column 7"),
        ("question: why\nsft:\n\tepochs: 3\n", "indent with blanks, not with tabs."),
        ("question: is it: true?\n", "line 1, column 16: mapping values are not allowed here; quote a text that holds"),
        ("question: *why\n", "found undefined alias 'why'; quote a text that begins with *."),
        ("question: why\n---\nseeds: [0]\n", "leave out the line ---"),
        ("question: why\nseeds: [0, 010]\n", "line 2 has 010, which YAML reads as 8; write the number that you mean"),
        ("question: why\npretrain: {num_updates: 1:30}\n", "line 2 has 1:30, which YAML reads as 90"),
    ],
)
def test_what_is_no_sweep_is_said_to_be_none(tmp_path, text, part):
    assert part in message(tmp_path, text=text)


def test_all_mistakes_of_a_file_come_together_one_a_line(tmp_path):
    change = {
        "problem": {},
        "sft": {"learning_rate": "fast", "epochs": [3, 5]},
        "rft": {"keep": "distnct"},
        "grid": {"algorithm": ["sft", "sft"], "data_size": 64, "rft.max_positves": [1]},
        "seeds": 3,
    }
    lines = message(tmp_path, change).splitlines()
    assert all(line.startswith(f"{tmp_path / 'sweep.yaml'}: ") for line in lines)
    named = ["'problem'", "grid.algorithm[1]", "grid.data_size", "rft.max_positves", "seeds is 3"]
    named += ["sft.learning_rate", "sft.epochs", "rft.keep"]
    assert len(lines) == len(named) and all(part in line for part, line in zip(named, lines, strict=True))


def test_mistakes_of_all_sections_come_together_whatever_else_is_wrong(tmp_path):
    change = {
        "grid": {"algorithm": ["sft", "rft"], "data_size": [64, "128"], "dpo.beta": [0.0, 0.1]},
        "sft": {"epochs": "x"},
        "evaluation": {"sets": [{"name": "a", "problems": {"operands": 99}}]},
        "select": {"seeds": [0, 7, 7], "rft": {"epochs": [1, 1], "start": ["bass"]}},
        "seeds": [0, 0],
    }
    named = ["sft.epochs", "evaluation.sets[0].problems", "grid.dpo.beta[0]", "grid.data_size[1]", "seeds[1]"]
    lines = message(tmp_path, change).splitlines()
    assert [line.split(": ")[1].split()[0] for line in lines] == named
    change |= {"sft": {}, "evaluation": {}, "grid": GOOD["grid"], "labels": {"rtf": "a"}}
    named = ["seeds[1]", "select.seeds[2]", "select.seeds", "select.rft.epochs[1]", "labels"]
    lines = message(tmp_path, change).splitlines()
    assert [line.split(": ")[1].split()[0] for line in lines] == named
    text = yaml.safe_dump(GOOD).replace("64", "064") + "store: a\nstore: b\nfoo: 1\n"
    lines = message(tmp_path, text=text).splitlines()
    assert [line.split(": ")[1][:4] for line in lines] == ["line", "line", "unkn"]


def test_mistakes_that_need_cells_come_together_too(tmp_path):
    claims = {"analysis": {"claims": {"dpo": 2}}}
    both = message(tmp_path, {"grid": {"algorithm": ["sft", "rft"], "data_size": [10**9]}, **claims})
    assert [line.split(": ")[1].split()[0] for line in both.splitlines()] == ["data_size", "analysis.claims.dpo"]


@pytest.mark.parametrize("override", ["sft.epochs", "=3", "question.why=3", "sft.epochs=[unclosed"])
def test_a_wrong_override_says_how_to_write_one(tmp_path, override):
    assert "--set" in message(tmp_path, overrides=[override])


def test_a_file_of_other_bytes_is_said_to_be_no_yaml(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_bytes(bytes(range(128, 256)))
    with pytest.raises(ConfigError, match=r"sweep\.yaml: this is not YAML"):
        load_sweep(path)


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml does not exist"):
        load_sweep(tmp_path / "nowhere.yaml")


def test_the_whole_point_is_checked_not_only_each_axis(tmp_path):
    grid = {"step_values.best_of": [1, 8], "step_values.rollouts_per_prefix": [4, 8]}
    found = message(tmp_path, {"grid": grid})
    assert "step_values.best_of = 8, step_values.rollouts_per_prefix = 4" in found
    valid = load_sweep(write(tmp_path, {"grid": {"step_values.best_of": [8], "step_values.rollouts_per_prefix": [8]}}))
    assert len(cells(valid)) == 1


def test_cell_at_sets_dotted_keys(tmp_path):
    sweep = load_sweep(write(tmp_path))
    assert cell_at(sweep, {"dpo.beta": 0.5, "data_size": 7}).dpo.beta == 0.5
