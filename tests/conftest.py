"""What every test stands on: the CPU, four devices to shard over, and shapes checked at run time."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# With as many threads as cores, devices that wait for one another in a collective could leave none to the rest.
os.environ.setdefault("PJRT_NPROC", "16")

import jax
from jaxtyping import install_import_hook

# Set through the configuration and not XLA_FLAGS, so that programs started by a test see one device, as users do.
jax.config.update("jax_num_cpu_devices", 4)

install_import_hook(["tvt_jax", "convert"], "beartype.beartype")
