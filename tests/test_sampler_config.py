"""The section `sampler`: what is refused, and that a sweep without it is as it was."""

import pytest
from pydantic import ValidationError

from scaling import recipes
from scaling.config import Cell
from scaling.config_error import ConfigError
from scaling.data_config import Sampler
from scaling.grid import cells
from scaling.sweep_file import load_sweep

SWEEP = """
question: Does it load?
{section}
grid: {{algorithm: [sft, rft], data_size: [8]}}
seeds: [0]
"""


def load(tmp_path, section, *overrides):
    (tmp_path / "sweep.yaml").write_text(SWEEP.format(section=section))
    return load_sweep(tmp_path / "sweep.yaml", overrides)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"endpoint": "http://me:s3cret@host:8000/v1"}, "endpoint holds a user name or a password.*api_key_variable"),
        ({"endpoint": "host:8000/v1"}, "'host:8000/v1'; expected a URL such as http://localhost:8000/v1"),
        ({"endpoint": "ftp://host/v1"}, "expected a URL"),
        ({"endpoint": "http://host/v1?key=1"}, "expected a URL"),
        ({"endpoint": "http://host/v1", "export": False}, "model is missing; without export: true"),
        ({"endpoint": "http://host/v1", "api_key_variable": "sk-123"}, "api_key_variable"),
    ],
)
def test_what_cannot_work_or_would_be_logged_is_refused(settings, words):
    with pytest.raises(ValidationError, match=words):
        Sampler.model_validate({"export": True, **settings})


def test_a_sweep_names_its_server_and_mistakes_are_named_with_their_key(tmp_path):
    sweep = load(tmp_path, "sampler: {endpoint: http://gpu7:8000/v1, export: true}", "sampler.concurrency=7")
    assert Cell.model_validate(sweep.fixed).sampler == Sampler(
        endpoint="http://gpu7:8000/v1", export=True, concurrency=7
    )
    with pytest.raises(ConfigError, match=r"unknown key 'sampler.exprt'. Did you mean 'sampler.export'"):
        load(tmp_path, "sampler: {endpoint: http://gpu7:8000/v1, model: a, exprt: true}")


def test_a_sampler_cannot_be_an_axis_because_it_changes_no_result(tmp_path):
    with pytest.raises(ConfigError, match=r"unknown key 'sampler.concurrency'"):
        load(tmp_path, "", "grid.sampler.concurrency=[1, 2]")


def test_our_own_sampler_is_the_default_and_can_be_written(tmp_path):
    assert Cell().sampler is None
    assert Cell.model_validate(load(tmp_path, "sampler: null").fixed) == Cell()


def test_several_hosts_or_devices_would_ask_for_everything_anew_and_are_refused(tmp_path):
    server = "sampler: {endpoint: 'http://host/v1', export: true}"
    for amounts, words in (
        ("hosts: {rollouts: 2}, mesh: {rollouts: {data: 2}}", "2 workers"),
        ("mesh: {rollouts: {tensor: 2}}", "2 devices"),
    ):
        with pytest.raises(ConfigError, match=f"{words} of one stage, but"):
            load(tmp_path, f"{server}\nresources: {{{amounts}}}")
        load(tmp_path, f"resources: {{{amounts}}}")


def test_a_model_that_is_no_export_of_the_sweep_is_part_of_what_it_sampled(tmp_path):
    def digest(name):
        section = f"sampler: {{endpoint: 'http://host/v1', export: false, model: {name}}}"
        return recipes.evaluation(cells(load(tmp_path, section))[0], 0).digest

    assert digest("a") != digest("b")
