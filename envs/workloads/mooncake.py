"""Mooncake's traces: long contexts from the production service of Kimi."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from envs.workloads.base import PromptTexts
from envs.workloads.columns import KNOWN, Columns
from envs.workloads.part_sizes import PART_TOKENS
from envs.workloads.public_file import PublicFile
from envs.workloads.tabular import TabularTrace


@dataclass(kw_only=True)
class Mooncake(TabularTrace):
    """Replay of a Mooncake trace: JSON lines with timestamp (ms), input and output length.

    The public traces record time in steps of 3 s, so that many requests arrive at once;
    ``spread_ties`` spreads them. ``hash_ids``, where the file has them, tell which prompts begin
    alike, in parts of 512 tokens; a server then has prefix caching on, unless it is told otherwise.
    """

    columns: ClassVar[Columns] = KNOWN[1]
    public_file: ClassVar[PublicFile | None] = PublicFile(
        workload="mooncake",
        url=(
            "https://raw.githubusercontent.com/kvcache-ai/Mooncake/"
            "a2a4b18ac537fd798d50e6e9f57031ce86419a37/FAST25-release/traces/"
            "conversation_trace.jsonl"
        ),
        location="mooncake/conversation_trace.jsonl",
        size_bytes=3_029_533,
        head_rows=1000,
        head_sha256="dada432983625bb163ad4e4d46a17cded4ef5424d98c4c3b5ba82d82e48bdfea",
        licence="Apache-2.0",
        cite="Qin et al., Mooncake: Trading more storage for less computation, FAST 2025",
    )

    @property
    @override
    def prompt_texts(self) -> PromptTexts:
        part_tokens = PART_TOKENS * self.prompt_scale
        return PromptTexts(ids=self._window.text_ids, part_tokens=part_tokens)
