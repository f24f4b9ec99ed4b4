"""A picture in, a sounding clip out: the only package that composes the others."""

from .. import libraries  # noqa: F401, before what imports diffusers
from .encode import Conditions as Conditions
from .encode import Generators as Generators
from .encode import Picture as Picture
from .pieces import GivenVideo as GivenVideo
from .pieces import LongClip as LongClip
from .pipeline import Callback as Callback
from .pipeline import JointDiTPipeline as JointDiTPipeline
from .settings import Defaults as Defaults
from .settings import SamplingSettings as SamplingSettings
