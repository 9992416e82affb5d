from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contlearn.serving.http.problems import RequestProblem
from contlearn.serving.http.v2 import OutputTensor, encode_answer, parse_infer


def body(*tensors, **more):
    return json.dumps({"inputs": list(tensors), **more}).encode()


def text_tensor(**changes):
    return {"name": "text", "datatype": "BYTES", "shape": [2], "data": ["a", "b"], **changes}


def packed(*texts):
    return b"".join(struct.pack("<I", len(t.encode())) + t.encode() for t in texts)


def test_json_texts_are_read_flat_and_nested():
    for data in (["a", "b"], [["a", "b"]], [["a"], ["b"]]):
        request = parse_infer(body(text_tensor(data=data)), None)
        assert request.inputs["text"].texts == ("a", "b")


def test_binary_texts_are_read_with_their_lengths():
    data = packed("naïve", "")
    head = body(text_tensor(data=None, parameters={"binary_data_size": len(data)}))
    request = parse_infer(head + data, str(len(head)))
    assert request.inputs["text"].texts == ("naïve", "")


def test_integer_tensors_are_read_from_json_and_binary():
    tensor = {"name": "ids", "datatype": "INT32", "shape": [1, 2], "data": [7, -8]}
    assert parse_infer(body(tensor), None).inputs["ids"].values.tolist() == [[7, -8]]
    data = np.array([7, -8], dtype="<i8").tobytes()
    tensor = {"name": "ids", "datatype": "INT64", "shape": [2, 1]}
    head = body({**tensor, "parameters": {"binary_data_size": 16}})
    assert parse_infer(head + data, str(len(head))).inputs["ids"].values.tolist() == [[7], [-8]]


def test_an_empty_shape_is_one_value():
    request = parse_infer(body(text_tensor(shape=[], data=["only"])), None)
    assert request.inputs["text"].texts == ("only",)


def test_identifier_timeout_and_outputs_are_read():
    request = parse_infer(
        body(
            text_tensor(),
            id="r1",
            parameters={"timeout": 2_500_000, "binary_data_output": True},
            outputs=[{"name": "label", "parameters": {"binary_data": False}}, {"name": "scores"}],
        ),
        None,
    )
    assert (request.id, request.timeout_seconds) == ("r1", 2.5)
    assert [(o.name, o.binary) for o in request.outputs] == [("label", False), ("scores", True)]


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (b"{}", "inputs"),
        (body(), "inputs"),
        (body("x"), "inputs[0]"),
        (body(text_tensor(name="")), "inputs[0].name"),
        (body(text_tensor(name="a\x00b")), "inputs[0].name"),
        (body(text_tensor(), text_tensor()), "inputs[1]"),
        (body(text_tensor(datatype="FP32")), "inputs[0].datatype"),
        (body(text_tensor(shape=[-1])), "inputs[0].shape"),
        (body(text_tensor(shape=[2.5])), "inputs[0].shape"),
        (body(text_tensor(datatype={})), "inputs[0].datatype"),
        (body(text_tensor(datatype=None)), "inputs[0].datatype"),
        (body(text_tensor(shape=[True, 2])), "inputs[0].shape"),
        (body(text_tensor(shape=[2**40])), "inputs[0].shape"),
        (body(text_tensor(shape=[1, 1, 1, 1, 2])), "inputs[0].shape"),
        (body(text_tensor(shape=[3])), "inputs[0].data"),
        (body(text_tensor(data=None)), "inputs[0].data"),
        (body(text_tensor(data=["a", 1])), "inputs[0].data"),
        (body(text_tensor(data=["a", ["b"]])), "inputs[0].data"),
        (body(text_tensor(parameters={"shared_memory_region": "x"})), "inputs[0].parameters"),
        (
            body(text_tensor(parameters={"binary_data_size": 9})),
            "inputs[0].parameters.binary_data_size",
        ),
        (body({"name": "i", "datatype": "INT64", "shape": [1], "data": [2**63]}), None),
        (body(text_tensor(), outputs=[{}]), "outputs[0]"),
        (
            body(text_tensor(), outputs=[{"name": "a", "parameters": {"classification": -1}}]),
            "outputs[0].parameters.classification",
        ),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(data, where):
    with pytest.raises(RequestProblem) as caught:
        parse_infer(data, None)
    assert caught.value.status == 400
    if where is not None:
        assert caught.value.where == where


@given(st.binary(max_size=200), st.one_of(st.none(), st.text(max_size=8)))
def test_any_bytes_are_parsed_or_refused(data, length):
    problem = None
    try:
        parse_infer(data, length)
    except RequestProblem as caught:
        problem = caught
    assert problem is None or 400 <= problem.status < 500


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=20), max_size=8))
def test_texts_come_back_as_they_were_sent(texts):
    data = packed(*texts)
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts)]}
    head = body({**tensor, "parameters": {"binary_data_size": len(data)}})
    assert parse_infer(head + data, str(len(head))).inputs["text"].texts == tuple(texts)


def answer(request_body, **more):
    scores = np.array([[0.1, 0.7, 0.2]], dtype=np.float32)
    tensors = {
        "label": OutputTensor("label", "BYTES", (1,), ["b"]),
        "scores": OutputTensor("scores", "FP32", (1, 3), scores),
    }
    request = parse_infer(request_body, None)
    return encode_answer(
        model="m",
        version=3,
        request=request,
        tensors=tensors,
        defaults=["label", "scores"],
        labels=["a", "b", "c"],
        request_id="q",
        **more,
    )


def test_answers_are_json_unless_binary_is_asked_for():
    data, head = answer(body(text_tensor(), id="r1"))
    value = json.loads(data)
    assert head is None
    assert (value["id"], value["model_version"]) == ("r1", "3")
    assert value["outputs"][0]["data"] == ["b"]
    assert value["outputs"][1]["shape"] == [1, 3]


def test_binary_answers_follow_their_header_in_order():
    data, head = answer(body(text_tensor(), parameters={"binary_data_output": True}))
    value = json.loads(data[:head])
    sizes = [output["parameters"]["binary_data_size"] for output in value["outputs"]]
    assert data[head : head + sizes[0]] == packed("b")
    assert np.frombuffer(data[head + sizes[0] :], "<f4").tolist() == pytest.approx([0.1, 0.7, 0.2])
    assert head + sum(sizes) == len(data)


def test_the_classification_extension_gives_the_best_classes():
    wanted = [{"name": "scores", "parameters": {"classification": 2}}]
    value = json.loads(answer(body(text_tensor(), outputs=wanted))[0])
    (output,) = value["outputs"]
    assert output["data"] == ["0.700000:1:b", "0.200000:2:c"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [1, 2])


def test_an_output_that_is_not_there_is_refused_with_the_choices():
    with pytest.raises(RequestProblem, match="no output 'nothing'") as caught:
        answer(body(text_tensor(), outputs=[{"name": "nothing"}]))
    assert caught.value.hint == "It gives: label, scores."
