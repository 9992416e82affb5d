"""[data]: the fields of a row and the rules of intake; [data.limits]: bounds on files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from contlearn.config.base import Section
from contlearn.interfaces import FieldNames
from contlearn.types import label_name

__all__ = ["DataConfig", "LimitsConfig"]

# As rows are read: without blanks around, whatever Unicode form the editor wrote.
LabelName = Annotated[str, AfterValidator(label_name)]


class LimitsConfig(Section):
    """[data.limits]: bounds on what a file may hold."""

    line_bytes: int = Field(
        1_000_000, ge=1_000, description="Bytes of one line or one row; a longer one is refused."
    )
    text_characters: int = Field(
        20_000,
        ge=1,
        description="Characters of one text, in files, requests and suggestions; a longer one is "
        "refused.",
    )
    nesting: int = Field(
        32, ge=2, description="How deep lists and objects of a JSON row may be nested."
    )
    unpacked_bytes: int = Field(
        4_000_000_000,
        ge=1_000,
        description="Bytes that a compressed file may hold unpacked; a larger one is refused "
        "whole.",
    )
    unpacked_ratio: float = Field(
        2_000.0,
        ge=2.0,
        description="How many times its size a compressed file may grow when it is unpacked.",
    )
    rows: int = Field(
        20_000_000, ge=1, description="Rows of one file; a longer one is refused whole."
    )
    words: int = Field(
        5_000, ge=1, description="Words of one row of entities; a longer one is refused."
    )
    labels: int = Field(
        10_000,
        ge=2,
        description="Labels that a workspace may have; rows with further ones are refused.",
    )


class DataConfig(Section):
    """[data]: the fields of a row and the rules of intake."""

    text: str = Field("text", description="The field of a row that holds the text.")
    label: str = Field("label", description="The field of a row that holds the class.")
    tokens: str = Field(
        "tokens", description="The field of a row that holds the words, as a list; for entities."
    )
    tags: str = Field(
        "tags", description="The field of a row that holds one BIO tag for each word; for entities."
    )
    columns: tuple[str, ...] = Field(
        (), description="The names of the columns, in order, of CSV files that have no header."
    )
    group: str = Field(
        "",
        description="The field with a customer, document or the like, whose rows are never both "
        "learnt and measured on; empty: each text stands for itself.",
    )
    weight: str = Field(
        "", description="The field with a row's weight in training, above 0; empty: all weigh 1."
    )
    timestamp: str = Field(
        "", description="The field with a row's time, ISO 8601 or seconds since 1970; kept with it."
    )
    annotator: str = Field(
        "", description="The field with who labelled a row; kept with it, to look at."
    )
    labels: tuple[LabelName, ...] = Field(
        (),
        description="The labels that there are; one that is not among them is refused, unless "
        "`allow_new_labels` is set. Empty: any label may come.",
    )
    allow_new_labels: bool = Field(
        False, description="Whether labels outside `labels` may come all the same."
    )
    label_aliases: Mapping[LabelName, LabelName] = Field(
        {}, description="Other names of labels, each with the label that is meant."
    )
    label_descriptions: Mapping[LabelName, str] = Field(
        {}, description="What each label means, for people who label and for `data labels`."
    )
    near_labels: Literal["quarantine", "warn"] = Field(
        "quarantine",
        description="What becomes of a row whose new label is one slip away from a label with many "
        "rows: `quarantine` refuses it until `data quarantine --accept` lets it in, `warn` takes "
        "it and says so.",
    )
    unlabelled: str = Field(
        "unlabelled",
        description="The folder in the workspace with texts without labels, for the regulariser "
        "`masked-words`.",
    )
    on_conflict: Literal["quarantine", "newest", "all"] = Field(
        "quarantine",
        description="What happens when a text comes with another label than before: `quarantine` "
        "uses neither row, `newest` lets the later label win, `all` keeps both.",
    )
    held_out_ratio: float = Field(
        0.1,
        gt=0.0,
        lt=1.0,
        description="The share of rows, 0 to 1, kept for measuring alone.",
    )
    held_out_files: tuple[str, ...] = Field(
        (), description='Names of files, such as "test-*.jsonl", whose rows are only measured on.'
    )
    slices: tuple[str, ...] = Field(
        (),
        description="Fields of rows by whose values held-out rows are also looked at apart, beside "
        "length, script, source and group.",
    )
    split_seed: int = Field(
        17,
        ge=0,
        lt=2**63,
        description="Decides which rows are held out; changed, it holds for rows to come.",
    )
    near_duplicates: bool = Field(
        True,
        description="Whether texts that are almost alike stay on one side of the split; slows "
        "intake down.",
    )
    near_duplicate_similarity: float = Field(
        0.8,
        gt=0.5,
        lt=1.0,
        description="The share of pieces of four characters, 0.5 to 1, from which on two texts "
        "are almost alike.",
    )
    near_duplicate_reserve: int = Field(
        50_000,
        ge=0,
        description="How many held-out texts of earlier files are remembered to be compared with "
        "new ones.",
    )
    rest_seconds: float = Field(
        2.0,
        ge=0.0,
        description="Seconds for which a file in the inbox must not have changed before it is "
        "taken.",
    )
    limits: LimitsConfig = LimitsConfig()

    def field_names(self) -> FieldNames:
        """Give the names of the fields as tasks want them."""
        return FieldNames(text=self.text, label=self.label, tokens=self.tokens, tags=self.tags)
