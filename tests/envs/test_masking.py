"""What counts as a secret, and that nothing else does."""

from __future__ import annotations

from typing import Any

import pytest

from envs.masking import MASK, Masking
from envs.url_secrets import url_secrets


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"url": "http://me:pa55word@host:8000/x"}, {"url": f"http://{MASK}@host:8000/x"}),
        ({"url": "http://me:pa@55w@host/x"}, {"url": f"http://{MASK}@host/x"}),
        ({"url": "https://host/x?api_key=abc&n=1"}, {"url": f"https://host/x?api_key={MASK}&n=1"}),
        ({"api_key": "abc"}, {"api_key": MASK}),
        ({"password": "abc", "auth_token": "x y"}, {"password": MASK, "auth_token": MASK}),
        ({"x": "Authorization: Bearer abcdefgh"}, {"x": f"Authorization: Bearer {MASK}"}),
        (
            {"environment": {"HF_TOKEN": "hf", "VLLM_USE_V1": "1", "MY_THING": "x"}},
            {"environment": {"HF_TOKEN": MASK, "VLLM_USE_V1": "1", "MY_THING": MASK}},
        ),
        (
            {"environment": {"VLLM_API_KEY": "k", "REMOTE": "redis://:pw@h"}},
            {"environment": {"VLLM_API_KEY": MASK, "REMOTE": MASK}},
        ),
        (
            {"arguments": ["--api-key", "one", "two", "--seed", "3", "--hf-token=abc"]},
            {"arguments": ["--api-key", MASK, MASK, "--seed", "3", f"--hf-token={MASK}"]},
        ),
        (
            {"arguments": ["--kv-transfer-config", '{"token": "abc", "role": "both"}']},
            {"arguments": ["--kv-transfer-config", f'{{"token": "{MASK}", "role": "both"}}']},
        ),
        ({"notes": ["hf_abcdefghijklmnop1234"]}, {"notes": [MASK]}),
        ({"tags": ["token=s3cretvalue", "a b"]}, {"tags": [f"token={MASK}", "a b"]}),
        ({"note": "my-api-key=s3cretvalue, x"}, {"note": f"my-api-key={MASK}, x"}),
    ],
)  # fmt: skip
def test_secrets_are_masked(given: Any, shown: Any) -> None:
    assert Masking()(given) == shown


@pytest.mark.parametrize(
    "given",
    [
        {"api_key_env": "VLLM_API_KEY"},
        {"token_column": "ContextTokens", "first_token_id": 1000, "tokens": 32, "key": "time"},
        {"arguments": ["--max-num-batched-tokens", "8192", "--tokenizer", "m/x", "--eager"]},
        {"arguments": ["--max-num-batched-tokens=8192", "--tokenizer-mode=auto"]},
        {"note": "tokens=many-of-them max_token=100000 tokenizer=some/model secretary=anna-lena"},
        {"environment": {"CUDA_VISIBLE_DEVICES": "0,1", "PYTHONPATH": "/a:/b"}},
        {"url": "http://127.0.0.1:8000", "path": "/a/b@c/d.csv", "controllers": ["static", "pals"]},
        {"power_w": 1.5, "missing": None, "flag": True},
    ],
)  # fmt: skip
def test_all_else_stays(given: Any) -> None:
    assert Masking(given)(given) == given


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("http://host/?token=a,b;c]d&n=1", f"http://host/?token={MASK}&n=1"),
        ("--password=a&b;c)d, and more", f"--password={MASK}, and more"),
        ("(token=s3cretvalue)", f"(token={MASK})"),
        ("{'my-token': 'a,b&c'}", f"{{'my-token': '{MASK}'}}"),
    ],
)
def test_a_secret_ends_where_its_form_has_it_end(given: str, shown: str) -> None:
    assert Masking().text(given) == shown


def test_a_secret_is_masked_wherever_it_appears() -> None:
    config = {
        "server": {
            "url": "http://me:pa55word@host",
            "launch": {"environment": {"DB": "xyz12"}, "arguments": ["--api-key", "k3y4"]},
        }
    }
    text = "log: xyz12, k3y4 and pa55word; all else stays"
    assert Masking(config).text(text) == f"log: {MASK}, {MASK} and {MASK}; all else stays"


def test_secrets_of_this_process_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SERVICE_TOKEN", "t0ps3cret")
    monkeypatch.setenv("USE_AUTH", "enabled")
    monkeypatch.setenv("INHERITED", "from-the-vault-77")
    assert Masking().text("t0ps3cret enabled") == f"{MASK} enabled"
    given = {"environment": {"VLLM_REMOTE": "from-the-vault-77"}}
    assert Masking()(given) == {"environment": {"VLLM_REMOTE": MASK}}


