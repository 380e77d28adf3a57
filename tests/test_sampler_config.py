"""The section `sampler`: what is refused, and that a sweep without it is as it was."""

import pytest
from pydantic import ValidationError

from scaling.config.errors import ConfigError
from scaling.config.sampling import Sampler
from scaling.config.sweep import Cell
from scaling.planning import recipes
from scaling.planning.grid import cells
from scaling.planning.sweep_file import load_sweep

SWEEP = """
question: Does it load?
{section}
grid: {{algorithm: [sft, rft], data_size: [8]}}
seeds: [0]
"""

TAUGHT = "problems: {family: gsm8k}\npolicy: {hf: some/policy}\n"


def load(tmp_path, section, *overrides):
    (tmp_path / "sweep.yaml").write_text(SWEEP.format(section=section))
    return load_sweep(tmp_path / "sweep.yaml", overrides)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"endpoint": "http://me:s3cret@host:8000/v1"}, "a user name, a password or a query in it.*see api_key_env"),
        ({"endpoint": "host:8000/v1"}, "'host:8000/v1'; expected a URL such as http://localhost:8000/v1"),
        ({"endpoint": "ftp://host/v1"}, "expected a URL"),
        ({"endpoint": "http://host/v1?key=1"}, "a user name, a password or a query in it"),
        ({"endpoint": "http://host/v1", "export": False}, "model is missing; without export: true"),
        ({"endpoint": "me:s3cret@host:8000/v1"}, "a user name, a password or a query in it.*see api_key_env"),
        ({"endpoint": "http://host:80000/v1"}, "expected a number from 1 to 65535"),
        ({"endpoint": "http://[::1]:0/v1"}, "expected a number from 1 to 65535"),
        ({"endpoint": "http://me:s3cret/v1"}, "expected a number from 1 to 65535"),
        ({"endpoint": "http://host/v1", "api_key_env": "sk-123"}, "not the name of an environment variable"),
        ({"endpoint": "http://host/v1", "api_key_env": "sk_s3cret"}, "not the name of an environment variable"),
    ],
)
def test_what_cannot_work_or_would_be_logged_is_refused(settings, words):
    with pytest.raises(ValidationError, match=words):
        Sampler.model_validate({"export": True, **settings})


@pytest.mark.parametrize(
    "section",
    [
        "sampler: {endpoint: 'http://host/v1', export: true, api_key_env: sk-s3cret}",
        "sampler: {endpoint: 'http://host/v1?key=sk-s3cret', export: true}",
        "sampler: {endpoint: 'http://sk-s3cret@host/v1', export: true}",
        "sampler: {endpoint: 'http://me:s3cret/v1', export: true}",
        "sampler: {endpoint: 'http://me:s3cr\u2100t@host/v1', export: true}",
        TAUGHT + "teacher: {model: m, api_key_env: sk-s3cret}",
        TAUGHT + "teacher: {model: m, endpoint: 'http://host/v1#sk-s3cret'}",
    ],
)
def test_a_key_in_a_sweep_file_is_refused_and_not_shown(tmp_path, section):
    with pytest.raises(ConfigError, match=r"(sampler|teacher)\.(api_key_env|endpoint) (is|has) ") as caught:
        load(tmp_path, section)
    assert "s3cr" not in str(caught.value)


def test_a_sweep_names_its_server_and_mistakes_are_named_with_their_key(tmp_path):
    sweep = load(tmp_path, "sampler: {endpoint: http://gpu7:8000/v1, export: true}", "sampler.max_concurrency=7")
    assert Cell.of(**sweep.fixed).sampler == Sampler(endpoint="http://gpu7:8000/v1", export=True, max_concurrency=7)
    with pytest.raises(ConfigError, match=r"unknown key 'sampler.exprt'. Did you mean 'sampler.export'"):
        load(tmp_path, "sampler: {endpoint: http://gpu7:8000/v1, model: a, exprt: true}")


def test_a_sampler_cannot_be_an_axis_because_it_changes_no_result(tmp_path):
    with pytest.raises(ConfigError, match=r"grid.sampler.max_concurrency is no axis"):
        load(tmp_path, "", "grid.sampler.max_concurrency=[1, 2]")


def test_our_own_sampler_is_the_default_and_can_be_written(tmp_path):
    assert Cell.of().sampler is None
    assert Cell.of(**load(tmp_path, "sampler: null").fixed) == Cell.of()


def test_several_hosts_or_devices_would_ask_for_everything_anew_and_are_refused(tmp_path):
    server = "sampler: {endpoint: 'http://host/v1', export: true}"
    for amounts, words in (
        ("hosts: {rollouts: 2}, mesh: {rollouts: {data: 2}}", "2 workers"),
        ("mesh: {rollouts: {tensor: 2}}", "2 devices"),
    ):
        with pytest.raises(ConfigError, match=f"{words} per stage, but"):
            load(tmp_path, f"{server}\nresources: {{{amounts}}}")
        load(tmp_path, f"resources: {{{amounts}}}")


def test_a_model_that_is_no_export_of_the_sweep_is_part_of_what_it_sampled(tmp_path):
    def digest(name):
        section = f"sampler: {{endpoint: 'http://host/v1', export: false, model: {name}}}"
        return recipes.evaluation(cells(load(tmp_path, section))[0], 0).digest

    assert digest("a") != digest("b")
