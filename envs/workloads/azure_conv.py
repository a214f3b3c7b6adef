"""The Azure 2023 conversation trace: an hour of a production chat service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from envs.workloads.columns import KNOWN, Columns
from envs.workloads.public_file import PublicFile
from envs.workloads.tabular import TabularTrace


@dataclass(kw_only=True)
class AzureConv(TabularTrace):
    """Replay of an Azure LLM inference trace (2023 and 2024 have one format)."""

    columns: ClassVar[Columns] = KNOWN[0]
    public_file: ClassVar[PublicFile | None] = PublicFile(
        workload="azure_conv",
        url=(
            "https://raw.githubusercontent.com/Azure/AzurePublicDataset/"
            "790921015d50dd6aae7f7e47f39ba0e235ad6b08/data/AzureLLMInferenceTrace_conv.csv"
        ),
        location="azure-llm-2023/AzureLLMInferenceTrace_conv.csv",
        size_bytes=719_188,
        sha256="2f1e5b666d4e3055fdbba98598ce2ec307767b9064e03e2fa46676dbcc7d0bf8",
        licence="CC-BY-4.0",
        cite="Patel et al., Splitwise: Efficient generative LLM inference using phase "
        "splitting, ISCA 2024",
    )