@pytest.mark.parametrize(
    ("given", "secret"),
    [
        ({"url": "http://host/?api_key=pLanted99"}, "pLanted99"),
        ({"url": "http://host/?X-Amz-Credential=pLanted99&x=1"}, "pLanted99"),
        ({"url": "http://host/#token=pLanted99"}, "pLanted99"),
        ({"url": "http://me:pL%40nted99@host"}, "pL@nted99"),
        ({"arguments": ["-H", "Authorization: Bearer pLanted99"]}, "pLanted99"),
        ({"arguments": ["-H", "Authorization: Basic pLanted99"]}, "pLanted99"),
        ({"arguments": ["-H", "x-api-key: pLanted99"]}, "pLanted99"),
        ({"arguments": ["--config", '{"token": "pLanted99"}']}, "pLanted99"),
        ({"environment": {"VLLM_ENDPOINT": "http://me:pLanted99@host"}}, "pLanted99"),
        ({"note": "hf_pLanted99pLanted99"}, "hf_pLanted99pLanted99"),
    ],
)
def test_a_secret_that_its_form_tells_is_masked_wherever_it_appears(
    given: dict[str, Any], secret: str
) -> None:
    masking = Masking(given)
    assert "nted99" not in str(masking(given))
    assert masking.text(f"refused: {secret}") == f"refused: {MASK}"


def test_a_word_that_stands_where_a_secret_may_is_not_masked_elsewhere() -> None:
    given = {"url": "http://host/?key=llama", "note": "a llama of 8 billion"}
    assert Masking(given)(given)["note"] == "a llama of 8 billion"


RANDOM = "q7Zk2LmX9pRt4Vb8nWc3"


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("https://hooks.example.com/services/T000/B000/XXXXXXXXXXXX", "XXXXXXXXXXXX"),
        ("http://host/v1/key/pLanted99", "pLanted99"),
        ("http://host/access_token/pLanted-99/v1/chat", "pLanted-99"),
        ("http://host/apikey/pLanted%2099", "pLanted%2099"),
        (f"https://host/api/webhooks/1234567890/{RANDOM}-x_1", f"{RANDOM}-x_1"),
        (f"https://host/{RANDOM}/v1/chat", RANDOM),
        (f"https://host/bot123456789:{RANDOM}/send", f"bot123456789:{RANDOM}"),
        (
            "https://host/v2/a3b2bbc3ced97675ac3a71df45f55ba1/run",
            "a3b2bbc3ced97675ac3a71df45f55ba1",
        ),
        (f"https://host/run?code={RANDOM}&n=1", RANDOM),
        (f"https://host/run?{RANDOM}#top", RANDOM),
        (f"--hook=https://host/{RANDOM}, and more", RANDOM),
    ],
)
def test_what_looks_like_a_credential_in_a_path_is_masked(url: str, secret: str) -> None:
    assert set(url_secrets(url)) == {secret}
    masking = Masking({"server": {"url": url}})
    assert masking({"told": [url]}) == {"told": [url.replace(secret, MASK)]}
    assert masking.text(f"refused: {secret}") == f"refused: {MASK}"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/v1/chat/completions",
        "http://host/v1/keys/v1beta1/token/count_tokens/tokens/12345678/secrets",
        "https://res.openai.azure.com/openai/deployments/gpt-4o-mini/chat?api-version=2024-10-21",
        "https://huggingface.co/meta-llama/Meta-Llama-3.1-8B-Instruct-AWQ-INT4",
        "https://host/models/Mixtral-8x7B-Instruct-v0.1/DeepSeekCoderV2LiteInstruct",
        "https://host/AzureLLMInferenceTrace2023conv/20240115T103000Z/run_2024_01_15",
        "https://raw.githubusercontent.com/Azure/x/2f1d7ad1b6c0d5a7b2f4a6c8e0b9d3f5a1c2e4b6/data.csv",
        "https://host/3f2504e0-4f89-41d3-9a0c-0305e82c3301/projects",
        "file:///tmp/q7Zk2LmX9pRt4Vb8nWc3/lab", "sqlite:////home/q7Zk2LmX9pRt4Vb8nWc3/mlflow.db",
    ],
)  # fmt: skip
def test_ordinary_paths_stay(url: str) -> None:
    given = {"server": {"url": url}}
    assert Masking(given)(given) == given


def test_links_in_other_text_stay_whole() -> None:
    assert RANDOM in Masking({"url": "http://host"}).text(f"see https://host/runs/{RANDOM}")
