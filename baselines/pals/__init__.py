"""The PALS controller of arXiv:2605.21427: offline model plus online feedback."""
