"""Names of what lies in the folder of a run."""

STATE = "state.safetensors"
BLOCKS = "joint_blocks.safetensors"
BEST = "best_joint_blocks.safetensors"
MODEL = "model"
ADAPTERS = "adapters"
LOG = "log.jsonl"
