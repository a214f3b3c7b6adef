from __future__ import annotations

import pytest

from experiments.reporting.markdown import markdown_table


def test_a_table_has_a_head_a_rule_and_rows():
    text = markdown_table(["name", "value"], [["a", "1"], ["b", "2"]], align="lr")
    assert text == "| name | value |\n|---|---:|\n| a | 1 |\n| b | 2 |"


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="1 cells in a table with 2 columns"):
        markdown_table(["name", "value"], [["a"]])
