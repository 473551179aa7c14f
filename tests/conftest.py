"""Settings of all tests: hypothesis draws the same examples every time, torch keeps to one core, no run goes to the reader's place."""

import os

import torch
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None, database=None, max_examples=60)
settings.load_profile("repeatable")
torch.set_num_threads(1)
os.environ.pop("DEEPDEFENSE_RUNS", None)
