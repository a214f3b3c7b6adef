"""Measures power and step times of one GPU under a real vLLM server, and changes nothing on it.

Reads NVML and sends requests; it never sets a power cap, a clock or any other mode of the GPU.
Needs Python, ``aiohttp`` and ``nvidia-ml-py``, so it runs in an environment made for vLLM.
``recipe.sh`` beside this file starts the servers and does everything within ten minutes.
"""
