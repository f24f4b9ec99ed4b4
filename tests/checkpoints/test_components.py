"""The one table of components: it agrees with the classes that it names and with the pipeline that is made of them."""

from __future__ import annotations

import inspect

import pytest
from torch import nn

from jointdit import JointDiTPipeline
from jointdit.checkpoints.components import COMPONENTS, OPTIONAL, TEXT_ENCODERS


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_component_has_weights_if_its_classes_are_torch_modules(name):
    component = COMPONENTS[name]
    for published in component.names:
        cls = component.load_class(published)
        assert issubclass(cls, nn.Module) == component.is_module == (component.weights is not None)
        assert cls.__name__.startswith(published) and cls.__module__.split(".")[0] == component.library


def test_the_pipeline_takes_exactly_these_components():
    parameters = dict(inspect.signature(JointDiTPipeline.__init__).parameters)
    del parameters["self"], parameters["defaults"]
    assert set(parameters) == set(COMPONENTS)
    assert {name for name, each in parameters.items() if each.default is None} == set(OPTIONAL)
    assert set(JointDiTPipeline._optional_components) == set(OPTIONAL)


def test_the_text_encoders_are_audioldm2s():
    assert TEXT_ENCODERS == ("text_encoder", "text_encoder_2", "projection_model", "language_model")
