"""Tokens and passwords come from the environment alone and are in nothing that is shown or kept."""

from __future__ import annotations

import pytest

from harness.system.secrets import holds_password, redacted, without_user


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


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://user:p@ss@host", "http://***@host"),
        ("postgresql://user:pa/ss@host", "postgresql://***@host"),
        ("postgresql+psycopg2://user:pa?s#s@host/db", "postgresql+psycopg2://***@host/db"),
        ("mysql://us/er:p@host:3306/db", "mysql://***@host:3306/db"),
        ("sqlite:////home/me@work/mlruns/mlflow.db", "sqlite:////home/me@work/mlruns/mlflow.db"),
        ("http://user:12/34@host", "http://***@host"),
        ("http://token@host/x", "http://***@host/x"),
        ("http://[::1]:5000/x", "http://[::1]:5000/x"),
        ("postgresql://host/db?user=me&password=hidden&sslmode=require",
         "postgresql://host/db?user=me&password=***&sslmode=require"),
        ("s3://bucket/x?X-Amz-Signature=abc&X-Amz-Date=1", "s3://bucket/x?X-Amz-Signature=***&X-Amz-Date=1"),
        ("http://host:5000/#/experiments/1?viewStateShareKey=x", "http://host:5000/#/experiments/1?viewStateShareKey=x"),
    ],
)  # fmt: skip
def test_who_logs_in_is_found_by_the_structure_of_an_address(address, shown):
    assert redacted(f"(see {address} for it)") == f"(see {shown} for it)"
    assert holds_password(address) == (shown != address)


def test_the_password_of_an_address_in_the_environment_is_blackened_in_all_its_spellings(monkeypatch):
    monkeypatch.setenv("STORE", "postgresql://me:ca%2Fna@ry 1@host/db")
    assert redacted("'ca%2Fna@ry 1', decoded ca/na@ry 1, quoted ca%2Fna%40ry%201") == "'***', decoded ***, quoted ***"
    monkeypatch.setenv("STORE", "postgresql://harness:harness@host/db")  # a word is none
    assert redacted("python -m harness") == "python -m harness"


def test_an_address_to_be_opened_has_nobody_in_it():
    assert without_user("https://me:pa@ss@host:5000") == "https://host:5000"
    assert without_user("https://host:5000") == "https://host:5000"
