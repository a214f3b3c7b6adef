"""The Azure 2023 code trace: an hour of a production code completion service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from envs.workloads.azure_conv import AzureConv
from envs.workloads.public_file import PublicFile


@dataclass(kw_only=True)
class AzureCode(AzureConv):
    """Replay of the Azure 2023 code trace: long prompts, short answers."""

    public_file: ClassVar[PublicFile | None] = PublicFile(
        workload="azure_code",
        url=(
            "https://raw.githubusercontent.com/Azure/AzurePublicDataset/"
            "b469a113cedca53ddc3bdea71a143dc4b7d8700c/data/AzureLLMInferenceTrace_code.csv"
        ),
        location="azure-llm-2023/AzureLLMInferenceTrace_code.csv",
        size_bytes=320_117,
        sha256="54e9a6d2a4bd06ba1e060304b900abbc74cbea53de96506e60fe5bb4f2277fb6",
        licence="CC-BY-4.0",
        cite="Patel et al., Splitwise: Efficient generative LLM inference using phase "
        "splitting, ISCA 2024",
    )
