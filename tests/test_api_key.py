"""Keys come from the environment, without what an editor left behind them, and no message shows them."""

import pytest

from data.api_key import ApiKeyError, api_key


def test_a_key_is_taken_without_the_blanks_around_it(monkeypatch):
    monkeypatch.setenv("KEY", " sk-secret\n")
    assert api_key("KEY", "sampler.api_key_env") == "sk-secret"


@pytest.mark.parametrize("value", ["sk secret", "sk-s\tecret", "sk-gehéim"])
def test_what_no_header_can_hold_is_refused_and_not_shown(monkeypatch, value):
    monkeypatch.setenv("KEY", value)
    with pytest.raises(ApiKeyError) as raised:
        api_key("KEY", "sampler.api_key_env")
    assert value not in str(raised.value)


def test_a_missing_or_empty_variable_is_named_with_its_setting(monkeypatch):
    monkeypatch.delenv("KEY", raising=False)
    with pytest.raises(ApiKeyError, match=r"sampler\.api_key_env is KEY"):
        api_key("KEY", "sampler.api_key_env")
