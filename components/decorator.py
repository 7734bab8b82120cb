"""The decorator all components share."""

import functools
import os

from kfp import dsl

from heliotrope.vocabulary import DEFAULT_IMAGE, ENV_IMAGE

# A prebuilt image that holds kfp and this package, so that a step installs nothing at run time
# and the same compiled file runs on a cluster and under kfp.local.
component = functools.partial(
    dsl.component,
    base_image=os.environ.get(ENV_IMAGE, DEFAULT_IMAGE),
    packages_to_install=[],
    install_kfp_package=False,
)
