"""Ids of prompts' parts: which numbers of them are usual, and which make one doubt."""

from __future__ import annotations

import pytest

from envs.workloads.part_sizes import PART_TOKENS, PartSizes

PROMPTS = [1627, 215, 2040, 1292, 2439, 352, 6758, 512, 513, 1024, 1, 23141]


def doubt(counts: list[int], prompts: list[int] = PROMPTS) -> tuple[int, str] | None:
    sizes = PartSizes()
    for line, (tokens, ids) in enumerate(zip(prompts, counts, strict=True), start=1):
        sizes.add(line, tokens, ids)
    return sizes.doubt()


def test_an_id_for_each_part_or_for_each_full_one_is_right() -> None:
    assert doubt([-(-tokens // PART_TOKENS) for tokens in PROMPTS]) is None
    assert doubt([tokens // PART_TOKENS for tokens in PROMPTS]) is None


def test_ids_of_the_shared_beginning_only_are_right() -> None:
    assert doubt([min(-(-tokens // PART_TOKENS), 3) for tokens in PROMPTS]) is None
    assert doubt([0 for _ in PROMPTS]) is None


@pytest.mark.parametrize("size", [600, 768, 1024, 2048, 4096])
@pytest.mark.parametrize("rest", [True, False])
def test_ids_of_larger_parts_are_told(size: int, rest: bool) -> None:
    found = doubt([-(-tokens // size) if rest else tokens // size for tokens in PROMPTS])
    assert found is not None
    line, why = found
    assert PROMPTS[line - 1] > PART_TOKENS
    assert "would explain all" in why


@pytest.mark.parametrize("size", [16, 64, 256, 500])
def test_ids_of_smaller_parts_are_told(size: int) -> None:
    found = doubt([-(-tokens // size) for tokens in PROMPTS])
    assert found is not None
    assert "would explain all" in found[1]


def test_more_ids_than_parts_are_told_whatever_the_others_are() -> None:
    found = doubt([4, 2, 1], [1627, 215, 2040])
    assert found is not None
    assert found[0] == 2
    assert found[1].startswith(
        "hash_ids are 2 for a prompt of 215 tokens, which has 1 part of 512 tokens "
        "(1 requests of 3 are so)"
    )
