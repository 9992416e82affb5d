"""The built-in exporter, registered through the hook that plugins use."""

from __future__ import annotations

from contlearn.plugins.hookspecs import hookimpl


@hookimpl
def contlearn_register_exporters() -> list[type]:
    """Give the exporter classes."""
    from contlearn.export.onnx import OnnxExporter

    return [OnnxExporter]
