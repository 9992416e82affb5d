"""The built-in record parsers, registered through the hook that plugins use."""

from __future__ import annotations

from contlearn.plugins.hookspecs import hookimpl


@hookimpl
def contlearn_register_parsers() -> list[type]:
    """Give the parser classes, one a format."""
    from contlearn.data.formats.columnar import ArrowRows, ParquetRows
    from contlearn.data.formats.conll import ConllColumns
    from contlearn.data.formats.delimited import CsvRows, TsvRows
    from contlearn.data.formats.excel import ExcelRows
    from contlearn.data.formats.json_rows import JsonArray, JsonLines

    return [JsonLines, JsonArray, CsvRows, TsvRows, ParquetRows, ArrowRows, ConllColumns, ExcelRows]
