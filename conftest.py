"""The gate's plugin, where the package is run from its source tree and not installed (a bare GPU runner)."""

from importlib.metadata import entry_points

if not any(entry.name == "gdn-verify" for entry in entry_points(group="pytest11")):
    pytest_plugins = ["gdn_verify.pytest_plugin"]
