"""Which columns of a CoNLL file are words and tags: by the file's own layout."""

from __future__ import annotations

import pytest

from contlearn.config import LimitsConfig
from contlearn.data.formats.reading import find_parser
from contlearn.errors import RecordError
from contlearn.plugins.manager import PluginManager


def read(tmp_path, text, columns=()):
    path = tmp_path / "rows.conll"
    path.write_text(text, encoding="utf-8")
    parser = find_parser(PluginManager(discover=False), path.name, columns=columns)
    return list(parser.rows(path, LimitsConfig(), ("tokens", "tags")))


def sentences(rows):
    return [(row.row["tokens"], row.row["tags"]) for row in rows if row.row is not None]


def said(rows):
    return [message for row in rows for code, message in row.warnings if code == "conll-columns"]


GERMEVAL = (
    "#\thttp://example.org/wiki [2009-10-17]\n"
    "1\tLena\tB-PER\tO\n2\tsings\tO\tO\n\n"
    "#\thttp://example.org/wiki [2009-10-18]\n"
    "1\tThe\tB-ORG\tO\n2\tUlm\tI-ORG\tB-LOC\n3\tChoir\tI-ORG\tO\n"
)


def test_index_column_is_left_out_and_the_outer_tags_are_taken(tmp_path):
    rows = read(tmp_path, GERMEVAL)
    assert sentences(rows) == [
        (["Lena", "sings"], ["B-PER", "O"]),
        (["The", "Ulm", "Choir"], ["B-ORG", "I-ORG", "I-ORG"]),
    ]
    index, tags = said(rows)
    assert "Column 1 counts the words" in index
    assert "column 3 of 4; column 4 holds tags too" in tags


@pytest.mark.parametrize(
    "text",
    [
        "0 Lena NNP B-PER\n1 sings VBZ O\n\n0 Ulm NNP B-LOC\n",
        "1\tLena\tB-PER\n2\tsings\tO\n\n3\tUlm\tB-LOC\n",
        "1 Lena B-PER\n2 sings O\n\n1 Ulm B-LOC\n",
        (
            "# sent_id = a\n# text = Lena sings O\n1\tLena\tB-PER\t-\t-\n2\tsings\tO\t-\t-\n\n"
            "# sent_id = b\n1\tUlm\tB-LOC\t-\tmarc\n"
        ),
        "1\t-DOCSTART-\tO\n\n1\tLena\tB-PER\n2\tsings\tO\n\n1\tUlm\tB-LOC\n",
    ],
)
def test_index_is_found_from_zero_or_one_in_each_sentence_or_on_through_the_file(tmp_path, text):
    assert sentences(read(tmp_path, text)) == [
        (["Lena", "sings"], ["B-PER", "O"]),
        (["Ulm"], ["B-LOC"]),
    ]


def test_words_that_are_numbers_are_no_index(tmp_path):
    two = "1 B-rank\n2 O\n\n1 O\n"
    assert sentences(read(tmp_path, two)) == [(["1", "2"], ["B-rank", "O"]), (["1"], ["O"])]
    four = "1 CD B-NP O\nMay NNP I-NP B-day\n\nRome NNP B-NP B-place\n"
    assert sentences(read(tmp_path, four))[0] == (["1", "May"], ["O", "B-day"])


def test_conll_2003_takes_the_entities_and_not_the_chunks(tmp_path):
    text = "-DOCSTART- -X- -X- O\n\nUlm NNP B-NP B-LOC\nwins VBZ B-VP O\n"
    rows = read(tmp_path, text)
    assert sentences(rows) == [(["Ulm", "wins"], ["B-LOC", "O"])]
    assert said(rows) == []


def test_several_tag_columns_without_an_index_take_the_last_and_say_so(tmp_path):
    rows = read(tmp_path, "Ulm B-LOC B-CITY\nwins O O\n")
    assert sentences(rows) == [(["Ulm", "wins"], ["B-CITY", "O"])]
    assert said(rows) == ["The tags are taken from column 3 of 3; column 2 holds tags too."]


def test_sentence_that_does_not_count_is_refused_where_others_do(tmp_path):
    rows = read(tmp_path, GERMEVAL + "\nA\tman\tO\tO\nB\tsings\tO\tO\n\n1\tUlm\tB-LOC\n")
    assert len(sentences(rows)) == 2
    assert [row.problem.reason for row in rows if row.problem] == ["bad-columns", "bad-columns"]
    assert "the first column counts the words" in rows[2].problem.message


def test_damaged_line_does_not_turn_the_numbers_into_words(tmp_path):
    rows = read(tmp_path, "1\tUlm\n\n" + GERMEVAL)
    assert [words for words, _ in sentences(rows)] == [["Lena", "sings"], ["The", "Ulm", "Choir"]]


def test_conll_u_without_entities_is_refused_in_its_own_words(tmp_path):
    text = "# text = dogs\n1\tdogs\tdog\tNOUN\tNNS\t_\t0\troot\t_\t_\n"
    with pytest.raises(RecordError, match="CoNLL-U: none of its ten columns holds BIO tags"):
        read(tmp_path, text)


def test_conll_u_with_tags_reads_words_and_leaves_ranges_out(tmp_path):
    line = "{}\t{}\t_\t_\t_\t_\t_\t_\t_\t{}\n"
    cells = [("1-2", "zum", "O"), ("1", "zu", "O"), ("2", "Rhein", "B-LOC"), ("2.1", "e", "O")]
    rows = read(tmp_path, "".join(line.format(*cell) for cell in cells))
    assert sentences(rows) == [(["zu", "Rhein"], ["O", "B-LOC"])]


def test_columns_of_the_configuration_decide(tmp_path):
    rows = read(tmp_path, GERMEVAL, columns=("id", "tokens", "outer", "tags"))
    assert sentences(rows)[1] == (["The", "Ulm", "Choir"], ["O", "B-LOC", "O"])
    assert said(rows) == []
