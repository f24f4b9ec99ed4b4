"""A picture in, a sounding clip out: the only package that composes the others."""

from .pipeline import Conditions as Conditions
from .pipeline import Defaults as Defaults
from .pipeline import JointDiTPipeline as JointDiTPipeline
