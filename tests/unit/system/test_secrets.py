"""Tokens and passwords come from the environment alone and are in nothing that is shown or kept."""

from __future__ import annotations

import pytest

from harness.system.secrets import holds_password, redacted


@pytest.mark.parametrize(
    "name", ["MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID",
             "HF_TOKEN", "some_api_key", "CLIENT_SECRET"],
)  # fmt: skip
def test_the_value_of_a_secret_variable_is_blackened_wherever_it_stands(monkeypatch, name):
    monkeypatch.setenv(name, "s3cr3t-value")
    assert redacted("401 for s3cr3t-value at host (s3cr3t-value)") == "401 for *** at host (***)"


def test_ordinary_variables_and_short_words_are_left_alone(monkeypatch):
    monkeypatch.setenv("HOME_FOLDER", "densenet121")
    monkeypatch.setenv("SOME_TOKEN", "cell")
    assert redacted("a cell of densenet121") == "a cell of densenet121"


def test_passwords_in_addresses_are_blackened(monkeypatch):
    assert redacted("no answer from http://me:pass@host:5000/x, postgresql://u:p@db/y") == (
        "no answer from http://***@host:5000/x, postgresql://***@db/y"
    )
    assert redacted("http://host/a@b") == "http://host/a@b"
    assert holds_password("http://me:pass@host") and not holds_password("http://host/a@b")
