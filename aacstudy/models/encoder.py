"""Encoders by kind: kind ``x`` is ``Encoder`` of the module ``aacstudy.models.x``, loaded when it
is asked for.
"""

from importlib import import_module

from aacstudy.models.tagger import Tagger
from aacstudy.options import EncoderOptions, FrontendOptions


def build_encoder(frontend: FrontendOptions, options: EncoderOptions, classes: int) -> Tagger:
    """A fresh encoder of `options.kind`. Raises ValueError where the front-end has too few mel bins
    for it.
    """
    # by name, so that one kind's code makes no artifact of another stale
    return import_module(f"aacstudy.models.{options.kind}").Encoder(frontend, options, classes)
