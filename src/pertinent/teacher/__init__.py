"""The teacher: (query, item text) -> calibrated grade probabilities, learned from human judgments."""

import logging

# Where bitsandbytes is installed, peft imports it, and it warns on a CPU of a kernel that another package would bring.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
