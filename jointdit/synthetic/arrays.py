"""Types of the arrays that scenes are computed with."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]  # pictures [H, W, 3] in 0..1, masks and intermediate sounds; float32 where speed matters
Picture = NDArray[np.uint8]  # [H, W, 3]
Sound = NDArray[np.float32]  # [samples] at `timeline.SAMPLE_RATE`
